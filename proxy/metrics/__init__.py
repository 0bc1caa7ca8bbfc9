"""What Prometheus reads. Counting, on the line, adds to plain numbers; the sidecar's state is read when scraped."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from time import time
from typing import TYPE_CHECKING, Protocol

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from policy.decide import STATUS
from proxy.ledger.port import Action, Health
from proxy.metrics.families import families
from proxy.metrics.histogram import Histogram
from proxy.metrics.labels import REJECTED, REPORTED

if TYPE_CHECKING:
    from proxy.state import Sidecar

_ADDED_S = (0.00025, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_UPSTREAM_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_HEAD_S = 3600.0
_END = b"# EOF\n"


class Undelivered(Protocol):
    """An alert that a webhook has not taken; ``next_at`` None: it is tried no more."""

    @property
    def next_at(self) -> int | None: ...


class Metrics:
    """One sidecar's counters. ``undelivered`` answers the alerts that no webhook has taken yet."""

    def __init__(self, undelivered: Callable[[], Sequence[Undelivered]] = tuple) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()  # (upstream, outcome)
        self.denials: Counter[str] = Counter(dict.fromkeys(STATUS, 0))
        self.rejected: Counter[str] = Counter(dict.fromkeys(REJECTED, 0))
        self.spend_nano = 0
        self.overruns = 0
        self.unconfirmed = 0
        self.unrecorded_calls = 0
        self.unrecorded_nano = 0
        self.adjusted_nano = 0
        self.open_streams = 0  # answers that are being passed on
        self.added_latency = Histogram(_ADDED_S)
        self.upstream_latency: dict[str, Histogram] = {}
        self.deliveries: Counter[tuple[str, str]] = Counter()  # tries: (webhook, "delivered" or "failed")
        self.undelivered = undelivered
        self.process = ProcessCollector(registry=None)
        self._head = ("", 0.0)

    def refused(self, code: str, upstream: str | None = None) -> None:
        """A request that was refused: by a reason of the decision table, or with what was wrong with it.

        ``upstream`` where it was a call.
        """
        if code not in STATUS:
            self.rejected[code] += 1
            return
        self.denials[code] += 1
        if upstream is not None:
            self.calls[upstream, "denied"] += 1

    def ended(self, action: Action) -> None:
        """A proxied call that was settled, voided or expired."""
        self._count(action, action.upstream)
        self.overruns += action.reserved is not None and action.cost > action.reserved
        self.unconfirmed += action.unconfirmed

    def timed(self, upstream: str, received: float, sent: float, answered: float, written: float) -> None:
        """A call whose upstream answered. Seconds of one clock, when: the request was there, as far as it is waited
        for; it was handed on; the answer's head came; the answer's first byte was written (0: none was).
        """
        timed = self.upstream_latency.get(upstream)
        if timed is None:
            timed = self.upstream_latency[upstream] = Histogram(_UPSTREAM_S)
        timed.observe(answered - sent)
        if written:
            self.added_latency.observe(sent - received + written - answered)

    def reported(self, action: Action) -> None:
        """A self-reported action that was recorded."""
        self._count(action, REPORTED)

    def unrecorded(self, cost: int) -> None:
        """A proxied call that passed while the ledger could not record, and what it cost (nano-dollars)."""
        self.unrecorded_calls += 1
        self.unrecorded_nano += cost

    def adjusted(self, action: Action) -> None:
        """An adjustment; apart from what calls cost, which only grows."""
        self.adjusted_nano += action.cost

    def head(self, health: Health) -> str:
        """A hash of the journal's of the last hour. As a label, the latest would be another series at each scrape."""
        now = time()
        if now - self._head[1] >= _HEAD_S:
            self._head = (health.head, now)
        return self._head[0]

    async def render(self, sidecar: Sidecar, accept: str = "") -> tuple[bytes, str]:
        """All of it, as it now is, and its content type: OpenMetrics where that is accepted, else Prometheus' text.

        Other calls go on between one metric and the next.
        """
        encode, content_type = _encoder(accept)
        pieces = []
        for family in families(self, sidecar):
            pieces.append(encode(_One(family)).removesuffix(_END))
            await asyncio.sleep(0)
        if content_type.startswith("application/openmetrics-text"):
            pieces.append(_END)
        return b"".join(pieces), content_type

    def _count(self, action: Action, upstream: str) -> None:
        self.calls[upstream, action.outcome] += 1
        self.spend_nano += action.cost


class _One(Collector):
    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is none
        return generate_latest, CONTENT_TYPE_PLAIN_0_0_4
