"""The contract as a table: a policy, and a script whose every line has one exact result."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from zoneinfo import ZoneInfo

import pytest

from policy.model import Policy
from tests.contract.conftest import Worlds
from tests.contract.policies import agent, budget, limit, policy

EUROPE = ZoneInfo("Europe/Berlin")


@dataclass
class Case:
    """The first of ``policies`` is in force at the start; ``use NAME`` puts another."""

    name: str
    script: str
    policies: dict[str, Policy] = field(default_factory=lambda: {"first": policy()})


def thresholds(*parts: object) -> Policy:
    return policy(*parts, thresholds=(50, 80, 100))  # type: ignore[arg-type]


DECISIONS = [
    Case("a call that fits holds its estimate and pays its charge", """
        authorize a 5.00 as x → ok 95.00
        balance monthly_budget a → 0.00+5.00
        settle x 4.00 → 4.00
        balance monthly_budget a → 4.00+0.00
        alerts →
    """),
    Case("promise_3_each_reservation_ends_once", """
        authorize a 5.00 as x → ok 95.00
        settle x 4.00 → 4.00
        settle x 4.00 → NotOpen
        void x → NotOpen
        authorize a 5.00 as y → ok 91.00
        void y → 0.00
        settle y 1.00 → NotOpen
        void y → NotOpen
        settle act_never_there 1.00 → NotOpen
        restart
        settle x 4.00 → NotOpen
        balance monthly_budget a → 4.00+0.00
    """),
    Case("exactly the amount fits, a nano-dollar more does not", """
        authorize a 100.000000001 → budget_exceeded monthly_budget
        patch a status=active → active
        authorize a 100.00 as x → ok 0.00
        authorize a 0.000000001 → budget_reserved monthly_budget
        authorize a 0.00 → ok 0.00
        settle x 100.00 → 100.00
        authorize a 0.000000001 → budget_exceeded monthly_budget
    """),
    Case("over its own month: denied, paused, one alert, in one step", """
        authorize a 101.00 → budget_exceeded monthly_budget
        status a → paused
        alerts → budget_exceeded
        authorize a 1.00 → agent_paused
        authorize a 0.00 → agent_paused
        alerts →
        patch a status=active → active
        authorize a 101.00 → budget_exceeded monthly_budget
        status a → paused
        alerts → budget_exceeded
    """),
    Case("held by calls in flight: transient, no pause, no alert", """
        authorize a 60.00 as x → ok 40.00
        authorize a 50.00 → budget_reserved monthly_budget
        status a → active
        alerts →
        void x → 0.00
        authorize a 50.00 → ok 50.00
    """),
    Case("a pause stops admissions, not calls in flight", """
        authorize a 5.00 as x → ok 95.00
        patch a status=paused → paused
        authorize a 1.00 → agent_paused
        record a 1.00 → agent_paused
        preview a 1.00 → agent_paused
        settle x 5.00 → 5.00
    """),
    Case("neither a new month nor a raised budget lifts a pause", """
        authorize a 101.00 → budget_exceeded monthly_budget
        patch a monthly_budget=500.00 → paused
        authorize a 1.00 → agent_paused
        forward 30d
        authorize a 1.00 → agent_paused
        restart
        authorize a 1.00 → agent_paused
        patch a status=active → active
        authorize a 1.00 → ok 499.00
    """, {"first": policy(agent(managed=frozenset({"name"})))}),
    Case("auto_resume lifts a budget's pause: when the budget is raised, when a new month begins", """
        authorize a 101.00 → budget_exceeded monthly_budget
        authorize a 1.00 → agent_paused
        patch a monthly_budget=100.00 → paused
        authorize a 1.00 → agent_paused
        patch a monthly_budget=150.00 → paused
        preview a 1.00 → ok
        status a → paused
        authorize a 101.00 → ok 49.00
        status a → active
        authorize a 200.00 → budget_exceeded monthly_budget
        restart
        authorize a 1.00 → agent_paused
        forward 30d
        authorize a 1.00 → ok 149.00
    """, {"first": policy(agent(auto_resume=True, managed=frozenset({"name"})))}),
    Case("auto_resume never lifts the operator's pause", """
        authorize a 101.00 → budget_exceeded monthly_budget
        patch a status=paused → paused
        forward 30d
        authorize a 1.00 → agent_paused
    """, {"first": policy(agent(auto_resume=True))}),
    Case("the order of the table: pause, unpriced, per action, budget, limit", """
        authorize a unpriced → unpriced
        authorize a 6.00 → per_action_limit_exceeded
        authorize a 4.00 → budget_exceeded small
        authorize a 1.00 as x → ok 2.00
        authorize a 1.00 → rate_limited one
        authorize a 3.00 → budget_reserved small
        patch a status=paused → paused
        authorize a unpriced → agent_paused
    """, {"first": policy(agent(limit="5"), budget("small", "3"), limit("one", concurrent=1))}),
    Case("every matching budget must have room", """
        authorize a 3.00 as x → ok 2.00
        authorize b 3.00 → budget_reserved team
        settle x 3.00 → 3.00
        authorize b 3.00 → budget_exceeded team
        status b → active
        alerts → budget_exceeded
        authorize b 2.50 → budget_exceeded team
        alerts →
        authorize b 2.00 → ok 0.00
        authorize c 3.00 → ok 97.00
        balance team → 3.00+2.00
        balance monthly_budget b → 0.00+2.00
    """, {"first": policy(agent("a"), agent("b"), agent("c", owner_id="other"),
                          budget("team", "5", owner_ids=("team",)))}),
    Case("a budget counts apart by its each", """
        authorize a 3.00 upstream openai → ok 2.00
        authorize a 3.00 upstream tools → ok 2.00
        authorize a 3.00 upstream tools → budget_reserved up
        balance up openai → 0.00+3.00
        balance up tools → 0.00+3.00
    """, {"first": policy(budget("up", "5", each="upstream"))}),
    Case("promise_5_an_overrun_is_recorded_in_full_and_judged_next_time", """
        authorize a 1.00 as x → ok 99.00
        authorize a 1.00 as y → ok 98.00
        settle x 150.00 → 150.00
        balance monthly_budget a → 150.00+1.00
        alerts → overrun
        settle y 2.00 → 2.00
        alerts →
        authorize a 0.01 → budget_exceeded monthly_budget
        alerts → budget_exceeded
        forward 1d
        patch a status=active → active
        authorize a 0.00 as z → ok 0.00
        settle z 0.50 → 0.50
        alerts → overrun
    """),
    Case("a charge of None is the reservation", """
        authorize a 5.00 as x → ok 95.00
        settle x reserved unconfirmed → 5.00 unconfirmed
        balance monthly_budget a → 5.00+0.00
    """),
    Case("unknown and archived agents", """
        authorize nobody 1.00 → AgentUnknown
        record nobody 1.00 → AgentUnknown
        record nobody 1.00 key k body b → AgentUnknown
        preview nobody 1.00 → AgentUnknown
        patch nobody status=paused → AgentUnknown
        status nobody → none
    """),
    Case("a preview changes nothing", """
        preview a 101.00 → budget_exceeded monthly_budget
        status a → active
        alerts →
        preview a 99.00 → ok
        balance monthly_budget a → 0.00+0.00
    """),
]  # fmt: skip

LIMITS = [
    Case("requests a period, by agent", """
        authorize a 1.00 as x → ok 99.00
        authorize a 1.00 → ok 98.00
        authorize a 1.00 → rate_limited burst
        record a 1.00 → rate_limited burst
        settle x 1.00 → 1.00
        authorize a 1.00 → rate_limited burst
        restart
        authorize a 1.00 → rate_limited burst
        authorize b 1.00 → ok 99.00
        forward 60s
        authorize a 1.00 → ok 97.00
    """, {"first": policy(agent("a"), agent("b"), limit("burst", requests=2, period="minute"))}),
    Case("calls in flight", """
        authorize a 1.00 as x → ok 99.00
        authorize a 1.00 as y → ok 98.00
        authorize a 1.00 → rate_limited parallel
        forward 1d
        authorize a 1.00 → rate_limited parallel
        settle x 1.00 → 1.00
        authorize a 1.00 → ok 97.00
        void y → 0.00
        record a 1.00 → ok 1.00
        restart
        authorize a 1.00 → ok 96.00
    """, {"first": policy(limit("parallel", concurrent=2))}),
    Case("a shadow limit lets pass", """
        authorize a 1.00 → ok 99.00
        authorize a 1.00 → ok 98.00 shadow:rate_limited
    """, {"first": policy(limit("parallel", concurrent=1, mode="shadow"))}),
]  # fmt: skip

SHADOW = [
    Case("a shadow budget counts, may be exceeded, alerts once a period, never pauses", """
        authorize a 3.00 as x → ok 97.00
        settle x 3.00 → 3.00
        authorize a 3.00 as y → ok 94.00 shadow:budget_exceeded
        settle y 3.00 → 3.00
        alerts → budget_exceeded
        record a 1.00 → ok 1.00
        alerts →
        balance trial → 7.00+0.00
        status a → active
        forward 1d
        record a 6.00 → ok 6.00
        alerts → budget_exceeded
    """, {"first": policy(budget("trial", "5", mode="shadow"))}),
    Case("shadow mode softens unpriced, per action, budgets and limits; never a pause", """
        authorize a unpriced → ok shadow:unpriced
        authorize a 200.00 → ok shadow:per_action_limit_exceeded shadow:budget_exceeded shadow:rate_limited
        status a → active
        alerts → budget_exceeded
        authorize nobody 1.00 → AgentUnknown
        patch a status=paused → paused
        authorize a 1.00 → agent_paused
    """, {"first": policy(agent(limit="5"), limit("one", concurrent=1), mode="shadow")}),
]  # fmt: skip

ALERTS = [
    Case("thresholds: each once a period, counting what is spent, all that are crossed at once", """
        authorize a 60.00 as x → ok 40.00
        alerts →
        settle x 49.00 → 49.00
        alerts →
        record a 1.00 → ok 1.00
        alerts → budget_threshold
        record a 1.00 → ok 1.00
        alerts →
        record a 49.00 → ok 49.00
        alerts → budget_threshold budget_threshold
        restart
        forward 30d
        record a 50.00 → ok 50.00
        alerts → budget_threshold
    """, {"first": thresholds()}),
    Case("thresholds re-arm when the amount changes", """
        record a 50.00 → ok 50.00
        alerts → budget_threshold
        patch a monthly_budget=90.00 → active
        record a 1.00 → ok 1.00
        alerts → budget_threshold
        restart
        record a 1.00 → ok 1.00
        alerts →
        patch a monthly_budget=1000.00 → active
        record a 1.00 → ok 1.00
        alerts →
    """, {"first": thresholds(agent(managed=frozenset({"name"})))}),
    Case("thresholds re-arm, though the amount comes back to what it was", """
        record a 50.00 → ok 50.00
        record a 1.00 → ok 1.00
        alerts → budget_threshold
        patch a monthly_budget=1000.00 → active
        patch a monthly_budget=100.00 → active
        record a 1.00 → ok 1.00
        alerts → budget_threshold
    """, {"first": thresholds(agent(managed=frozenset({"name"})))}),
    Case("other thresholds are told of at the next charge", """
        record a 60.00 → ok 60.00
        record a 1.00 → ok 1.00
        alerts →
        use other
        record a 1.00 → ok 1.00
        alerts → budget_threshold
        use first
        record a 1.00 → ok 1.00
        alerts →
    """, {"first": policy(thresholds=(80,)), "other": thresholds()}),
    Case("thresholds of a policy's budget re-arm when a reload changes its amount", """
        record a 5.00 → ok 5.00
        alerts → budget_threshold
        use first
        record a 0.01 → ok 0.01
        alerts →
        use other
        record a 0.01 → ok 0.01
        alerts → budget_threshold
    """, {"first": thresholds(budget("day", "10")), "other": thresholds(budget("day", "9.00"))}),
    Case("a failure is told of once an hour, by agent and target", """
        record a 0.00 outcome failure → ok 0.00
        record a 0.00 outcome failure → ok 0.00
        alerts → action_failed
        record a 0.00 outcome failure target other:x → ok 0.00
        alerts → action_failed
        forward 1h
        authorize a 1.00 as x → ok 99.00
        void x → 0.00
        alerts → action_failed
    """),
    Case("a budget whose period changed is told of in its new one, though that began as the old", """
        clock 2026-11-01T12:00:00Z
        authorize a 11.00 → budget_exceeded some
        alerts → budget_exceeded
        use month
        authorize a 11.00 → budget_exceeded some
        alerts → budget_exceeded
        restart
        authorize a 11.00 → budget_exceeded some
        alerts →
    """, {"first": policy(budget("some", "10")), "month": policy(budget("some", "10", "month"))}),
    Case("a charge after its period's end tells no threshold again", """
        clock 2026-11-10T23:59:00Z
        authorize a 1.00 as x → ok 9.00
        record a 5.00 → ok 5.00
        alerts → budget_threshold
        forward 2m
        authorize a 1.00 as y → ok 9.00
        settle x 1.00 → 1.00
        alerts →
    """, {"first": thresholds(budget("day", "10"))}),
    Case("a charge that comes a day after its period's end tells its thresholds anew", """
        clock 2026-11-10T12:00:00Z
        authorize a 1.00 as x → ok 9.00
        record a 5.00 → ok 5.00
        record a 0.10 → ok 0.10
        alerts → budget_threshold
        forward 37h
        settle x 1.00 → 1.00
        alerts → budget_threshold
    """, {"first": thresholds(budget("day", "10"))}),
    Case("an overrun is told of once a day, by agent and target", """
        authorize a 1.00 as x → ok 99.00
        settle x 2.00 → 2.00
        alerts → overrun
        forward 11h
        authorize a 1.00 as x → ok 97.00
        settle x 2.00 → 2.00
        alerts →
        authorize a 1.00 as x target other:x → ok 95.00
        settle x 2.00 → 2.00
        alerts → overrun
        forward 1h
        authorize a 1.00 as x → ok 93.00
        settle x 2.00 → 2.00
        alerts → overrun
    """),
    Case("an hour, and a day, are over when they are, though nothing was recorded since", """
        authorize a 1.00 as x → ok 99.00
        authorize a 1.00 as y → ok 98.00
        settle x 2.00 failure → 2.00
        alerts → overrun action_failed
        forward 1d
        settle y 2.00 failure → 2.00
        alerts → overrun action_failed
    """),
]  # fmt: skip

PERIODS = [
    Case("a day's budget is whole again the next day, in the budget's own zone", """
        clock 2026-11-10T22:30:00Z
        record a 5.00 → ok 5.00
        record a 1.00 → budget_exceeded day
        forward 29m
        record a 1.00 → budget_exceeded day
        forward 1m
        record a 5.00 → ok 5.00
    """, {"first": policy(budget("day", "5", zone=EUROPE))}),
    Case("hazard_40_month_rollover_in_flight_is_charged_to_the_month_it_was_authorized_in", """
        clock 2026-11-30T23:59:00Z
        authorize a 60.00 as x → ok 40.00
        forward 2m
        balance monthly_budget a → 0.00+0.00
        authorize a 100.00 as y → ok 0.00
        settle x 60.00 → 60.00
        settle y 1.00 → 1.00
        balance monthly_budget a → 1.00+0.00
        restart
        balance monthly_budget a → 1.00+0.00
    """),
    Case("hazard_40_a_clock_set_back_reopens_no_period", """
        clock 2026-12-01T00:00:01Z
        record a 100.00 → ok 100.00
        clock 2026-11-15T00:00:00Z
        record a 1.00 → budget_exceeded monthly_budget
        patch a status=active → active
        restart
        record a 1.00 → budget_exceeded monthly_budget
    """),
    Case("hazard_40_a_day_of_25_hours_is_one_period", """
        clock 2026-10-24T22:00:00Z
        record a 5.00 → ok 5.00
        forward 24h
        record a 5.00 → budget_exceeded day
        forward 1h
        record a 5.00 → ok 5.00
    """, {"first": policy(budget("day", "5", zone=EUROPE))}),
]  # fmt: skip

RECORDS = [
    Case("promise_6_the_same_key_and_body_replay_the_first_answer_for_24_hours", """
        record a 1.00 key k body b → ok 1.00
        record a 1.00 key k body b → replayed 1.00
        record a 2.00 key k body c → IdempotencyConflict
        balance monthly_budget a → 1.00+0.00
        restart
        record a 1.00 key k body b → replayed 1.00
        record a 2.00 key k body c → IdempotencyConflict
        record b 1.00 key k body c → ok 1.00
        forward 23h
        record a 1.00 key k body b → replayed 1.00
        forward 1h
        record a 1.00 key k body b → ok 1.00
        balance monthly_budget a → 2.00+0.00
    """, {"first": policy(agent("a"), agent("b"))}),
    Case("hazard_43_a_denial_is_an_answer_too", """
        record a 6.00 key k body b → per_action_limit_exceeded
        record a 6.00 key k body b → replayed per_action_limit_exceeded
        record a 6.00 key l body b → per_action_limit_exceeded
        record a 6.00 key l body c → IdempotencyConflict
        restart
        record a 6.00 key k body b → replayed per_action_limit_exceeded
        record a 6.00 key l body b → replayed per_action_limit_exceeded
    """, {"first": policy(agent(limit="5"))}),
    Case("a denial that passes is no answer: the same key may try again", """
        authorize a 60.00 as x → ok 40.00
        record a 50.00 key k body b → budget_reserved monthly_budget
        void x → 0.00
        alerts → action_failed
        record a 50.00 key k body b → ok 50.00
        record a 50.00 key k body b → replayed 50.00
    """),
]  # fmt: skip

AGENTS = [
    Case("the policy file says a managed field", """
        patch a monthly_budget=500.00 → ManagedField
        patch a name=Other → ManagedField
        patch a archived=yes → ManagedField
        patch a per_action_limit=1.00 → active
        authorize a 2.00 → per_action_limit_exceeded
        patch a monthly_budget=500.00 status=paused → ManagedField
        status a → active
        patch a nonsense=1 → LedgerError
    """),
    Case("an agent gone from the file is archived; back again it is what it was, pause and all", """
        record b 1.00 → ok 1.00
        patch b status=paused → paused
        use without
        status b → archived
        authorize b 1.00 → AgentUnknown
        patch b status=active → AgentUnknown
        restart
        status b → archived
        use first
        status b → paused
        patch b status=active → active
        authorize b 1.00 → ok 98.00
    """, {"first": policy(agent("a"), agent("b")), "without": policy(agent("a"))}),
    Case("a reload changes what the file says, and keeps the rest", """
        patch a per_action_limit=7.00 status=paused → paused
        use other
        status a → paused
        patch a status=active → active
        authorize a 8.00 → per_action_limit_exceeded
        authorize a 6.00 → ok 44.00
    """, {"first": policy(), "other": policy(agent(monthly="50"))}),
]  # fmt: skip

RELOADS = [
    Case("hazard_44_a_budget_lowered_below_what_is_reserved_denies_new_calls_and_lets_those_in_flight_finish", """
        authorize a 8.00 as x → ok 2.00
        use lower
        authorize a 0.01 → budget_exceeded day
        settle x 8.00 → 8.00
        authorize a 0.01 → budget_exceeded day
        balance day → 8.00+0.00
    """, {"first": policy(budget("day", "10")), "lower": policy(budget("day", "0.005"))}),
    Case("a new budget holds what its running period has already spent, by group, and what is in flight", """
        record a 3.00 → ok 3.00
        record b 2.00 → ok 2.00
        forward 1d
        record a 4.00 → ok 4.00
        record b 1.00 → ok 1.00
        authorize a 2.00 as x → ok 91.00
        use more
        balance day a → 4.00+2.00
        balance day b → 1.00+0.00
        balance all → 10.00+2.00
        authorize a 5.00 → budget_reserved day
        settle x 3.00 → 3.00
        balance day a → 7.00+0.00
        balance all → 13.00+0.00
        authorize a 5.00 → budget_exceeded day
        restart
        balance day a → 7.00+0.00
        balance all → 13.00+0.00
    """, {"first": policy(agent("a"), agent("b")),
          "more": policy(agent("a"), agent("b"), budget("day", "10", each="agent"), budget("all", "50", "total"))}),
    Case("a changed budget is worked out anew; one that only changes its amount keeps its balance", """
        record a 3.00 upstream tools → ok 3.00
        record a 1.00 upstream openai → ok 1.00
        authorize a 2.00 upstream openai as x → ok 4.00
        balance some → 4.00+2.00
        use higher
        balance some → 4.00+2.00
        use tools
        balance some → 3.00+0.00
        settle x 2.00 → 2.00
        balance some → 3.00+0.00
        use first
        balance some → 6.00+0.00
        use without
        balance some → none
        record a 1.00 → ok 1.00
        use first
        balance some → 7.00+0.00
    """, {"first": policy(budget("some", "10")), "higher": policy(budget("some", "20")),
          "tools": policy(budget("some", "10", upstreams=("tools",))), "without": policy()}),
    Case("a period's change of length works out the longer period, past the end of the shorter", """
        clock 2026-11-09T12:00:00Z
        record a 3.00 → ok 3.00
        use week
        balance some → 3.00+0.00
        forward 1d
        record a 1.00 → ok 1.00
        balance some → 4.00+0.00
        restart
        balance some → 4.00+0.00
    """, {"first": policy(budget("some", "10")), "week": policy(budget("some", "10", "week"))}),
    Case("a call in flight from a period before is not held against a new budget", """
        authorize a 2.00 as x → ok 98.00
        forward 1d
        use day
        balance day → 0.00+0.00
        settle x 2.00 → 2.00
        balance day → 0.00+0.00
        balance monthly_budget a → 2.00+0.00
    """, {"first": policy(), "day": policy(budget("day", "10"))}),
    Case("an owner's budget keeps what was spent under the owner of its time", """
        record a 3.00 → ok 3.00
        use moved
        balance team other → 0.00+0.00
        record a 1.00 → ok 1.00
        balance team other → 1.00+0.00
        use again
        balance team other → 1.00+0.00
    """, {"first": policy(agent("a"), budget("team", "10", each="owner_id")),
          "moved": policy(agent("a", owner_id="other"), budget("team", "10", each="owner_id")),
          "again": policy(agent("a", owner_id="other"), budget("team", "10", "week", each="owner_id"))}),
]  # fmt: skip

CASES = [*DECISIONS, *LIMITS, *SHADOW, *ALERTS, *PERIODS, *RECORDS, *AGENTS, *RELOADS]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "_"))
async def test_script(case: Case, world: Worlds) -> None:
    async with world(case.policies) as w:
        await w.run(case.script)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "_"))
async def test_script_in_strict_durability(case: Case, world: Worlds) -> None:
    policies = {name: replace(each, durability="strict") for name, each in case.policies.items()}
    async with world(policies) as w:
        await w.run(case.script)
