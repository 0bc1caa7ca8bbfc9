"""Totals against a naive sum over the same actions: every zone, span and group."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from policy.periods import span
from proxy.ledger import totals
from proxy.ledger.entries import GENESIS, Entry, encode
from proxy.ledger.port import Action, ActionFilter
from proxy.ledger.rows import SCHEMA, Rows
from proxy.ledger.spending import spend, spent
from tests.contract.policies import agent, policy
from tests.contract.seen import group_of, matches
from tests.contract.world import World, call, ms

HOUR, DAY = 3_600_000, 86_400_000
ZONES = [
    ZoneInfo(name)
    for name in ("UTC", "Asia/Kathmandu", "America/New_York", "Pacific/Apia", "Australia/Lord_Howe", "Africa/Monrovia")
]
MOMENTS = [
    ms("2026-10-31T04:00:00Z"),  # New York's clocks go back a day later
    ms("2027-03-14T05:00:00Z"),  # and forward
    ms("2026-04-04T14:00:00Z"),  # Lord Howe's go back, by half an hour
    ms("2011-12-30T10:00:00Z"),  # Apia leaves out a day
    0,
]
GROUPS = ("agent", "owner_id", "role", "upstream", "price", "target", "outcome", "hour", "day", "month")

moments = st.builds(
    lambda base, days, rest: max(0, base + days * DAY + rest),
    st.sampled_from(MOMENTS),
    st.integers(-2, 3),
    st.sampled_from([0, -1, 1, HOUR, 5 * HOUR, 15 * 60_000]) | st.integers(0, DAY),
)
actions = st.builds(
    Action,
    id=st.uuids().map(lambda drawn: f"act_{drawn.hex}"),
    agent_id=st.sampled_from("ab"),
    action_type=st.just("llm"),
    target=st.sampled_from(["x:m", "y:n"]),
    cost=st.integers(-5, 20) | st.sampled_from([10**18, -(10**18)]),
    outcome=st.sampled_from(["success", "failure", "denied"]),
    created_at=moments,
    upstream=st.sampled_from("xy"),
    price=st.none() | st.just("p"),
    owner_id=st.sampled_from(["", "t"]),
    role=st.sampled_from(["", "r"]),
    count=st.integers(1, 3),
)
held = st.lists(actions, max_size=12, unique_by=lambda action: action.id)
spans = st.tuples(st.none() | moments, st.none() | moments)
groups = st.lists(st.sampled_from(GROUPS), max_size=3, unique=True)


def index_of(db: sqlite3.Connection, zone: ZoneInfo, drawn: Sequence[Action]) -> Rows:
    db.executescript(SCHEMA)
    rows = Rows(db)
    while rows.totals.behind(zone):
        rows.totals.catch_up(zone)
    entries = [Entry("record", 5, seq, action=action) for seq, action in enumerate(drawn, 1)]
    for entry in entries:
        rows.add(encode(entry, GENESIS))
    db.execute("INSERT INTO place (seq) VALUES (?)", (len(drawn),))
    return rows


def naive(
    drawn: Iterable[Action], by: Sequence[str], zone: ZoneInfo, query: ActionFilter
) -> dict[tuple[Any, ...], tuple[int, int]]:
    costs: Counter[tuple[Any, ...]] = Counter({(): 0} if not by else {})
    counts: Counter[tuple[Any, ...]] = Counter({(): 0} if not by else {})
    for action in drawn:
        if matches(query, action):
            costs[group_of(action, by, zone)] += action.cost
            counts[group_of(action, by, zone)] += action.count
    return {key: (costs[key], counts[key]) for key in costs}


EARLY = Action("act_1", "a", "llm", "x:m", 1, "success", 1, upstream="x")  # the day before, in New York


@example([EARLY], ZONES[2], [(["hour", "day"], (None, None), None)])
@settings(max_examples=200, deadline=None)
@given(
    held, st.sampled_from(ZONES), st.lists(st.tuples(groups, spans, st.sampled_from([None, "a", "nobody"])), max_size=6)
)
def test_spend_is_what_a_scan_comes_to(
    drawn: list[Action], zone: ZoneInfo, asked: list[tuple[list[str], tuple[int | None, int | None], str | None]]
) -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        index_of(db, zone, drawn)
        db.commit()
        for by, (since, until), agent_id in [*asked, (["day"], (None, None), None)]:
            told = spend(db, by, since, until, zone, agent_id)
            found = {tuple(row[group] for group in by): (row["cost"], row["actions"]) for row in told}
            assert found == naive(drawn, by, zone, ActionFilter(agent_id=agent_id, since=since, until=until))
            assert len(found) == len(told)


@settings(deadline=None)
@given(held, st.sampled_from(ZONES), spans)
def test_what_budgets_open_with_is_what_a_scan_comes_to(
    drawn: list[Action], zone: ZoneInfo, bounds: tuple[int | None, int | None]
) -> None:
    since, until = bounds[0] or 0, bounds[1] if bounds[1] is not None else 253_402_300_800_000
    kinds = ("agent", "owner_id", "role", "upstream", "price")
    expected = naive(drawn, kinds, zone, ActionFilter(since=since, until=until))
    with closing(sqlite3.connect(":memory:")) as db:
        index_of(db, zone, drawn)
        db.commit()
        seq, found = spent(db, since, until, zone)
    assert seq == len(drawn)
    assert {each[:5]: each.cost for each in found} == {kind: cost for kind, (cost, _) in expected.items() if cost}


steps = st.lists(st.integers(0, 3) | st.sampled_from(ZONES) | st.just("batch"), max_size=20)


@settings(deadline=None)
@example([EARLY, structs.replace(EARLY, id="act_2")], [0, 1, ZONES[1], "batch", 1, 0, "batch"], ["day"])
@given(held, steps, groups)
def test_totals_are_right_at_every_step_of_being_made_anew(
    drawn: list[Action], taken: list[Any], by: list[str]
) -> None:
    """Actions come and are repeated, the zone changes, and a batch of one row is summed, in any order."""
    zone, seq, come = ZONES[0], 0, {}
    with pytest.MonkeyPatch.context() as patch, closing(sqlite3.connect(":memory:")) as db:
        patch.setattr(totals, "_BATCH", 1)
        rows = index_of(db, zone, [])
        for step in taken:
            entry = None
            if isinstance(step, ZoneInfo):
                zone = step
            elif step == "batch":
                if rows.totals.behind(zone):
                    rows.totals.catch_up(zone)
            elif step < len(drawn):
                action = drawn[step]
                repeated = come.get(action.id)
                come[action.id] = structs.replace(action, count=repeated.count + 7) if repeated else action
                entry = Entry("repeat", 5, counts={action.id: 7}) if repeated else Entry("record", 5, action=action)
            if entry is not None:
                entry.seq = seq = seq + 1
                rows.add(encode(entry, GENESIS))
            db.commit()
            assert told(db, by, zone) == naive(come.values(), by, zone, ActionFilter())
        while rows.totals.behind(zone):
            rows.totals.catch_up(zone)
        db.commit()
        assert told(db, by, zone) == naive(come.values(), by, zone, ActionFilter())


def told(db: sqlite3.Connection, by: Sequence[str], zone: ZoneInfo) -> dict[tuple[Any, ...], tuple[int, int]]:
    rows = spend(db, by, None, None, zone)
    return {tuple(row[group] for group in by): (row["cost"], row["actions"]) for row in rows}


async def test_a_policy_of_another_zone_has_the_totals_made_anew_once(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(totals, "_BATCH", 2)
    caplog.set_level("INFO")
    world.policies = {"nepal": policy(agent("a"), zone=ZONES[1])}
    await world.do_clock("2026-11-01T17:00:00Z")
    for _ in range(7):
        world.at += HOUR // 2
        await world.ledger.record(call(estimate=1), "success")
    assert await days(world) == [("2026-11-01", 7)]
    await world.do_use("nepal")
    assert await days(world) == [("2026-11-01", 2), ("2026-11-02", 5)]
    await world.ledger.record(call(estimate=1), "success")
    await settled(world, "Asia/Kathmandu")
    assert await days(world) == [("2026-11-01", 2), ("2026-11-02", 6)]
    await world.restart()
    assert await days(world) == [("2026-11-01", 2), ("2026-11-02", 6)]
    made = [record.getMessage() for record in caplog.records if "totals are made anew" in record.getMessage()]
    assert made == ["totals are made anew from the read index's rows, by the days of Asia/Kathmandu"]


async def days(world: World) -> list[tuple[str, int]]:
    return [(row["day"], row["cost"]) for row in await world.ledger.spend(["day"], None, None)]


async def settled(world: World, zone: str) -> None:
    """Once the file's totals are of that zone, and of all rows."""
    with closing(sqlite3.connect(world.data / "index.sqlite")) as db:
        while db.execute("SELECT zone, summed_to FROM totalled").fetchone() != (zone, None):
            await asyncio.sleep(0.01)
        bounds = {span("day", at, ZoneInfo(zone)).start_ms for (at,) in db.execute("SELECT at FROM actions")}
        assert {day for (day,) in db.execute("SELECT day FROM totals")} == bounds


