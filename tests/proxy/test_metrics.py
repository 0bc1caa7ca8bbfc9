from __future__ import annotations

from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from policy.decide import STATUS
from proxy.ledger.port import Action, Health, Reservation
from proxy.load import Load
from proxy.metrics import Metrics

DOLLAR = 1_000_000_000


def action(**fields) -> Action:
    given = {"agent_id": "a", "action_type": "api_call", "target": "openai:gpt-4o", "upstream": "openai"}
    return Action(**{"id": "act_1", "cost": 0, "outcome": "success", "created_at": 0, **given, **fields})


@pytest.fixture
def sidecar():
    ledger = SimpleNamespace(
        health=lambda: Health(True, "", 7, "abc"),
        reservations=lambda: [Reservation("act_1", "a", "t", DOLLAR, 0), Reservation("act_2", "a", "t", DOLLAR, 0)],
    )
    rules = SimpleNamespace(policy=SimpleNamespace(hash="h1"))
    load = Load(connections=3, shed=4, buffered=5)
    places = SimpleNamespace(standings=lambda: [("up", 6, False), ("down", 0, True)])
    return SimpleNamespace(
        ledger=ledger,
        policy_file=SimpleNamespace(rules=rules, reloads_failed=2),
        load=load,
        places=places,
        calls=SimpleNamespace(dropped=5),
    )


def samples(metrics, sidecar) -> dict[tuple[str, ...], float]:
    # By name and the labels' values, in the order of the labels' names.
    families = text_string_to_metric_families(metrics.render(sidecar).decode())
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def test_every_reason_is_there_from_the_start(sidecar):
    found = samples(Metrics(), sidecar)
    for reason in STATUS:
        assert found["agent_ledger_denials_total", reason] == 0


def test_the_state_is_read_when_scraped(sidecar):
    metrics = Metrics()
    found = samples(metrics, sidecar)
    assert found["agent_ledger_reserved_usd",] == 2
    assert found["agent_ledger_ledger_ok",] == 1
    assert found["agent_ledger_journal_sequence",] == 7
    assert found["agent_ledger_journal_info", "abc"] == 1
    assert found["agent_ledger_policy_info", "h1"] == 1
    assert found["agent_ledger_policy_reload_failures_total",] == 2
    assert found["agent_ledger_connections",] == 3
    assert found["agent_ledger_connections_shed_total",] == 4
    assert found["agent_ledger_buffered_bytes",] == 5
    assert (found["agent_ledger_upstream_in_flight", "up"], found["agent_ledger_upstream_open", "up"]) == (6, 0)
    assert found["agent_ledger_log_lines_dropped_total",] == 5
    assert (found["agent_ledger_upstream_in_flight", "down"], found["agent_ledger_upstream_open", "down"]) == (0, 1)
    sidecar.ledger.health = lambda: Health(False, "disk full", 7, "abc")
    assert samples(metrics, sidecar)["agent_ledger_ledger_ok",] == 0


def test_denials_and_requests_refused_for_their_form_are_told_apart(sidecar):
    metrics = Metrics()
    for code in ("agent_paused", "agent_paused", "body_too_large"):
        metrics.refused(code)
    sidecar.load.refused["malformed_request"] += 1
    found = samples(metrics, sidecar)
    assert found["agent_ledger_denials_total", "agent_paused"] == 2
    assert found["agent_ledger_rejected_requests_total", "body_too_large"] == 1
    assert found["agent_ledger_rejected_requests_total", "malformed_request"] == 1
    assert ("agent_ledger_denials_total", "body_too_large") not in found


def test_calls_that_ended(sidecar):
    metrics = Metrics()
    metrics.ended(action(cost=DOLLAR // 4, reserved=DOLLAR))
    metrics.ended(action(cost=DOLLAR // 2, reserved=DOLLAR // 4, outcome="failure"))
    metrics.ended(action(cost=DOLLAR // 4, reserved=DOLLAR // 4, unconfirmed=True))
    found = samples(metrics, sidecar)
    assert found["agent_ledger_calls_total", "success", "openai"] == 2
    assert found["agent_ledger_calls_total", "failure", "openai"] == 1
    assert found["agent_ledger_spend_usd_total",] == 1
    assert found["agent_ledger_overruns_total",] == 1
    assert found["agent_ledger_unconfirmed_total",] == 1


def test_targets_that_an_agent_reports_never_become_labels(sidecar):
    metrics = Metrics()
    for number in range(3):
        metrics.reported(action(upstream=f"made-up-{number}", cost=DOLLAR))
    found = samples(metrics, sidecar)
    assert found["agent_ledger_calls_total", "success", "(reported)"] == 3
    assert found["agent_ledger_spend_usd_total",] == 3


def test_open_streams_are_counted_while_they_run(sidecar):
    metrics = Metrics()
    metrics.open_streams += 1
    assert samples(metrics, sidecar)["agent_ledger_open_streams",] == 1
