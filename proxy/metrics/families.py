"""Every metric, by name: from the counters of the line, and from the sidecar's state at the moment of a scrape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from platform import python_version
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from policy.money import NANO
from proxy.metrics.budgets import budget_families
from proxy.metrics.labels import OUTCOMES, REPORTED

if TYPE_CHECKING:
    from proxy.metrics import Metrics
    from proxy.state import Sidecar

PREFIX = "agent_ledger_"


def families(metrics: Metrics, sidecar: Sidecar) -> Iterator[Metric]:
    """One after the other: what is read for one is not read before it is its turn."""
    yield from _calls(metrics, sidecar)
    yield from _money(metrics, sidecar)
    yield from _latencies(metrics)
    yield from _server(metrics, sidecar)
    yield from _upstreams(sidecar)
    yield from _ledger(metrics, sidecar)
    yield from _policy(sidecar)
    yield from _alerts(metrics, sidecar)
    yield from budget_families(sidecar)
    yield _info("build", "What runs.", _build())
    yield from metrics.process.collect()


def _calls(metrics: Metrics, sidecar: Sidecar) -> Iterator[Metric]:
    upstreams = (*sidecar.policy_file.rules.policy.upstreams, REPORTED)
    counts = dict.fromkeys([(upstream, outcome) for upstream in upstreams for outcome in OUTCOMES], 0) | metrics.calls
    calls = CounterMetricFamily(f"{PREFIX}calls", "Calls that ended or were denied.", labels=["upstream", "outcome"])
    for labels, count in counts.items():
        calls.add_metric(labels, count)
    yield calls
    yield _counted("denials", "Calls denied, by the decision's reason.", "reason", metrics.denials)
    rejected = dict(metrics.rejected)
    for code, count in sidecar.load.refused.items():
        rejected[code] = rejected.get(code, 0) + count
    yield _counted("rejected_requests", "Requests refused for what is no decision, by code.", "code", rejected)


def _money(metrics: Metrics, sidecar: Sidecar) -> Iterator[Metric]:
    yield _counter("spend_usd", "USD charged.", metrics.spend_nano / NANO)
    yield _counter("overruns", "Charges above their reservation.", metrics.overruns)
    yield _counter("unconfirmed", "Charges that no usage confirmed.", metrics.unconfirmed)
    yield _counter("unrecorded_calls", "Calls let through unrecorded.", metrics.unrecorded_calls)
    yield _counter("unrecorded_usd", "USD that they cost.", metrics.unrecorded_nano / NANO)
    adjusted = metrics.adjusted_nano / NANO
    yield _gauge("adjusted_usd", "USD that adjustments added, less their credits, since the start.", adjusted)
    reserved = sum(reservation.reserved for reservation in sidecar.ledger.reservations())
    yield _gauge("reserved_usd", "USD held for calls in flight.", reserved / NANO)


def _latencies(metrics: Metrics) -> Iterator[Metric]:
    added = HistogramMetricFamily(
        f"{PREFIX}added_latency_seconds",
        "What the sidecar adds to an answered call: from the request (its head; all of it where a price reads the body)"
        " until it is handed on, and from the head of the upstream's answer until the first byte to the client.",
    )
    added.add_metric([], metrics.added_latency.buckets(), metrics.added_latency.sum)
    yield added
    upstream = HistogramMetricFamily(
        f"{PREFIX}upstream_latency_seconds",
        "From a request handed on, connecting included, until the head of the upstream's answer.",
        labels=["upstream"],
    )
    for name, timed in metrics.upstream_latency.items():
        upstream.add_metric([name], timed.buckets(), timed.sum)
    yield upstream


def _server(metrics: Metrics, sidecar: Sidecar) -> Iterator[Metric]:
    load, log = sidecar.load, sidecar.calls
    yield _gauge("open_streams", "Answers being passed on.", metrics.open_streams)
    yield _gauge("connections", "Clients' connections that are open.", load.connections)
    yield _counter("connections_shed", "Connections over the bound, closed unserved.", load.shed)
    yield _gauge("buffered_bytes", "Memory held for bodies of requests.", load.buffered)
    dropped = log.dropped if log is not None else 0
    yield _counter("log_lines_dropped", "Lines of calls that the log did not take.", dropped)


def _upstreams(sidecar: Sidecar) -> Iterator[Metric]:
    in_flight = GaugeMetricFamily(f"{PREFIX}upstream_in_flight", "Calls in flight.", labels=["upstream"])
    opened = GaugeMetricFamily(
        f"{PREFIX}upstream_open", "1 while its circuit breaker is open, or tries.", labels=["upstream"]
    )
    for upstream, calls, is_open in sidecar.places.standings():
        in_flight.add_metric([upstream], calls)
        opened.add_metric([upstream], int(is_open))
    yield from (in_flight, opened)


def _ledger(metrics: Metrics, sidecar: Sidecar) -> Iterator[Metric]:
    health = sidecar.ledger.health()
    yield _gauge("ledger_ok", "1 while the ledger can record.", int(health.ok))
    yield _gauge("journal_sequence", "Entries in the journal.", health.sequence)
    yield _gauge("journal_unsynced_entries", "Entries that are not known to be on disk yet.", health.unsynced)
    unsynced_s = health.unsynced_ms / 1000
    yield _gauge("journal_unsynced_seconds", "For how long the oldest of them has been waiting.", unsynced_s)
    yield _gauge("index_behind_entries", "Entries of the journal that the read index lacks.", health.unindexed)
    yield _gauge("checkpoint_ok", "1 unless the last checkpoint could not be written.", int(health.checkpoint_ok))
    yield _info("journal", "A hash of the journal's, of the last hour.", {"head": metrics.head(health)})


def _policy(sidecar: Sidecar) -> Iterator[Metric]:
    policy_file = sidecar.policy_file
    yield _info("policy", "The policy in force.", {"hash": policy_file.rules.policy.hash})
    yield _counter("policy_reload_failures", "Reloads that were refused.", policy_file.reloads_failed)
    yield _gauge("policy_reload_ok", "1 unless the last reload was refused.", int(policy_file.error is None))
    loaded = policy_file.loaded_at / 1000
    yield _gauge("policy_loaded_timestamp_seconds", "When the policy in force was loaded, unix time.", loaded)


def _alerts(metrics: Metrics, sidecar: Sidecar) -> Iterator[Metric]:
    yield _gauge("alerts_open", "Alerts that nobody has acknowledged.", sidecar.ledger.open_alerts())
    waiting = [delivery.next_at is not None for delivery in metrics.undelivered()]
    yield _gauge("alert_backlog", "Alerts that wait to be delivered, one for each webhook.", sum(waiting))
    yield _gauge("alert_dead_letters", "Alerts that no webhook took: given up.", len(waiting) - sum(waiting))
    deliveries = CounterMetricFamily(
        f"{PREFIX}alert_deliveries", "Tries to deliver an alert.", labels=["webhook", "outcome"]
    )
    for labels, count in metrics.deliveries.items():
        deliveries.add_metric(labels, count)
    yield deliveries


@cache
def _build() -> dict[str, str]:
    return {"version": version("agent-ledger"), "python": python_version()}


def _counter(name: str, told: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, told, value)


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, told, value)


def _info(name: str, told: str, labels: dict[str, str]) -> Metric:
    return InfoMetricFamily(PREFIX + name, told, labels)


def _counted(name: str, told: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(PREFIX + name, told, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family