async def test_totals_of_a_zone_that_this_machine_does_not_know_are_made_anew(world: World) -> None:
    await world.ledger.record(call(estimate=1), "success")
    await world.stop()
    with closing(sqlite3.connect(world.data / "index.sqlite")) as db:
        db.execute("UPDATE totalled SET zone = 'Mars/Olympus'")
        db.execute("UPDATE totals SET dollars = 9")
        db.commit()
    await world.start()
    await world.ledger.record(call(estimate=1), "success")
    await settled(world, "UTC")
    assert await days(world) == [("2026-10-10", 2)]


@pytest.mark.parametrize("agent_id", [None, "a"])
async def test_no_row_is_read_where_the_days_are_whole(world: World, agent_id: str | None) -> None:
    """Of a whole history, of whole days, and of the days up to now."""
    for _ in range(3):
        world.at += DAY
        await world.ledger.record(call(estimate=1), "success")
    await world.ledger.spend([], None, None)
    index = world.ledger._store.index  # type: ignore[attr-defined]
    for since, until in [(None, None), (ms("2026-10-12T00:00:00Z"), None), (None, world.at + 1), (0, 10**15)]:
        statements: list[str] = []

        def ask(db: sqlite3.Connection, bounds: Any = (since, until), told: list[str] = statements) -> Any:
            db.set_trace_callback(told.append)
            found = spend(db, ["day", "target"], *bounds, ZONES[0], agent_id)
            db.set_trace_callback(None)
            return found

        assert sum(row["actions"] for row in await index.read(ask)) == (2 if since else 3)
        assert not [told for told in statements if "FROM actions" in told and "(at) FROM" not in told]
