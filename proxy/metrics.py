"""What Prometheus reads. Counting, on the line, adds to plain integers; the sidecar's state is read when scraped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from policy.decide import STATUS
from policy.money import NANO
from proxy.ledger.port import Action

if TYPE_CHECKING:
    from proxy.state import Sidecar

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# An agent chooses the targets it reports: as labels they would be without bound.
REPORTED = "(reported)"


class Metrics:
    """One sidecar's counters."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()  # (upstream, outcome)
        self.denials: Counter[str] = Counter(dict.fromkeys(STATUS, 0))
        self.rejected: Counter[str] = Counter()
        self.spend_nano = 0
        self.overruns = 0
        self.unconfirmed = 0
        self.unrecorded_calls = 0
        self.unrecorded_nano = 0
        self.adjusted_nano = 0
        self.open_streams = 0  # answers that are being passed on

    def refused(self, code: str) -> None:
        """A request that was refused: by a reason of the decision table, or with what was wrong with it."""
        (self.denials if code in STATUS else self.rejected)[code] += 1

    def ended(self, action: Action) -> None:
        """A proxied call that was settled, voided or expired."""
        self._count(action, action.upstream)
        self.overruns += action.reserved is not None and action.cost > action.reserved
        self.unconfirmed += action.unconfirmed

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

    def render(self, sidecar: Sidecar) -> bytes:
        """All of it, as it now is, in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(_Scrape(self, sidecar))
        return generate_latest(registry)

    def _count(self, action: Action, upstream: str) -> None:
        self.calls[upstream, action.outcome] += 1
        self.spend_nano += action.cost


class _Scrape(Collector):
    def __init__(self, metrics: Metrics, sidecar: Sidecar) -> None:
        self._metrics = metrics
        self._sidecar = sidecar

    def collect(self) -> Iterator[Metric]:
        for metric in (*self._counters(), *self._state()):
            metric.name = f"agent_ledger_{metric.name}"
            metric.samples = [sample._replace(name=f"agent_ledger_{sample.name}") for sample in metric.samples]
            yield metric

    def _counters(self) -> Iterator[Metric]:
        metrics = self._metrics
        calls = CounterMetricFamily("calls", "Calls that ended.", labels=["upstream", "outcome"])
        for (upstream, outcome), count in metrics.calls.items():
            calls.add_metric([upstream, outcome], count)
        yield calls
        denials = CounterMetricFamily("denials", "Calls denied, by reason.", labels=["reason"])
        for reason, count in metrics.denials.items():
            denials.add_metric([reason], count)
        yield denials
        rejected = CounterMetricFamily(
            "rejected_requests", "Requests refused before they were decided on.", labels=["code"]
        )
        for code, count in (metrics.rejected + self._sidecar.load.refused).items():
            rejected.add_metric([code], count)
        yield rejected
        yield CounterMetricFamily("spend_usd", "USD charged.", metrics.spend_nano / NANO)
        yield CounterMetricFamily("overruns", "Charges above their reservation.", metrics.overruns)
        yield CounterMetricFamily("unconfirmed", "Charges that no usage confirmed.", metrics.unconfirmed)
        yield CounterMetricFamily("unrecorded_calls", "Calls let through unrecorded.", metrics.unrecorded_calls)
        yield CounterMetricFamily("unrecorded_usd", "USD that they cost.", metrics.unrecorded_nano / NANO)
        yield GaugeMetricFamily(
            "adjusted_usd", "USD that adjustments added, less their credits.", metrics.adjusted_nano / NANO
        )
        yield GaugeMetricFamily("open_streams", "Answers being streamed.", metrics.open_streams)

    def _state(self) -> Iterator[Metric]:
        ledger, policy_file, load = self._sidecar.ledger, self._sidecar.policy_file, self._sidecar.load
        yield GaugeMetricFamily("connections", "Clients' connections that are open.", load.connections)
        yield CounterMetricFamily("connections_shed", "Connections over the bound, closed unserved.", load.shed)
        dropped = self._sidecar.calls.dropped if self._sidecar.calls is not None else 0
        yield CounterMetricFamily("log_lines_dropped", "Lines of calls that the log did not take.", dropped)
        yield GaugeMetricFamily("buffered_bytes", "Memory held for bodies of requests.", load.buffered)
        health = ledger.health()
        in_flight = GaugeMetricFamily("upstream_in_flight", "Calls in flight.", labels=["upstream"])
        opened = GaugeMetricFamily("upstream_open", "1 while its circuit breaker is open.", labels=["upstream"])
        for upstream, calls, is_open in self._sidecar.places.standings():
            in_flight.add_metric([upstream], calls)
            opened.add_metric([upstream], int(is_open))
        yield from (in_flight, opened)
        reserved = sum(reservation.reserved for reservation in ledger.reservations())
        yield GaugeMetricFamily("reserved_usd", "USD held for calls in flight.", reserved / NANO)
        yield GaugeMetricFamily("ledger_ok", "1 while the ledger can record.", int(health.ok))
        yield GaugeMetricFamily("journal_sequence", "Entries in the journal.", health.sequence)
        yield InfoMetricFamily("journal", "The journal's latest hash.", {"head": health.head})
        yield InfoMetricFamily("policy", "The policy in force.", {"hash": policy_file.rules.policy.hash})
        yield CounterMetricFamily("policy_reload_failures", "Reloads that were refused.", policy_file.reloads_failed)
