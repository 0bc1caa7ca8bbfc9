from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from proxy.ledger import index as index_module
from proxy.ledger import queries, spending
from proxy.ledger.embedded import EmbeddedLedger
from proxy.ledger.port import ActionFilter, Alert, Call, LedgerUnavailable, Page
from proxy.ledger.rows import Rows
from tests.contract.policies import UTC, agent, policy
from tests.contract.world import World, call, ms


async def everything(world: World) -> tuple[Page, list[Alert], Any]:
    ledger = world.ledger
    return (
        await ledger.actions(ActionFilter(limit=1000)),
        list(await ledger.alerts()),
        await ledger.spend(["agent", "day", "outcome"], None, None),
    )


async def filled(world: World) -> tuple[Page, list[Alert], Any]:
    """Actions of two months, a count, alerts, one of them acknowledged, a key; what the reads answer."""
    for moment in ("2026-10-20T00:00:00Z", "2026-11-02T00:00:00Z"):
        world.at = ms(moment)
        for n in range(5):
            await world.ledger.record(call(estimate=n), "failure" if n == 3 else "success", (f"{moment}{n}", "d"))
        for _ in range(3):
            await world.ledger.authorize(call(estimate=101 * 10**9))
        await world.ledger.change_agent("a", {"status": "active"})
    await world.ledger.acknowledge((await world.ledger.alerts())[0].id)
    return await everything(world)


@pytest.mark.parametrize(
    "damage", ["lost", "empty", "garbage", "cut", "other version", "other journal", "no place", "ahead"]
)
async def test_a_lost_or_damaged_index_is_made_anew_from_the_journal(world: World, damage: str) -> None:
    before = await filled(world)
    await world.stop()
    path = world.data / "index.sqlite"
    for extra in world.data.glob("index.sqlite-*"):
        extra.unlink()
    if damage == "lost":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "garbage":
        path.write_bytes(b"\xff" * 5000)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:4096])
    else:
        db = sqlite3.connect(path)
        last = (world.data / "journal" / "2026-11.jsonl").read_bytes().splitlines(keepends=True)[-1]
        db.execute(
            {
                "other version": "PRAGMA user_version = 99",
                "other journal": f"UPDATE place SET head = 'ff', seq = seq - 1, offset = offset - {len(last)}",
                "no place": "UPDATE place SET head = 'ff', seq = seq - 1",
                "ahead": "UPDATE place SET seq = seq + 100",
            }[damage]
        )
        db.execute("UPDATE actions SET cost = cost + 1")
        db.commit()
        db.close()
    await world.start()
    assert await everything(world) == before
    again = await world.ledger.record(call(estimate=1), "success", ("2026-11-02T00:00:00Z1", "d"))
    assert again.replayed
    assert world.ledger.health().warnings == ()


async def test_an_index_of_another_end_does_not_keep_its_rows(world: World) -> None:
    """As where a tail it had read was lost, and the journal went on to the same length without it."""
    before = await filled(world)
    await world.stop()
    db = sqlite3.connect(world.data / "index.sqlite")
    db.execute("UPDATE place SET head = 'ff'")
    db.execute("UPDATE actions SET cost = cost + 1")
    db.commit()
    db.close()
    await world.start()
    assert await everything(world) == before


async def test_an_index_left_behind_catches_up_from_where_it_was(world: World) -> None:
    await filled(world)
    await world.stop()
    old = (world.data / "index.sqlite").read_bytes()
    await world.start()
    await world.ledger.record(call(estimate=77), "success")
    before = await everything(world)
    await world.stop()
    (world.data / "index.sqlite").write_bytes(old)
    await world.start()
    assert await everything(world) == before


async def test_a_text_that_sqlite_does_not_take_does_not_stop_the_index(world: World) -> None:
    await world.ledger.record(call(target="openai:\ud800", metadata="\ud800"), "success")
    await world.ledger.record(call(), "success")
    second, first = (await world.ledger.actions(ActionFilter())).items
    assert (first.target, first.metadata, second.target) == ("openai:\ud800", "\ud800", "openai:catalog")


async def test_an_index_that_fails_is_told_of_and_does_not_stop_the_line(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(rows: Rows, text: bytes) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Rows, "add", full)
        recorded = await world.ledger.record(call(), "success")
        with pytest.raises(LedgerUnavailable, match="disk is full"):
            await world.ledger.actions(ActionFilter())
        assert "disk is full" in world.ledger.health().warnings[0]
        assert world.ledger.health().ok
    assert list((await world.ledger.actions(ActionFilter())).items) == [recorded.action]
    assert world.ledger.health().warnings == ()


QUERIES = [
    {},
    {"agent_id": "a"},
    {"outcome": "failure"},
    {"agent_id": "a", "outcome": "denied"},
    {"since": 1, "until": 10**14},
    {"agent_id": "a", "since": 1, "cursor": "ff.1"},
    {"cursor": "ff.1"},
]


