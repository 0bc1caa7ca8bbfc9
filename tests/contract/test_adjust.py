"""Adjustments: rows of their own, in every budget whose period still runs, and judged by nothing."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy.model import Policy
from policy.money import NANO
from proxy.ledger.port import Action, ActionFilter, Adjustment, AgentUnknown, IdempotencyConflict, Recorded
from tests.contract.conftest import Worlds
from tests.contract.policies import agent, budget, policy
from tests.contract.world import Open, World, call, ms

TWO = {
    "first": policy(
        agent("a"),
        agent("b", owner_id="other"),
        budget("day", "50", each="agent"),
        budget("week", "80", "week", owner_ids=("team",)),
        budget("openai", "60", "month", upstreams=("openai",)),
        budget("all", "1000", "total"),
        thresholds=(50,),
    )
}


async def adjust(w: World, amount: float, agent_id: str = "a", key: str | None = None, **more: Any) -> Recorded:
    adjustment = Adjustment(agent_id, round(amount * NANO), more.pop("reason", "invoice 7"), **more)
    return await w.ledger.adjust(adjustment, (key, "digest") if key else None)


def spent(w: World, agent_id: str = "a") -> dict[str, float]:
    return {each.budget.name: each.spent / NANO for each in w.ledger.standings(agent_id)}


async def test_an_adjustment_is_a_row_that_says_why(world: Worlds) -> None:
    async with world(TWO) as w:
        at = ms("2026-10-09T08:00:00Z")
        recorded = await adjust(w, -1.25, target="openai:gpt-4o", at=at, reason='credit "Ü"\n\ud800')
        action = recorded.action
        assert action is not None
        assert action == Action(
            id=action.id,
            agent_id="a",
            action_type="adjust",
            target="openai:gpt-4o",
            cost=-1_250_000_000,
            outcome="success",
            created_at=at,
            metadata=action.metadata,
            ending="adjusted",
            upstream="openai",
            policy_hash="hash",
            owner_id="team",
            role="work",
        )
        assert json.loads(action.metadata or "") == {"reason": 'credit "Ü"\n\ud800'}
        assert await w.ledger.action(action.id) == action
        await w.restart()
        assert await w.ledger.action(action.id) == action


async def test_it_counts_where_its_date_falls_into_a_period_that_still_runs(world: Worlds) -> None:
    async with world(TWO) as w:  # a Saturday
        await adjust(w, 1)
        assert spent(w) == {"monthly_budget": 1, "day": 1, "week": 1, "openai": 0, "all": 1}
        await adjust(w, 2, target="openai:gpt-4o", at=ms("2026-10-09T23:59:59.999Z"))
        assert spent(w) == {"monthly_budget": 3, "day": 1, "week": 3, "openai": 2, "all": 3}
        await adjust(w, 4, target="openai:gpt-4o", at=ms("2026-10-10T00:00:00Z"))
        assert spent(w) == {"monthly_budget": 7, "day": 5, "week": 7, "openai": 6, "all": 7}
        await adjust(w, 8, target="anthropic:claude", at=ms("2026-10-04T23:59:59Z"))
        assert spent(w) == {"monthly_budget": 15, "day": 5, "week": 7, "openai": 6, "all": 15}
        await adjust(w, 16, at=ms("2026-09-30T23:59:59Z"))
        assert spent(w) == {"monthly_budget": 15, "day": 5, "week": 7, "openai": 6, "all": 31}
        await adjust(w, 32, "b", at=0)
        assert spent(w, "b") == {"monthly_budget": 0, "day": 0, "openai": 6, "all": 63}
        await w.restart()
        assert spent(w) == {"monthly_budget": 15, "day": 5, "week": 7, "openai": 6, "all": 63}


async def test_lists_and_totals_show_it_at_its_date(world: Worlds) -> None:
    async with world(TWO) as w:
        await w.ledger.record(call("a", 5 * NANO), "success")
        await adjust(w, -2, at=ms("2026-09-30T10:00:00Z"), target="openai:gpt-4o")
        await adjust(w, 3, at=ms("2026-10-01T00:00:00Z"))
        assert [row.cost / NANO for row in (await w.ledger.actions(ActionFilter())).items] == [5, 3, -2]
        assert [action.cost / NANO async for action in w.ledger.export(ActionFilter())] == [-2, 3, 5]
        months = await w.ledger.spend(["month"], None, None)
        assert [(row["month"], row["cost"] / NANO) for row in months] == [("2026-09", -2), ("2026-10", 8)]
        targets = await w.ledger.spend(["target", "upstream"], ms("2026-10-01T00:00:00Z"), None)
        assert [(row["target"], row["upstream"]) for row in targets] == [("adjust", ""), ("openai:catalog", "openai")]


async def test_a_credit_makes_room_even_below_nothing_spent(world: Worlds) -> None:
    async with world(TWO) as w:
        await w.run("record a 50.00 → ok 50.00")
        await adjust(w, -70)
        assert spent(w)["day"] == -20
        await w.run("""
            preview a 70.00 upstream tools → ok
            authorize a 70.01 upstream tools → budget_exceeded day
            authorize a 70.00 upstream tools as x → ok 0.00
            authorize a 0.000000001 upstream tools → budget_reserved day
            settle x 70.00 → 70.00
            balance day a → 50.00+0.00
            restart
            balance monthly_budget a → 50.00+0.00
        """)


async def test_no_budget_limit_or_pause_judges_it_and_it_pauses_nobody(world: Worlds) -> None:
    async with world(TWO) as w:
        await w.run("patch a status=paused → paused")
        await adjust(w, 5000)
        await w.run("status a → paused")
        await w.run("patch a status=active → active")
        await adjust(w, 5000, "b")
        await w.run("status b → active")
        assert spent(w)["monthly_budget"] == 5000
        await w.run("authorize a 1.00 → budget_exceeded monthly_budget")


async def test_it_raises_the_thresholds_that_it_reaches_once(world: Worlds) -> None:
    async with world(TWO) as w:
        await adjust(w, 24.99)
        await w.run("alerts →")
        await adjust(w, 0.01)
        await w.run("alerts → budget_threshold")
        await adjust(w, -10)
        await adjust(w, 10)
        await w.run("alerts →")
        await adjust(w, 100, at=ms("2026-10-09T12:00:00Z"))
        await w.run("alerts → budget_threshold budget_threshold")  # of the month and the week: the day is over


async def test_an_invoice_comes_after_its_agent_has_gone(world: Worlds) -> None:
    async with world({"first": policy(agent("a")), "gone": policy(agent("b"))}) as w:
        await w.run("""
            use gone
            status a → archived
        """)
        assert (await adjust(w, 3)).action is not None
        assert (await w.ledger.spend(["agent"], None, None)) == [{"agent": "a", "cost": 3 * NANO, "actions": 1}]
        with pytest.raises(AgentUnknown):
            await adjust(w, 3, "nobody")


async def test_what_lies_in_the_future_is_refused(world: Worlds) -> None:
    async with world(TWO) as w:
        for at in (w.at + 1, -1):
            with pytest.raises(ValueError, match="now or earlier"):
                await adjust(w, 1, at=at)
        assert (await w.ledger.actions(ActionFilter())).items == []


async def test_promise_6_a_key_replays_its_adjustment(world: Worlds) -> None:
    async with world(TWO) as w:
        first = await adjust(w, 1, key="k")
        for _ in range(2):
            assert await adjust(w, 1, key="k") == replace(first, replayed=True)
            await w.restart()
        with pytest.raises(IdempotencyConflict):
            await w.ledger.adjust(Adjustment("a", 2, "r"), ("k", "another digest"))
        assert spent(w)["monthly_budget"] == 1
        w.at += 86_400_000
        assert (await adjust(w, 1, key="k")).replayed is False


async def test_promise_6_an_agent_cannot_take_the_operators_key(world: Worlds) -> None:
    async with world(TWO) as w:
        await w.ledger.record(call("a", NANO), "success", ("invoice-7", "its own digest"))
        recorded = await adjust(w, 2, key="invoice-7")
        assert (recorded.replayed, spent(w)["monthly_budget"]) == (False, 3)
        again = await w.ledger.record(call("a", NANO), "success", ("invoice-7", "its own digest"))
        assert again.replayed


# -- promise 12 --------------------------------------------------------------------------------------------------------

SCOPES: tuple[dict[str, Any], ...] = (
    {"each": "agent"}, {"each": "upstream"}, {"upstreams": ("x",)}, {"owner_ids": ("team",)}, {"roles": ("work",)}, {},
)  # fmt: skip
PERIODS = ("hour", "day", "week", "month", "total")


def scoped(suffix: str) -> Policy:
    budgets = (
        budget(f"{period}-{number}{suffix}", "1", period, **scope)  # type: ignore[arg-type]
        for period in PERIODS
        for number, scope in enumerate(SCOPES)
    )
    return policy(agent("a"), agent("b", owner_id="other"), *budgets)


back = st.integers(0, 40 * 86_400)
step = st.one_of(
    st.tuples(st.just("adjust"), st.sampled_from("ab"), st.integers(-9, 9), st.sampled_from("xy-"), back),
    st.tuples(st.just("record"), st.sampled_from("ab"), st.integers(0, 9), st.sampled_from("xy"), st.just(0)),
    st.tuples(st.just("pass"), st.just("a"), st.just(0), st.just("x"), st.integers(0, 2 * 86_400)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(step, min_size=4, max_size=15))
def test_promise_12_a_budget_opened_later_adds_up_what_those_before_it_held(
    engine: Open, steps: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def run() -> None:
        w = World(engine, tmp_path_factory.mktemp("data"), {"first": scoped(""), "again": scoped("-again")})
        await w.start()
        for kind, agent_id, amount, upstream, seconds in steps:
            if kind == "pass":
                w.at += seconds * 1000
            elif kind == "record":
                await w.ledger.record(call(agent_id, amount, upstream=upstream, price=None), "success")
            else:
                target = None if upstream == "-" else f"{upstream}:m"
                await w.ledger.adjust(Adjustment(agent_id, amount, "r", target, w.at - seconds * 1000))
        before = held(w, "")
        await w.do_use("again")
        assert held(w, "-again") == before
        await w.restart()
        assert held(w, "-again") == before
        await w.stop()

    asyncio.run(run())


def held(w: World, suffix: str) -> dict[tuple[str, str], int]:
    """Without what is 0: a group that nothing was spent in need not be known."""
    return {
        (each.budget.name.removesuffix(suffix), each.group): each.spent
        for agent_id in "ab"
        for each in w.ledger.standings(agent_id)
        if each.spent
    }
