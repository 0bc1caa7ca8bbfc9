"""Many callers at once, and long random runs: no call is admitted that does not fit, and the sums are exact."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter

import pytest

from policy.money import NANO
from proxy.ledger.port import ActionFilter, Admission, Denial, IdempotencyConflict, Recorded, Settlement
from tests.contract.conftest import Worlds
from tests.contract.engines import Engine
from tests.contract.policies import agent, budget, policy
from tests.contract.world import World, call

OPERATIONS = int(os.environ.get("AGENT_LEDGER_OPERATIONS", "100000"))


@pytest.mark.parametrize("durability", ["normal", "strict"])
@pytest.mark.parametrize("estimate", [1, 3, 7, 1000])
async def test_promise_1_hazard_35_a_thousand_calls_race_for_the_last_dollar(
    world: Worlds, estimate: int, durability: str
) -> None:
    policies = {"first": policy(agent("a"), agent("b"), budget("shared", "0.000001", "total"), durability=durability)}
    async with world(policies) as w:
        answers = await asyncio.gather(*(w.ledger.authorize(call("ab"[n % 2], estimate)) for n in range(1000)))
        admitted = [answer for answer in answers if isinstance(answer, Admission)]
        denied = Counter(answer.verdict.reason for answer in answers if isinstance(answer, Denial))
        assert len(admitted) == 1000 // estimate
        assert sum(denied.values()) == 1000 - 1000 // estimate
        assert set(denied) <= {"budget_reserved"}
        endings = (w.ledger.settle(each.action_id, Settlement(None, "success")) for each in admitted)
        assert sum(action.cost for action in await asyncio.gather(*endings)) == 1000 // estimate * estimate
        assert isinstance(await w.ledger.authorize(call("a", 1001)), Denial)


async def test_promise_1_calls_that_settle_as_others_come(world: Worlds) -> None:
    """At every admission spent + reserved ≤ amount: of each budget, with charges up to the reservation."""
    policies = {"first": policy(agent("a"), agent("b"), budget("shared", "0.00005", "total"))}
    async with world(policies) as w:
        chance = random.Random(7)

        async def act(n: int) -> None:
            answer = await w.ledger.authorize(call("ab"[n % 2], chance.randint(1, 900)))
            shared = w.ledger.standings("a")[1]
            assert shared.spent + shared.reserved <= shared.budget.amount
            if isinstance(answer, Admission):
                await asyncio.sleep(0)
                charge = chance.randint(0, answer.reserved)
                await w.ledger.settle(answer.action_id, Settlement(charge, "success"))

        await asyncio.gather(*(act(n) for n in range(1000)))
        assert w.ledger.standings("a")[1].reserved == 0
        assert (await w.ledger.spend([], None, None))[0]["cost"] == w.ledger.standings("a")[1].spent


async def test_promise_3_a_hundred_endings_of_one_reservation(world: Worlds) -> None:
    async with world({"first": policy()}) as w:
        admitted = await w.ledger.authorize(call())
        endings = [w.ledger.settle(admitted.action_id, Settlement(NANO, "success")) for _ in range(50)]
        endings += [w.ledger.void(admitted.action_id, Settlement(None, "failure")) for _ in range(50)]
        results = await asyncio.gather(*endings, return_exceptions=True)
        assert sorted({type(result).__name__ for result in results}) == ["Action", "NotOpen"]
        assert sum(not isinstance(result, Exception) for result in results) == 1
        assert w.ledger.standings("a")[0].spent == NANO


@pytest.mark.parametrize("durability", ["normal", "strict"])
async def test_promise_6_one_key_used_a_hundred_times_at_once_acts_once(world: Worlds, durability: str) -> None:
    async with world({"first": policy(durability=durability)}) as w:
        attempts = (w.ledger.record(call(), "success", ("key", "digest")) for _ in range(100))
        results = await asyncio.gather(*attempts, return_exceptions=True)
        acted = [each for each in results if isinstance(each, Recorded) and not each.replayed]
        conflicts = [each for each in results if isinstance(each, IdempotencyConflict)]
        assert len(acted) == 1
        assert all(conflict.in_flight for conflict in conflicts)
        assert len((await w.ledger.actions(ActionFilter())).items) == 1
        assert (await w.ledger.record(call(), "success", ("key", "digest"))).replayed


async def test_a_caller_that_goes_away_before_its_reservation_is_synced_leaves_none(world: Worlds) -> None:
    async with world({"first": policy(durability="strict")}) as w:
        task = asyncio.create_task(w.ledger.authorize(call()))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert w.ledger.reservations() == []
        assert w.ledger.standings("a")[0].reserved == 0


async def test_hazard_44_budgets_opened_while_calls_are_settled_miss_none_and_count_none_twice(world: Worlds) -> None:
    """A reload asks what was spent while spending goes on."""
    agents = [agent(each) for each in "abcd"]
    policies = {f"p{n}": policy(*agents, budget("all", str(n), "month"), budget(f"b{n}", "50")) for n in range(20, 40)}
    policies["first"] = policy(*agents)
    async with world({"first": policies["first"]} | policies) as w:
        stop = asyncio.Event()

        async def spend(agent_id: str) -> None:
            chance = random.Random(agent_id)
            while not stop.is_set():
                answer = await w.ledger.authorize(call(agent_id, chance.randint(1, 99)))
                await asyncio.sleep(0.0005)
                await w.ledger.settle(answer.action_id, Settlement(chance.randint(1, 150), "success"))

        spenders = [asyncio.create_task(spend(agent_id)) for agent_id in "abcd" for _ in range(3)]
        try:
            for n in range(20, 40):
                await w.do_use(f"p{n}")
                await asyncio.sleep(0.005)
        finally:
            stop.set()
            await asyncio.gather(*spenders)
        total = (await w.ledger.spend([], None, None))[0]["cost"]
        assert total > 0
        standings = {held.budget.name: held for held in w.ledger.standings("a")}
        assert (standings["all"].spent, standings["all"].reserved) == (total, 0)
        assert (standings["b39"].spent, standings["b39"].reserved) == (total, 0)


async def test_hazard_46_the_sum_of_rows_is_the_balance_after_random_operations(world: Worlds, engine: Engine) -> None:
    """To the nano-dollar, in each budget and group; and again after a restart. AGENT_LEDGER_OPERATIONS=1000000 is the
    hazard's own number."""
    parts = [agent(each, "1000") for each in "abc"]
    first = policy(*parts, budget("all", "100000", "total"), budget("up", "100000", "month", each="upstream"))
    async with world({"first": first}) as w:
        await _operate(w, OPERATIONS, random.Random(46))
        for restart in (False, True):
            if restart:
                await w.restart()
            by_agent = {row["agent"]: row["cost"] for row in await w.ledger.spend(["agent"], None, None)}
            by_upstream = {row["upstream"]: row["cost"] for row in await w.ledger.spend(["upstream"], None, None)}
            for agent_id in "abc":
                own, everything, *upstreams = w.ledger.standings(agent_id)
                assert own.spent == by_agent[agent_id]
                assert everything.spent == sum(by_agent.values())
                assert {held.group: held.spent for held in upstreams} == by_upstream
        await w.stop()
        assert engine.problems(w.data) == ()


async def _operate(w: World, operations: int, chance: random.Random) -> None:
    held: list[str] = []
    for n in range(operations):
        if n % 100 == 0:
            await asyncio.sleep(0)
        what = call(chance.choice("abc"), chance.randint(0, 10**7), upstream=chance.choice(["x", "y"]))
        kind = chance.random()
        if kind < 0.45:
            answer = await w.ledger.authorize(what)
            if isinstance(answer, Admission):
                held.append(answer.action_id)
        elif kind < 0.85 and held:
            charge = chance.choice([None, 0, chance.randint(0, 2 * 10**7)])
            action_id = held.pop(chance.randrange(len(held)))
            await w.ledger.settle(action_id, Settlement(charge, "success", unconfirmed=charge is None))
        elif kind < 0.9 and held:
            await w.ledger.void(held.pop(chance.randrange(len(held))), Settlement(None, "failure"))
        else:
            await w.ledger.record(what, "success")
    for action_id in held:
        await w.ledger.settle(action_id, Settlement(1, "success"))
