from __future__ import annotations

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from policy.decide import STATUS, Standing
from policy.model import Budget, Match, Policy, Price, Scope, Upstream
from policy.periods import span
from proxy import metrics as metrics_module
from proxy.ledger.port import Action, Agent, Health, Reservation
from proxy.load import Load
from proxy.metrics import Metrics
from proxy.metrics.budgets import AGENTS_MAX, GROUPS_MAX
from proxy.metrics.histogram import Histogram
from proxy.metrics.labels import REJECTED

ROOT = Path(__file__).parents[2]
DOLLAR = 1_000_000_000
UTC = ZoneInfo("UTC")


def action(**fields: Any) -> Action:
    given = {"agent_id": "a", "action_type": "api_call", "target": "openai:gpt-4o", "upstream": "openai"}
    return Action(**{"id": "act_1", "cost": 0, "outcome": "success", "created_at": 0, **given, **fields})


class Shelf:
    """A ledger of what the test says: each budget and group has spent two dollars and holds one."""

    def __init__(self) -> None:
        self.state = Health(True, "", 7, "abc", unsynced=3, unsynced_ms=1500, unindexed=9)
        self.held = [Agent("a", "A", "work", "team", 10 * DOLLAR, None, 0)]

    def health(self) -> Health:
        return self.state

    def reservations(self) -> list[Reservation]:
        return [Reservation("act_1", "a", "t", DOLLAR, 0), Reservation("act_2", "a", "t", DOLLAR, 0)]

    def open_alerts(self) -> int:
        return 4

    def agents(self) -> list[Agent]:
        return self.held

    def standing(self, budget: Budget, group: str) -> Standing:
        return Standing(budget, group, span(budget.period, 0, budget.zone), 2 * DOLLAR, DOLLAR)


@pytest.fixture
def sidecar() -> Any:
    policy = Policy("h1", upstreams={"openai": Upstream("openai", "http://up.test")})
    places = SimpleNamespace(standings=lambda: [("up", 6, False), ("down", 0, True)])
    return SimpleNamespace(
        ledger=Shelf(),
        policy_file=SimpleNamespace(
            rules=SimpleNamespace(policy=policy), reloads_failed=2, error=None, loaded_at=1_700_000_000_500
        ),
        load=Load(connections=3, shed=4, buffered=5),
        places=places,
        calls=SimpleNamespace(dropped=5),
    )


async def samples(metrics: Metrics, sidecar: Any) -> dict[tuple[str, ...], float]:
    # By name and the labels' values, in the order of the labels' names.
    text, _ = await metrics.render(sidecar)
    families = text_string_to_metric_families(text.decode())
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


# -- from the start --------------------------------------------------------------------------------------------------
async def test_every_reason_outcome_and_code_is_there_from_the_start(sidecar):
    found = await samples(Metrics(), sidecar)
    assert {key[1] for key in found if key[0] == "agent_ledger_denials_total"} == set(STATUS)
    assert {key[1] for key in found if key[0] == "agent_ledger_rejected_requests_total"} == set(REJECTED)
    calls = {key[1:] for key in found if key[0] == "agent_ledger_calls_total"}
    assert calls == {
        (outcome, upstream) for outcome in ("success", "failure", "denied") for upstream in ("openai", "(reported)")
    }
    counted = ("agent_ledger_denials_total", "agent_ledger_rejected_requests_total", "agent_ledger_calls_total")
    assert {value for key, value in found.items() if key[0] in counted} == {0}


