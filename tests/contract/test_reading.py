"""What a ledger answers: rows, lists, totals, alerts; each sees everything recorded before it was asked."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import structs

from policy.money import NANO
from proxy.ledger.port import (
    Action,
    ActionFilter,
    Adjustment,
    Agent,
    Key,
    LedgerError,
    LedgerUnavailable,
    Page,
    Settlement,
)
from tests.contract.conftest import Worlds
from tests.contract.policies import agent, budget, policy
from tests.contract.world import World, call, ms

ONE = {"first": policy(agent("a"), agent("b"))}


async def rows(world: World, **query: Any) -> list[Action]:
    return list((await world.ledger.actions(ActionFilter(**query))).items)


async def test_a_row_keeps_all_that_was_said_of_the_call(world: Worlds) -> None:
    async with world(ONE) as w:
        admitted = await w.ledger.authorize(
            structs.replace(call(estimate=3 * NANO, metadata='{"k": "ü\\ud800"}'), rates={"input_mtok": "2.5"})
        )
        usage = {"input_tokens": 7, "seconds": Decimal("1.10"), "units": Decimal(3)}
        settled = await w.ledger.settle(
            admitted.action_id,
            Settlement(2 * NANO, "success", usage, True, ("odd",), upstream_status=200, duration_ms=12),
        )
        expected = Action(
            id=admitted.action_id,
            agent_id="a",
            action_type="llm",
            target="openai:catalog",
            cost=2 * NANO,
            outcome="success",
            created_at=admitted.at,
            metadata='{"k": "ü\\ud800"}',
            ending="settled",
            reserved=3 * NANO,
            usage=usage,
            rates={"input_mtok": "2.5"},
            upstream="openai",
            price="catalog",
            policy_hash="hash",
            upstream_status=200,
            duration_ms=12,
            unconfirmed=True,
            flags=("odd",),
            owner_id="team",
            role="work",
        )
        assert settled == expected
        assert await w.ledger.action(settled.id) == expected
        await w.restart()
        assert await w.ledger.action(settled.id) == expected
        assert [str(value) for value in (await w.ledger.action(settled.id)).usage.values()] == ["7", "1.10", "3.0"]


async def test_a_call_in_flight_is_pending_and_among_the_reservations(world: Worlds) -> None:
    async with world(ONE) as w:
        first = await w.ledger.authorize(call())
        second = await w.ledger.authorize(call("b"))
        assert (await w.ledger.action(first.action_id)).outcome == "pending"
        assert [(held.action_id, held.agent_id, held.reserved) for held in w.ledger.reservations()] == [
            (first.action_id, "a", NANO),
            (second.action_id, "b", NANO),
        ]
        assert await rows(w) == []
        await w.ledger.void(first.action_id, Settlement(None, "failure"))
        assert [held.action_id for held in w.ledger.reservations()] == [second.action_id]
        assert [row.ending for row in await rows(w)] == ["voided"]
        assert await w.ledger.action("act_none") is None


async def test_identical_denials_within_a_minute_are_one_action_with_a_count(world: Worlds) -> None:
    async with world({"first": policy(agent(limit="0.50"))}) as w:
        denials = [await w.ledger.authorize(call()) for _ in range(5)]
        assert len({denial.action_id for denial in denials}) == 1
        await w.ledger.authorize(call(target="other:thing"))
        assert [(row.target, row.count, row.cost, row.reason) for row in await rows(w, outcome="denied")] == [
            ("other:thing", 1, 0, "per_action_limit_exceeded"),
            ("openai:catalog", 5, 0, "per_action_limit_exceeded"),
        ]
        assert (await w.ledger.action(denials[0].action_id)).count == 5
        assert (await w.ledger.spend([], None, None))[0]["actions"] == 6
        w.at += 60_000
        assert (await w.ledger.authorize(call())).action_id != denials[0].action_id
        await w.restart()
        assert [row.count for row in await rows(w)] == [1, 1, 5]


async def test_lists_are_newest_first_filtered_and_paged_without_gap_or_repeat(world: Worlds) -> None:
    async with world(ONE) as w:
        for n in range(23):
            w.at += 1000 * (n % 3)  # some of one moment
            await w.ledger.record(call("ab"[n % 2], n), "failure" if n % 5 == 0 else "success")
        everything = await rows(w, limit=1000)
        assert [row.cost for row in everything] == list(range(22, -1, -1))
        paged: list[Action] = []
        cursor = None
        while True:
            page = await w.ledger.actions(ActionFilter(limit=4, cursor=cursor))
            paged += page.items
            await w.ledger.record(call("b", 99), "success")  # what is new is not in the pages of before
            if (cursor := page.next_cursor) is None:
                break
        assert paged == everything
        since, until = everything[10].created_at, everything[3].created_at
        for query, match in [
            ({"agent_id": "a"}, lambda row: row.agent_id == "a"),
            ({"outcome": "failure"}, lambda row: row.outcome == "failure"),
            ({"agent_id": "b", "outcome": "failure"}, lambda row: row.agent_id == "b" and row.outcome == "failure"),
            ({"since": since, "until": until}, lambda row: since <= row.created_at < until),
            ({"agent_id": "nobody"}, lambda row: False),
        ]:
            found = [row for row in await rows(w, limit=1000, **query) if row.cost != 99]
            assert found == [row for row in everything if match(row)], query


@pytest.mark.parametrize("cursor", ["", "x", "1", "1.", "1.2.3", "-1.2", "1.2\n", "1" * 40 + ".1", "٣.١"])
async def test_a_cursor_that_no_page_gave_is_refused(world: Worlds, cursor: str) -> None:
    async with world(ONE) as w:
        with pytest.raises(ValueError, match="cursor"):
            await w.ledger.actions(ActionFilter(cursor=cursor))


async def test_what_is_recorded_is_followed_in_its_order_each_once_across_a_restart(world: Worlds) -> None:
    async with world(ONE) as w:
        await w.ledger.record(call("a", 1), "success")
        long, killed = await w.ledger.authorize(call("a", 2)), await w.ledger.authorize(call("b", 3))
        start = await w.ledger.recorded(ActionFilter(), None)
        assert start.items == []

        async def followed(place: str | None, **query: Any) -> list[int]:
            costs: list[int] = []
            while True:
                page = await w.ledger.recorded(ActionFilter(limit=2, **query), place)
                place = page.next_cursor
                costs += [row.cost for row in page.items]
                if len(page.items) < 2:
                    last.append(page)
                    return costs

        last: list[Page] = []
        w.at += 5000
        await w.ledger.record(call("b", 4), "failure")
        await w.ledger.settle(long.action_id, Settlement(2, "success"))
        await w.ledger.adjust(Adjustment("a", -5, "credit", at=ms("2026-10-01T00:00:00Z")))
        assert await followed(start.next_cursor) == [4, 2, -5]  # by authorization or date it would be -5, 2, 4
        assert await followed(last[-1].next_cursor) == []
        place = last[-1].next_cursor
        await w.restart()  # which ends what was in flight
        await w.ledger.record(call("a", 6), "success")
        assert await followed(place) == [3, 6]
        assert await w.ledger.action(killed.action_id) is not None
        for query, costs in [
            ({"agent_id": "a"}, [2, -5, 6]),
            ({"outcome": "failure"}, [4, 3]),
            ({"agent_id": "b", "outcome": "success"}, []),
            ({"since": w.at}, [4, 6]),
            ({"until": w.at}, [2, -5, 3]),
            ({"agent_id": "nobody"}, []),
        ]:
            assert await followed(start.next_cursor, **query) == costs, query
            assert await followed(last[-1].next_cursor, **query) == []


@pytest.mark.parametrize("place", ["", "x", "-1", "1\n", "f" * 16, "٣", "fffffff"])
async def test_a_place_that_the_ledger_has_not_come_to_is_refused(world: Worlds, place: str) -> None:
    async with world(ONE) as w:
        with pytest.raises(ValueError, match="place"):
            await w.ledger.recorded(ActionFilter(), place)


async def test_export_is_oldest_first_and_ends_with_what_was_recorded_before_it(world: Worlds) -> None:
    async with world(ONE) as w:
        for n in range(2100):
            await w.ledger.record(call("ab"[n % 2], n + 1), "success")
        exported = []
        async for action in w.ledger.export(ActionFilter(limit=1, agent_id="a")):
            exported.append(action.cost)
            if len(exported) % 500 == 1:
                await w.ledger.record(call("a", 5000), "success")
                assert (await rows(w, limit=1))[0].cost == 5000
        assert exported == list(range(1, 2101, 2))


async def test_spend_adds_up_by_every_group(world: Worlds) -> None:
    async with world({"first": policy(agent("a"), agent("b", owner_id="other", role="rest"))}) as w:
        await w.do_clock("2026-11-10T12:59:59Z")
        await w.ledger.record(call("a", 3), "success")
        await w.do_clock("2026-12-01T00:00:00Z")
        await w.ledger.record(call("b", 4, upstream="tools", price="search"), "failure")
        await w.ledger.record(call("a", 5), "success")
        ledger = w.ledger
        assert await ledger.spend([], None, None) == [{"cost": 12, "actions": 3}]
        assert await ledger.spend(["agent"], None, None) == [
            {"agent": "a", "cost": 8, "actions": 2},
            {"agent": "b", "cost": 4, "actions": 1},
        ]
        assert await ledger.spend(["month", "owner_id"], None, None) == [
            {"month": "2026-11", "owner_id": "team", "cost": 3, "actions": 1},
            {"month": "2026-12", "owner_id": "other", "cost": 4, "actions": 1},
            {"month": "2026-12", "owner_id": "team", "cost": 5, "actions": 1},
        ]
        for group, values in {
            "role": {"work", "rest"},
            "upstream": {"openai", "tools"},
            "price": {"catalog", "search"},
            "target": {"openai:catalog", "tools:search"},
            "outcome": {"success", "failure"},
            "hour": {"2026-11-10T12:00Z", "2026-12-01T00:00Z"},
            "day": {"2026-11-10", "2026-12-01"},
        }.items():
            found = await ledger.spend([group], None, None)
            assert {row[group] for row in found} == values
            assert sum(row["cost"] for row in found) == 12
        assert await ledger.spend([], ms("2026-12-01T00:00:00Z"), None) == [{"cost": 9, "actions": 2}]
        assert await ledger.spend([], None, ms("2026-12-01T00:00:00Z")) == [{"cost": 3, "actions": 1}]
        assert await ledger.spend([], 0, 1) == [{"cost": 0, "actions": 0}]
        with pytest.raises(ValueError, match="can't group by"):
            await ledger.spend(["agent; DROP TABLE actions"], None, None)


async def test_sums_past_64_bits_do_not_overflow(world: Worlds) -> None:
    async with world(ONE) as w:
        for _ in range(12):
            admitted = await w.ledger.authorize(call(estimate=0))
            await w.ledger.settle(admitted.action_id, Settlement(10**18 + 1, "success"))
        assert (await w.ledger.spend([], None, None))[0]["cost"] == 12 * 10**18 + 12


async def test_alerts_name_amounts_budget_and_period_and_are_acknowledged_once(world: Worlds) -> None:
    async with world({"first": policy(agent("a"), budget("day", "10", owner_ids=("team",)), thresholds=(80,))}) as w:
        await w.ledger.record(call(estimate=8 * NANO), "success")
        await w.ledger.authorize(call(estimate=93 * NANO))
        exceeded, threshold = await w.ledger.alerts()
        assert threshold.message == "budget day reached 80%: $8.00 of $10.00 spent in the day from 2026-10-10"
        assert exceeded.message == (
            "budget monthly_budget (a) exceeded: $8.00 of $100.00 spent in the month from 2026-10-01; "
            "a call of $93.00 was denied and the agent paused"
        )
        assert w.ledger.agent("a").paused_reason == (
            "budget_exceeded: monthly_budget, $8.00 of $100.00 spent in the month from 2026-10-01"
        )
        assert (threshold.type, threshold.agent_id, threshold.acknowledged_at) == ("budget_threshold", "a", None)
        w.at += 5000
        acknowledged = await w.ledger.acknowledge(threshold.id)
        assert acknowledged == replace(threshold, acknowledged_at=w.at)
        w.at += 5000
        assert await w.ledger.acknowledge(threshold.id) == acknowledged
        assert await w.ledger.acknowledge("alr_none") is None
        assert await w.ledger.alerts() == [exceeded, acknowledged]
        await w.restart()
        assert await w.ledger.alerts() == [exceeded, acknowledged]
        assert await w.ledger.alerts("b") == []
        assert await w.ledger.alerts("a", limit=1) == [exceeded]


async def test_open_alerts_are_listed_and_counted_until_they_are_acknowledged(world: Worlds) -> None:
    async with world({"first": policy(agent("a"), agent("b"))}) as w:
        for name in "aba":
            w.at += 3_600_000
            await w.ledger.record(call(name), "failure")
        third, second, first = await w.ledger.alerts(open_only=True)
        assert ([third, second, first], w.ledger.open_alerts()) == (list(await w.ledger.alerts()), 3)
        acknowledged = await w.ledger.acknowledge(third.id)
        assert (await w.ledger.alerts(open_only=True), w.ledger.open_alerts()) == ([second, first], 2)
        assert await w.ledger.alerts("a", open_only=True) == [first]
        assert await w.ledger.alerts(limit=1, open_only=True) == [second]
        assert await w.ledger.alerts("a") == [acknowledged, first]
        await w.restart()
        assert (await w.ledger.alerts(open_only=True), w.ledger.open_alerts()) == ([second, first], 2)


async def test_spend_of_one_agent_and_by_the_days_of_the_policys_zone(world: Worlds) -> None:
    """New York's clocks go back on 1 November at 06:00 UTC: its hour from 01:00 comes twice."""
    zone = ZoneInfo("America/New_York")
    async with world({"first": policy(agent("a"), agent("b"), zone=zone), "utc": policy(agent("a"), agent("b"))}) as w:
        for at, name, cost in [("01T03:59", "a", 1), ("01T05:30", "a", 2), ("01T06:30", "b", 4), ("02T04:59", "a", 8)]:
            await w.do_clock(f"2026-11-{at}:00Z")
            await w.ledger.record(call(name, cost), "success")
        await w.ledger.adjust(Adjustment("a", 16, "late", at=ms("2026-11-01T04:30:00Z")))
        assert [(row["month"], row["cost"]) for row in await w.ledger.spend(["month"], None, None)] == [
            ("2026-10", 1),
            ("2026-11", 30),
        ]
        by_day = {"2026-10-31": 1, "2026-11-01": 30}
        assert {row["day"]: row["cost"] for row in await w.ledger.spend(["day"], None, None)} == by_day
        assert {row["day"]: row["cost"] for row in await w.ledger.spend(["day"], None, None, "b")} == {"2026-11-01": 4}
        assert [(row["hour"], row["cost"]) for row in await w.ledger.spend(["hour"], None, None)] == [
            ("2026-10-31T23:00-04:00", 1),
            ("2026-11-01T00:00-04:00", 16),
            ("2026-11-01T01:00-04:00", 2),
            ("2026-11-01T01:00-05:00", 4),
            ("2026-11-01T23:00-05:00", 8),
        ]
        assert await w.ledger.spend([], None, None, "nobody") == [{"cost": 0, "actions": 0}]
        await w.do_use("utc")
        by_day = {"2026-11-01": 23, "2026-11-02": 8}
        assert {row["day"]: row["cost"] for row in await w.ledger.spend(["day"], None, None)} == by_day