@pytest.mark.parametrize("query", QUERIES, ids=str)
async def test_no_list_scans_or_sorts(world: World, query: dict[str, Any]) -> None:
    await filled(world)
    plans = await _plans(world, lambda db: queries.page(db, ActionFilter(**query)))
    plans += await _plans(world, lambda db: queries.after(db, ActionFilter(**query), (1, 1), 10**9, 10))
    for plan in plans:
        assert "USING" in plan
        assert "TEMP B-TREE" not in plan
        assert plan.startswith("SEARCH") or not query or set(query) == {"cursor"}


async def test_no_look_up_scans(world: World) -> None:
    await filled(world)
    for ask in (
        lambda db: queries.action(db, "act_x"),
        lambda db: queries.alert(db, "alr_x"),
        lambda db: queries.answer(db, "a", "k", 0),
        lambda db: queries.alerts(db, "a", 10),
        lambda db: queries.alerts(db, "a", 10, open_only=True),
        lambda db: spending.spent(db, 0, 1, UTC),
    ):
        plans = await _plans(world, ask)
        assert not [plan for plan in plans if "SCAN" in plan and plan not in ("SCAN place", "SCAN totalled")]


@pytest.mark.parametrize("agent_id", [None, "a"])
@pytest.mark.parametrize("open_only", [False, True])
async def test_alerts_are_listed_by_their_indexes(world: World, agent_id: str | None, open_only: bool) -> None:
    await filled(world)
    (plan,) = await _plans(world, lambda db: queries.alerts(db, agent_id, 10, open_only=open_only))
    name = ("alerts_open_" if open_only else "alerts_") + ("agent" if agent_id else "at")
    assert plan.split(" (")[0].endswith(f"alerts USING INDEX {name}")


async def _plans(world: World, ask: Any) -> list[str]:
    """How sqlite would answer each statement that ``ask`` runs."""
    assert isinstance(world.ledger, EmbeddedLedger)
    await world.ledger.actions(ActionFilter())

    def explained(db: sqlite3.Connection) -> list[str]:
        statements: list[str] = []
        db.set_trace_callback(statements.append)
        ask(db)
        db.set_trace_callback(None)
        asked = [statement for statement in statements if statement.startswith("SELECT")]
        return [row[3] for statement in asked for row in db.execute(f"EXPLAIN QUERY PLAN {statement}")]

    plans: list[str] = await world.ledger._store.index.read(explained)
    return plans


async def test_old_keys_are_dropped(world: World) -> None:
    await world.ledger.record(call(), "success", ("old", "d"))
    world.at += 86_400_000
    await world.ledger.record(call(), "success", ("new", "d"))
    await world.ledger.actions(ActionFilter())
    db = sqlite3.connect(world.data / "index.sqlite")
    assert db.execute("SELECT key FROM idempotency").fetchall() == [("new",)]
    db.close()


async def test_keys_leave_memory_once_the_index_has_them(world: World) -> None:
    ledger = world.ledger
    assert isinstance(ledger, EmbeddedLedger)
    for n in range(300):
        await ledger.record(call(estimate=0), "success", (f"k{n}", "d"))
    assert len(ledger._answers._given) == 300
    await ledger.actions(ActionFilter())
    await ledger.record(call(estimate=0), "success", ("one more", "d"))
    assert list(ledger._answers._given) == [("a", "one more")]
    assert (await ledger.record(call(estimate=0), "success", ("k7", "d"))).replayed


async def test_promise_6_a_key_is_known_at_once_after_a_restart_though_the_index_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(300):
        await world.ledger.record(call(estimate=0), "success", (f"k{n}", "d"))
    await world.stop()
    (world.data / "index.sqlite").unlink()
    monkeypatch.setattr(index_module, "_BYTES_AT_ONCE", 1)
    await world.start()
    assert (await world.ledger.record(call(estimate=0), "success", ("k299", "d"))).replayed


async def test_reads_by_many_wait_for_what_was_recorded_before_each(world: World) -> None:
    async def one(n: int) -> None:
        made: Call = call(estimate=n + 1)
        recorded = await world.ledger.record(made, "success")
        found = await world.ledger.actions(ActionFilter(limit=1000))
        assert recorded.action in found.items

    await asyncio.gather(*(one(n) for n in range(50)))


async def test_a_months_file_that_is_gone_stays_in_an_index_that_had_it(world: World, tmp_path: Path) -> None:
    before = await filled(world)
    await world.stop()
    (world.data / "journal" / "2026-10.jsonl").rename(tmp_path / "moved")
    await world.start()
    assert await everything(world) == before


async def test_two_agents_pages_do_not_mix(world: World) -> None:
    world.policies = {"two": policy(agent("a"), agent("b"))}
    await world.do_use("two")
    for n in range(20):
        await world.ledger.record(call("ab"[n % 2], n), "success")
    page = await world.ledger.actions(ActionFilter(agent_id="b", limit=3))
    assert [row.cost for row in page.items] == [19, 17, 15]
    page = await world.ledger.actions(ActionFilter(agent_id="b", limit=3, cursor=page.next_cursor))
    assert [row.cost for row in page.items] == [13, 11, 9]
