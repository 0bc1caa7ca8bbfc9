from __future__ import annotations

import asyncio
import json
import os
import threading
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.ledger import desk, rulebook, store
from proxy.ledger.embedded import EmbeddedLedger, open_embedded
from proxy.ledger.port import Admission, LedgerError, LedgerUnavailable, Settlement
from tests.contract.policies import agent, budget, limit, policy
from tests.contract.world import World, call


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_HOUSEKEEPING_S", 0.01)


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_hazard_37_little_free_disk_stops_admission_so_that_what_is_open_can_settle(
    quick: None, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.restart()
    admitted = await world.ledger.authorize(call())
    other = await world.ledger.authorize(call())
    free = SimpleNamespace(f_bavail=15 << 8, f_frsize=4096)
    monkeypatch.setattr(store.os, "statvfs", lambda path: free)
    await until(lambda: not world.ledger.health().ok)
    for attempt in (world.ledger.authorize(call()), world.ledger.record(call(), "success")):
        with pytest.raises(LedgerUnavailable, match="the disk has 15 MiB free"):
            await attempt
    assert (await world.ledger.settle(admitted.action_id, Settlement(5, "success"))).cost == 5
    assert (await world.ledger.void(other.action_id, Settlement(None, "failure"))).cost == 0
    free.f_bavail = 17 << 8
    await until(lambda: world.ledger.health().ok)
    assert isinstance(await world.ledger.authorize(call()), Admission)


async def test_repeats_are_written_about_once_a_second_as_one_line(quick: None, world: World) -> None:
    await world.restart()
    await world.ledger.authorize(call(estimate=101 * 10**9))
    for _ in range(100):
        await world.ledger.authorize(call())
    before = world.ledger.health().sequence
    await until(lambda: world.ledger.health().sequence > before)
    last = (world.data / "journal" / "2026-10.jsonl").read_bytes().splitlines()[-1]
    assert list(json.loads(last)["counts"].values()) == [99]
    await asyncio.sleep(0.05)
    assert world.ledger.health().sequence == before + 1


async def test_a_checkpoint_is_written_after_many_lines_and_after_a_while(
    quick: None, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.restart()

    def checkpointed() -> int:
        found = desk.read(world.data)
        return found.mark.seq if found else 0

    monkeypatch.setattr(store, "_CHECKPOINT_LINES", 20)
    for _ in range(30):
        await world.ledger.record(call(estimate=1), "success")
    await until(lambda: checkpointed() >= 20)
    monkeypatch.setattr(store, "_CHECKPOINT_LINES", 10**9)
    monkeypatch.setattr(store, "_CHECKPOINT_S", 0.0)
    await until(lambda: checkpointed() == world.ledger.health().sequence)


async def test_a_checkpoint_waits_until_its_lines_are_synced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands for them at the next start: it must not know of a line that a power loss takes."""
    ledger = world.ledger
    assert isinstance(ledger, EmbeddedLedger)
    gate, real, journal = threading.Event(), os.fdatasync, ledger._store.journal._fd
    monkeypatch.setattr(os, "fdatasync", lambda fd: (gate.wait() if fd == journal else None, real(fd)))
    written: list[int] = []
    monkeypatch.setattr(desk, "write", lambda data, mark, frozen: written.append(mark.seq))
    await ledger.record(call(estimate=1), "success")
    ledger._store._begin_checkpoint()
    try:
        await asyncio.sleep(0.05)
        assert written == []
    finally:
        gate.set()
    await until(lambda: written == [ledger.health().sequence])


async def test_a_desk_that_cannot_be_written_leaves_the_old_one_and_is_told_of(
    quick: None, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.restart()
    old = (world.data / "desk.json").read_bytes()
    monkeypatch.setattr(store, "_CHECKPOINT_S", 0.0)
    assert world.ledger.health().checkpoint_ok
    (world.data / "desk.tmp").mkdir()
    await world.ledger.record(call(estimate=1), "success")
    await until(lambda: world.ledger.health().warnings)
    assert not world.ledger.health().checkpoint_ok
    assert "the desk could not be written" in world.ledger.health().warnings[0]
    assert (world.data / "desk.json").read_bytes() == old
    (world.data / "desk.tmp").rmdir()
    await world.ledger.record(call(estimate=1), "success")
    await until(lambda: not world.ledger.health().warnings)
    assert (world.data / "desk.json").read_bytes() != old


async def test_a_desk_is_json_with_a_table_of_each_kind_and_no_key_of_the_policy_file(world: World) -> None:
    key = await world.ledger.add_key("a", "ab" * 32)
    await world.ledger.authorize(call())
    await world.stop()
    held = json.loads((world.data / "desk.json").read_bytes())
    assert set(held) == {"agents", "keys", "alerts", "outbox", "balances", "open", "rates", "pauses", "checkpoint"}
    row = {"digest": "ab" * 32, "id": key.id, "created_at": key.created_at, "agent_id": "a"}
    assert held["keys"] == {"1": row}
    assert "keys" not in held["agents"]["1"]


async def test_the_book_holds_what_runs_never_history(world: World) -> None:
    """Balances, counts and alert keys of periods that ended are dropped: memory does not grow with time."""
    parts = (
        budget("minute", "50", "minute", each="agent"),
        budget("hour", "50", "hour", each="upstream"),
        limit("burst", requests=100),
    )
    world.policies = {"it": policy(*parts, thresholds=(1,))}
    await world.do_use("it")
    ledger = world.ledger
    assert isinstance(ledger, EmbeddedLedger)
    book = ledger._store.book
    for _ in range(500):
        world.at += 60_000
        await ledger.record(call(estimate=10**9, target=f"t{world.at}"), "failure")
        await world.ledger.change_agent("a", {"status": "active"})
    assert len(book.balances) <= 4
    assert len(book.rates) <= 2
    assert len(book.once) <= 24 * 60 + 60
    held = await ledger.authorize(call(estimate=0))
    world.at += 40 * 86_400_000
    await ledger.record(call(), "success")
    assert len(book.balances) == 6
    await ledger.settle(held.action_id, Settlement(0, "success"))
    assert len(book.balances) == 3
    assert len(book.once) == 3
    assert len(book._ends) == 7
    assert len(book.alerts) <= 1000


async def test_matches_remembered_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rulebook, "_MATCHES_MAX", 10)
    ledger = world.ledger
    assert isinstance(ledger, EmbeddedLedger)
    for n in range(100):
        await ledger.record(call(estimate=1, price=f"p{n}"), "success")
    assert ledger._rules is not None
    assert len(ledger._rules._matches) <= 10


async def test_promise_10_a_file_key_is_neither_in_the_journal_nor_on_the_desk(world: World) -> None:
    world.policies = {"it": policy(agent("a", key="alk_of_the_file"))}
    await world.do_use("it")
    digest = sha256(b"alk_of_the_file").hexdigest()
    assert world.ledger.agent_by_key(digest) is not None
    await world.ledger.add_key("a", "ab" * 32)
    await world.stop()
    for path in world.data.rglob("*"):
        if path.is_file():
            assert digest.encode() not in path.read_bytes()
            assert b"alk_of_the_file" not in path.read_bytes()


async def test_an_old_sqlite_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 34, 1))
    with pytest.raises(LedgerError, match=r"3\.38 or later"):
        await open_embedded(tmp_path)
