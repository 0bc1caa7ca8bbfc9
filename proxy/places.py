"""Places among the calls in flight to an upstream: one that is slow or dead fills its own, and starves no other.

They are taken before a call is authorized: what is refused here reserves nothing, makes no row, and sends no byte.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from math import ceil
from time import monotonic, time

from policy.model import Upstream
from proxy.breaker import FAILURES_MAX, OPEN_MIN_S, Breaker
from proxy.denials import Refused, iso
from proxy.forward import Forwarder, ForwardError, UpstreamAnswer
from proxy.headers import Headers

log = logging.getLogger("agent_ledger")


@dataclass(slots=True)
class Traffic:
    """To an upstream, for as long as its name and url stay the same. An answer that is drained is in flight too."""

    upstream: Upstream
    in_flight: int = 0
    breaker: Breaker = field(default_factory=Breaker)


class Place:
    """One call's, had from when its block is entered until it is left. Its request is sent by it, for what becomes of
    that tells of the upstream. ``sent_at`` and ``answered_at`` are when, by the places' clock.
    """

    __slots__ = ("_breaker", "_places", "_traffic", "_upstream", "answered_at", "sent_at")

    def __init__(self, places: Places, upstream: Upstream, traffic: Traffic) -> None:
        self._places = places
        self._upstream = upstream
        self._traffic = traffic
        self._breaker = traffic.breaker if upstream.circuit_breaker else Breaker()  # one call opens none
        self.sent_at = self.answered_at = 0.0

    async def __aenter__(self) -> Place:
        """Raises Refused (503) where there is none."""
        breaker, now = self._breaker, self._places.clock()
        if breaker.open_s and (wait := ceil(breaker.wait_s(now))):
            raise _unavailable(self._upstream, now - breaker.failing_since, wait)
        if self._traffic.in_flight >= self._upstream.max_in_flight:
            raise _busy(self._upstream)
        breaker.begin(self, now)
        self._traffic.in_flight += 1
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._traffic.in_flight -= 1
        self._breaker.left(self, self._places.clock())
        if not self._traffic.in_flight:
            await self._places.drop_idle(_key(self._upstream))

    async def send(
        self, method: str, target: bytes, headers: Headers, body: bytes | AsyncIterator[bytes]
    ) -> UpstreamAnswer:
        """As `Forwarder.send`."""
        upstream, breaker, clock = self._upstream, self._breaker, self._places.clock
        self.sent_at = begun = clock()
        try:
            answer = await self._places.forwarder.send(upstream, method, target, headers, body)
        except ForwardError as error:
            if error.of_upstream and breaker.failed(self, begun, clock()):
                text = "no answer to %d calls in a row; no more are sent for %d s, and then one to try it: %s"
                log.warning(text, FAILURES_MAX, OPEN_MIN_S, error)
            raise
        self.answered_at = clock()
        if breaker.answered(self.answered_at):
            log.info("the upstream %s answers again", upstream.name)
        return answer


class Places:
    """``upstreams`` are the policy's, until `keep` says others. ``clock`` is in seconds, and never goes back."""

    def __init__(
        self, forwarder: Forwarder, upstreams: Iterable[Upstream] = (), clock: Callable[[], float] = monotonic
    ) -> None:
        self.forwarder = forwarder
        self.clock = clock
        self._named = {_key(upstream): upstream for upstream in upstreams}
        self._traffic: dict[tuple[str, str], Traffic] = {}

    def take(self, upstream: Upstream) -> Place:
        """A place, for a block: entering it raises Refused (503) where there is none."""
        key = _key(upstream)
        return Place(self, upstream, self._traffic.get(key) or self._traffic.setdefault(key, Traffic(upstream)))

    async def keep(self, upstreams: Iterable[Upstream]) -> None:
        """Those of the policy that is now in force; what there is of others goes with their last call in flight."""
        self._named = {_key(upstream): upstream for upstream in upstreams}
        await self.drop_idle(*self._traffic)

    def standings(self) -> Iterator[tuple[str, int, bool]]:
        """(name, calls in flight, whether its circuit is open) of each upstream of the policy."""
        in_flight: Counter[str] = Counter()
        for traffic in self._traffic.values():
            in_flight[traffic.upstream.name] += traffic.in_flight
        for key, upstream in self._named.items():
            is_open = upstream.circuit_breaker and key in self._traffic and self._traffic[key].breaker.open_s > 0
            yield upstream.name, in_flight[upstream.name], is_open

    async def drop_idle(self, *keys: tuple[str, str]) -> None:
        """Forget what the policy no longer names and no call needs."""
        for key in keys:
            if key not in self._named and key in self._traffic and not self._traffic[key].in_flight:
                await self.forwarder.forget(self._traffic.pop(key).upstream)


def _key(upstream: Upstream) -> tuple[str, str]:
    return upstream.name, upstream.url


def _unavailable(upstream: Upstream, failing_s: float, wait_s: int) -> Refused:
    since = iso(int((time() - failing_s) * 1000))
    message = f"Agent Ledger: the upstream {upstream.name} has not answered since {since}; try again in {wait_s} s."
    return Refused(503, "upstream_unavailable", message, retry_after_s=wait_s)


def _busy(upstream: Upstream) -> Refused:
    message = (
        f"Agent Ledger: {upstream.max_in_flight} calls are in flight to the upstream {upstream.name}, as many as may "
        "be; try again in a moment."
    )
    return Refused(503, "upstream_busy", message, retry_after_s=1)