async def test_agents_are_made_found_by_key_changed_and_archived(world: Worlds) -> None:
    async with world({"first": policy(agent("a", key="alk_file"))}) as w:
        w.at += 1
        made = await w.ledger.create_agent(Agent("", "Bot", "Role", "me", 5 * NANO, None, 0, keys=(Key("ab" * 32),)))
        assert made.id.startswith("agt_")
        assert made.created_at == w.at
        assert [found.id for found in w.ledger.agents()] == ["a", made.id]
        assert w.ledger.agent_by_key("ab" * 32) == made
        (file_key,) = w.ledger.agent("a").keys
        assert w.ledger.agent_by_key(file_key.digest).id == "a"
        with pytest.raises(LedgerError, match="already"):
            await w.ledger.create_agent(made)
        changed = await w.ledger.change_agent(made.id, {"name": "Other"})
        assert (changed.name, changed.keys) == ("Other", made.keys)
        await w.restart()
        assert w.ledger.agent_by_key("ab" * 32) == changed
        await w.ledger.change_agent(made.id, {"archived": True})
        assert w.ledger.agent_by_key("ab" * 32) is None
        assert w.ledger.agent(made.id).archived
        assert [found.id for found in w.ledger.agents()] == ["a"]
        back = await w.ledger.change_agent(made.id, {"archived": False})
        assert w.ledger.agent_by_key("ab" * 32) == back
        await w.do_use("first")
        assert not w.ledger.agent(made.id).archived