def codes_in_the_code() -> set[str]:
    """Every code that a Refused or a Refusal is made with."""
    found = set()
    for path in (ROOT / "proxy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                place = {"Refused": 1, "Refusal": 1, "_refused": 0}.get(name)
                if place is not None and len(node.args) > place and isinstance(node.args[place], ast.Constant):
                    found.add(node.args[place].value)
    return found


def test_the_codes_known_beforehand_are_those_that_requests_are_refused_with():
    computed = {"idempotency_in_flight", "idempotency_key_reused"}
    assert codes_in_the_code() | computed == {*REJECTED, "unauthenticated", "agent_not_found", "ledger_unavailable"}


# -- counted on the line ---------------------------------------------------------------------------------------------
async def test_denials_and_requests_refused_for_their_form_are_told_apart(sidecar):
    metrics = Metrics()
    for code in ("agent_paused", "agent_paused", "body_too_large"):
        metrics.refused(code, "openai")
    metrics.refused("unauthenticated")  # of the API: no call
    sidecar.load.refused.update(malformed_request=1, body_too_large=2)
    found = await samples(metrics, sidecar)
    assert found["agent_ledger_denials_total", "agent_paused"] == 2
    assert found["agent_ledger_denials_total", "unauthenticated"] == 1
    assert found["agent_ledger_calls_total", "denied", "openai"] == 2
    assert found["agent_ledger_rejected_requests_total", "body_too_large"] == 3
    assert found["agent_ledger_rejected_requests_total", "malformed_request"] == 1
    assert ("agent_ledger_denials_total", "body_too_large") not in found


async def test_calls_that_ended(sidecar):
    metrics = Metrics()
    metrics.ended(action(cost=DOLLAR // 4, reserved=DOLLAR))
    metrics.ended(action(cost=DOLLAR // 2, reserved=DOLLAR // 4, outcome="failure"))
    metrics.ended(action(cost=DOLLAR // 4, reserved=DOLLAR // 4, unconfirmed=True))
    found = await samples(metrics, sidecar)
    assert found["agent_ledger_calls_total", "success", "openai"] == 2
    assert found["agent_ledger_calls_total", "failure", "openai"] == 1
    assert found["agent_ledger_spend_usd_total",] == 1
    assert found["agent_ledger_overruns_total",] == 1
    assert found["agent_ledger_unconfirmed_total",] == 1


async def test_targets_that_an_agent_reports_never_become_labels(sidecar):
    metrics = Metrics()
    for number in range(3):
        metrics.reported(action(upstream=f"made-up-{number}", cost=DOLLAR))
    found = await samples(metrics, sidecar)
    assert found["agent_ledger_calls_total", "success", "(reported)"] == 3
    assert found["agent_ledger_spend_usd_total",] == 3


async def test_open_streams_are_counted_while_they_run(sidecar):
    metrics = Metrics()
    metrics.open_streams += 1
    assert (await samples(metrics, sidecar))["agent_ledger_open_streams",] == 1


def test_a_time_on_a_bound_is_within_it_and_each_bucket_holds_those_before():
    times = Histogram((0.5, 1.0, 2.0))
    for seconds in (-0.1, 0.5, 0.75, 2.0, 99.0):
        times.observe(seconds)
    assert times.buckets() == [("0.5", 2), ("1.0", 3), ("2.0", 4), ("+Inf", 5)]
    assert times.sum == pytest.approx(102.15)


async def test_latency_is_the_upstreams_or_added_by_the_sidecar(sidecar):
    metrics = Metrics()
    metrics.timed("openai", received=10.0, sent=10.5, answered=13.0, written=13.25)
    metrics.timed("openai", received=20.0, sent=20.001, answered=20.002, written=0.0)  # its client had left
    found = await samples(metrics, sidecar)
    assert found["agent_ledger_upstream_latency_seconds_count", "openai"] == 2
    assert found["agent_ledger_upstream_latency_seconds_bucket", "0.05", "openai"] == 1
    assert found["agent_ledger_upstream_latency_seconds_sum", "openai"] == pytest.approx(2.501)
    assert found["agent_ledger_added_latency_seconds_count",] == 1
    assert found["agent_ledger_added_latency_seconds_sum",] == 0.75
    assert found["agent_ledger_added_latency_seconds_bucket", "0.25"] == 0
    assert found["agent_ledger_added_latency_seconds_bucket", "1.0"] == 1


async def test_deliveries_and_what_was_not_delivered(sidecar):
    waiting = [SimpleNamespace(next_at=5), SimpleNamespace(next_at=None), SimpleNamespace(next_at=6)]
    metrics = Metrics(lambda: waiting)
    metrics.deliveries |= {("ops", "delivered"): 1, ("ops", "failed"): 2}
    found = await samples(metrics, sidecar)
    assert (found["agent_ledger_alert_backlog",], found["agent_ledger_alert_dead_letters",]) == (2, 1)
    assert found["agent_ledger_alert_deliveries_total", "delivered", "ops"] == 1
    assert found["agent_ledger_alert_deliveries_total", "failed", "ops"] == 2
    assert (await samples(Metrics(), sidecar))["agent_ledger_alert_backlog",] == 0


# -- read when scraped -----------------------------------------------------------------------------------------------
async def test_the_state_is_read_when_scraped(sidecar):
    metrics = Metrics()
    found = await samples(metrics, sidecar)
    assert found["agent_ledger_reserved_usd",] == 2
    assert found["agent_ledger_ledger_ok",] == 1
    assert found["agent_ledger_journal_sequence",] == 7
    assert found["agent_ledger_journal_unsynced_entries",] == 3
    assert found["agent_ledger_journal_unsynced_seconds",] == 1.5
    assert found["agent_ledger_index_behind_entries",] == 9
    assert found["agent_ledger_checkpoint_ok",] == 1
    assert found["agent_ledger_journal_info", "abc"] == 1
    assert found["agent_ledger_policy_info", "h1"] == 1
    assert found["agent_ledger_policy_reload_failures_total",] == 2
    assert found["agent_ledger_policy_reload_ok",] == 1
    assert found["agent_ledger_policy_loaded_timestamp_seconds",] == 1_700_000_000.5
    assert found["agent_ledger_alerts_open",] == 4
    assert found["agent_ledger_connections",] == 3
    assert found["agent_ledger_connections_shed_total",] == 4
    assert found["agent_ledger_buffered_bytes",] == 5
    assert (found["agent_ledger_upstream_in_flight", "up"], found["agent_ledger_upstream_open", "up"]) == (6, 0)
    assert found["agent_ledger_log_lines_dropped_total",] == 5
    assert (found["agent_ledger_upstream_in_flight", "down"], found["agent_ledger_upstream_open", "down"]) == (0, 1)
    assert found["process_open_fds",] > 0
    assert [key[2] for key in found if key[0] == "agent_ledger_build_info"] == ["0.1.0"]
    sidecar.ledger.state = Health(False, "disk full", 7, "abc", checkpoint_ok=False)
    sidecar.policy_file.error = "line 1: no"
    found = await samples(metrics, sidecar)
    assert found["agent_ledger_ledger_ok",] == 0
    assert found["agent_ledger_checkpoint_ok",] == 0
    assert found["agent_ledger_policy_reload_ok",] == 0


async def test_the_journals_head_is_another_series_once_an_hour_and_not_at_each_scrape(sidecar, monkeypatch):
    now = [1_000_000.0]
    monkeypatch.setattr(metrics_module, "time", lambda: now[0])
    metrics = Metrics()
    heads = []
    for minute in range(0, 121, 10):
        now[0] = 1_000_000.0 + minute * 60
        sidecar.ledger.state = Health(True, "", minute, f"head-{minute}")
        heads += [key[1] for key in await samples(metrics, sidecar) if key[0] == "agent_ledger_journal_info"]
    assert heads == ["head-0"] * 6 + ["head-60"] * 6 + ["head-120"]


# -- budgets ---------------------------------------------------------------------------------------------------------
def budget(name: str, **scope: Any) -> Budget:
    return Budget(name, 4 * DOLLAR, "day", UTC, Scope(**scope))


def under(sidecar: Any, *budgets: Budget) -> None:
    policy = Policy(
        "h1",
        upstreams={name: Upstream(name, "http://up.test") for name in ("openai", "claude")},
        prices=(Price("chat", Match(), ()),),
        budgets=budgets,
    )
    sidecar.policy_file.rules.policy = policy


async def test_what_each_agent_and_each_group_of_a_budget_has_spent(sidecar):
    team = {"a": "team", "b": "team", "c": "other"}
    sidecar.ledger.held = [Agent(name, "", f"role-{name}", owner, 10 * DOLLAR, None, 0) for name, owner in team.items()]
    sidecar.ledger.held.append(Agent("d", "", "role-a", "other", 0, None, 0, "paused"))
    under(
        sidecar,
        budget("all"),
        budget("each-agent", each="agent", owner_ids=("team",)),
        budget("each-owner", each="owner_id"),
        budget("each-role", each="role", agents=("c",)),
        budget("each-upstream", each="upstream"),
        budget("one-upstream", each="upstream", upstreams=("claude",)),
        budget("each-price", each="price"),
    )
    found = await samples(Metrics(), sidecar)
    groups = [key[1:] for key in found if key[0] == "agent_ledger_budget_spent_usd"]
    assert groups == [
        ("all", ""),
        ("each-agent", "a"),
        ("each-agent", "b"),
        ("each-owner", "team"),
        ("each-owner", "other"),
        ("each-role", "role-c"),
        ("each-upstream", "openai"),
        ("each-upstream", "claude"),
        ("one-upstream", "claude"),
        ("each-price", "chat"),
    ]
    assert found["agent_ledger_budget_spent_usd", "all", ""] == 2
    assert found["agent_ledger_budget_reserved_usd", "each-agent", "b"] == 1
    assert found["agent_ledger_budget_amount_usd", "each-agent", "enforce", "day"] == 4
    assert (found["agent_ledger_agent_spent_usd", "c"], found["agent_ledger_agent_budget_usd", "c"]) == (2, 10)
    assert (found["agent_ledger_agents", "active"], found["agent_ledger_agents", "paused"]) == (3, 1)
    assert (found["agent_ledger_agents_left_out",], found["agent_ledger_budgets_left_out",]) == (0, 0)


async def test_series_are_bounded_and_what_is_left_out_is_told(sidecar):
    under(sidecar, budget("first", each="agent"), budget("second", each="agent"), budget("third", each="owner_id"))
    sidecar.ledger.held = [Agent(f"agt_{number}", "", "", "o", DOLLAR, None, 0) for number in range(AGENTS_MAX)]
    found = await samples(Metrics(), sidecar)
    assert sum(key[0] == "agent_ledger_agent_spent_usd" for key in found) == AGENTS_MAX
    assert sum(key[0] == "agent_ledger_budget_spent_usd" for key in found) == GROUPS_MAX
    assert (found["agent_ledger_agents_left_out",], found["agent_ledger_budgets_left_out",]) == (0, 2)
    sidecar.ledger.held.append(Agent("one-more", "", "", "o", DOLLAR, None, 0))
    found = await samples(Metrics(), sidecar)
    assert not any(key[0] == "agent_ledger_agent_spent_usd" for key in found)
    assert [key[1:] for key in found if key[0] == "agent_ledger_budget_spent_usd"] == [("third", "o")]
    assert (found["agent_ledger_agents_left_out",], found["agent_ledger_budgets_left_out",]) == (AGENTS_MAX + 1, 2)


async def test_a_name_made_to_forge_a_line_stays_a_label(sidecar):
    hostile = 'x"} 1\nagent_ledger_ledger_ok 0\n\\'
    sidecar.ledger.held = [Agent(hostile, "", "", "", DOLLAR, None, 0)]
    found = await samples(Metrics(), sidecar)
    assert found["agent_ledger_agent_spent_usd", hostile] == 2
    assert found["agent_ledger_ledger_ok",] == 1


# -- formats ---------------------------------------------------------------------------------------------------------
async def test_open_metrics_is_spoken_to_who_accepts_it(sidecar):
    accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"
    text, content_type = await Metrics().render(sidecar, accept)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert text.count(b"# EOF\n") == 1
    names = {family.name for family in open_metrics(text.decode())}
    assert {"agent_ledger_calls", "agent_ledger_added_latency_seconds", "process_cpu_seconds"} <= names


@pytest.mark.parametrize(
    "accept", ["", "*/*", "text/html", "application/openmetrics-text;version=x", "text/plain;version=é", ";;,"]
)
async def test_and_prometheus_text_to_anybody_else(sidecar, accept):
    text, content_type = await Metrics().render(sidecar, accept)
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"# EOF" not in text
