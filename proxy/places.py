"""Places among the calls in flight to an upstream: one that is slow or dead fills its own, and starves no other.

They are taken before a call is authorized: what is refused here reserves nothing, makes no row, and sends no byte.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
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
    """One call's. Its request is sent by it, for what becomes of that tells of the upstream."""

    def __init__(self, forwarder: Forwarder, upstream: Upstream, breaker: Breaker, clock: Callable[[], float]) -> None:
        self._forwarder = forwarder
        self._upstream = upstream
        self._breaker = breaker
        self._clock = clock

    async def send(
        self, method: str, target: bytes, headers: Headers, body: bytes | AsyncIterator[bytes]
    ) -> UpstreamAnswer:
        """As `Forwarder.send`."""
        begun = self._clock()
        try:
            answer = await self._forwarder.send(self._upstream, method, target, headers, body)
        except ForwardError as error:
            if error.of_upstream and self._breaker.failed(self, begun, self._clock()):
                text = "no answer to %d calls in a row; no more are sent for %d s, and then one to try it: %s"
                log.warning(text, FAILURES_MAX, OPEN_MIN_S, error)
            raise
        if self._breaker.answered(self._clock()):
            log.info("the upstream %s answers again", self._upstream.name)
        return answer


class Places:
    """``upstreams`` are the policy's, until `keep` says others. ``clock`` is in seconds, and never goes back."""

    def __init__(
        self, forwarder: Forwarder, upstreams: Iterable[Upstream] = (), clock: Callable[[], float] = monotonic
    ) -> None:
        self._forwarder = forwarder
        self._clock = clock
        self._named = {_key(upstream): upstream for upstream in upstreams}
        self._traffic: dict[tuple[str, str], Traffic] = {}

    @asynccontextmanager
    async def take(self, upstream: Upstream) -> AsyncIterator[Place]:
        """A place, given back when the block is left. Raises Refused (503) where there is none."""
        key = _key(upstream)
        traffic = self._traffic.get(key) or self._traffic.setdefault(key, Traffic(upstream))
        breaker = traffic.breaker if upstream.circuit_breaker else Breaker()  # one call opens none
        now = self._clock()
        if wait := ceil(breaker.wait_s(now)):
            raise _unavailable(upstream, now - breaker.failing_since, wait)
        if traffic.in_flight >= upstream.max_in_flight:
            raise _busy(upstream)
        place = Place(self._forwarder, upstream, breaker, self._clock)
        breaker.begin(place, now)
        traffic.in_flight += 1
        try:
            yield place
        finally:
            traffic.in_flight -= 1
            breaker.left(place, self._clock())
            await self._drop_idle(key)

    async def keep(self, upstreams: Iterable[Upstream]) -> None:
        """Those of the policy that is now in force; what there is of others goes with their last call in flight."""
        self._named = {_key(upstream): upstream for upstream in upstreams}
        await self._drop_idle(*self._traffic)

    def standings(self) -> Iterator[tuple[str, int, bool]]:
        """(name, calls in flight, whether its circuit is open) of each upstream of the policy."""
        in_flight: Counter[str] = Counter()
        for traffic in self._traffic.values():
            in_flight[traffic.upstream.name] += traffic.in_flight
        for key, upstream in self._named.items():
            is_open = upstream.circuit_breaker and key in self._traffic and self._traffic[key].breaker.open_s > 0
            yield upstream.name, in_flight[upstream.name], is_open

    async def _drop_idle(self, *keys: tuple[str, str]) -> None:
        for key in keys:
            if key not in self._named and key in self._traffic and not self._traffic[key].in_flight:
                await self._forwarder.forget(self._traffic.pop(key).upstream)


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
