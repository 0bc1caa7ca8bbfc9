from __future__ import annotations

import dataclasses
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from policy.decide import decide
from policy.model import Budget, Limit, Policy
from proxy.ledger.book import Balance, Book
from proxy.ledger.plan import ENDLESS
from proxy.ledger.port import Agent
from proxy.ledger.rulebook import Rulebook

AT = 1_793_577_600_000  # 2026-11-02T00:00Z
MINUTE = 60_000
UTC = ZoneInfo("UTC")
AGENT = Agent("a", "A", "work", "team", 10, None, 1)

few = st.integers(0, 12)
small = st.integers(0, 3)
modes = st.sampled_from(["enforce", "enforce", "shadow"])
agents = st.builds(
    lambda budget, most, status: dataclasses.replace(
        AGENT, monthly_budget=budget, per_action_limit=most, status=status
    ),
    few,
    st.none() | few,
    st.sampled_from(["active"] * 9 + ["paused"]),
)
budgets = st.builds(Budget, st.just("b"), few, st.sampled_from(["minute", "day", "total"]), st.just(UTC), mode=modes)
limits = st.builds(Limit, st.just("l"), requests=small, mode=modes) | st.builds(
    Limit, st.just("l"), concurrent=small, mode=modes
)
policies = st.builds(
    lambda budgets, limits, mode: Policy(
        "hash",
        mode=mode,
        budgets=tuple([dataclasses.replace(each, name=f"b{n}") for n, each in enumerate(budgets)]),
        limits=tuple([dataclasses.replace(each, name=f"l{n}") for n, each in enumerate(limits)]),
    ),
    st.lists(budgets, max_size=3),
    st.lists(limits, max_size=2),
    modes,
)


@settings(max_examples=400, deadline=None)
@given(policies, agents, st.none() | small, st.data())
def test_there_is_room_for_a_call_exactly_where_no_check_fails(
    policy: Policy, agent: Agent, estimate: int | None, data: st.DataObject
) -> None:
    rules, book = Rulebook(policy), Book()
    plan = rules.plan(book, agent, "openai", None, AT)
    for name, group, start, end in plan.holds:
        if data.draw(st.booleans()):
            book.balances[name, group, start] = Balance(end, data.draw(st.integers(-3, 6)), data.draw(small))
    for limit in plan.limits:
        if limit.end_ms:
            book.rates[limit[:3]] = (data.draw(small), limit.end_ms)
        else:
            book.flying[limit[:2]] = data.draw(small)
    matched = rules.match(agent, "openai", None)
    standings, counts = rules.standings(book, matched, AT), rules.counts(book, matched, AT)
    decision = decide(
        paused=agent.status == "paused",
        estimate=estimate,
        per_action_limit=agent.per_action_limit,
        standings=standings,
        counts=counts,
        mode=policy.mode,
        now_ms=AT,
    )
    room = plan.room(book, estimate)
    assert (room is not None) == (decision.denied is None and not decision.softened)
    if room is not None:
        available = [each.budget.amount - each.spent - each.reserved for each in standings]
        enforced = [left for left, each in zip(available, standings, strict=True) if each.budget.mode == "enforce"]
        assert room == min(enforced, default=ENDLESS)


def test_a_plan_holds_while_its_periods_run_and_its_agent_stays_as_it_is() -> None:
    rules, book = Rulebook(Policy("hash", limits=(Limit("rpm", requests=1),))), Book()
    plan = rules.plan(book, AGENT, "openai", None, AT)
    assert rules.plan(book, AGENT, "openai", None, AT + MINUTE - 1) is plan
    later = rules.plan(book, AGENT, "openai", None, AT + MINUTE)
    assert [limit.start_ms for limit in (*plan.limits, *later.limits)] == [AT, AT + MINUTE]
    poorer = dataclasses.replace(AGENT, monthly_budget=1)
    assert rules.plan(book, poorer, "openai", None, AT + MINUTE).room(book, 2) is None
    assert rules.plan(book, AGENT, "openai", None, AT + MINUTE).room(book, 2) == 10