async def test_an_unmanaged_pause_says_who_paused_it(world: Worlds) -> None:
    async with world(ONE) as w:
        assert (await w.ledger.change_agent("a", {"status": "paused"})).paused_reason == "paused by operator"
        assert (await w.ledger.change_agent("a", {"status": "active"})).paused_reason is None
        changed = await w.ledger.change_agent("a", {"status": "paused", "paused_reason": "on leave"})
        assert changed.paused_reason == "on leave"


async def test_standings_show_every_budget_that_counts_the_agent(world: Worlds) -> None:
    parts = (
        budget("own", "10", each="agent"),
        budget("others", "10", agents=("b",)),
        budget("up", "10", each="upstream"),
        budget("searches", "10", prices=("search",)),
    )
    async with world({"first": policy(agent("a"), agent("b"), *parts)}) as w:
        await w.ledger.record(call("a", 3, upstream="tools"), "success")
        standings = [(held.budget.name, held.group, held.spent) for held in w.ledger.standings("a")]
        assert standings == [("monthly_budget", "a", 3), ("own", "a", 3), ("up", "tools", 3), ("searches", "", 0)]
        assert w.ledger.standings("nobody") == ()


async def test_promise_8_nothing_is_admitted_before_a_policy_or_after_the_end(world: Worlds) -> None:
    async with world(ONE) as w:
        ledger = w.ledger
        admitted = await ledger.authorize(call())
        assert ledger.health().ok
        await w.stop()
        assert not ledger.health().ok
        for attempt in (
            ledger.authorize(call()),
            ledger.record(call(), "success"),
            ledger.settle(admitted.action_id, Settlement(1, "success")),
            ledger.create_agent(Agent("", "n", "r", "o", 1, None, 0)),
        ):
            with pytest.raises(LedgerUnavailable):
                await attempt
