from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.ledger import journal as journal_module
from proxy.ledger.embedded import EmbeddedLedger
from proxy.ledger.entries import VERSION
from proxy.ledger.journal import month_of
from proxy.ledger.port import ActionFilter, Admission, Agent, LedgerUnavailable, Settlement
from tests.contract.policies import budget, policy
from tests.contract.world import World, call, ms

SETTLED = Settlement(1, "success")


def lines(world: World, month: str = "2026-10") -> list[bytes]:
    return (world.data / "journal" / f"{month}.jsonl").read_bytes().splitlines(keepends=True)


class Faults:
    """Replaces a call of the file layer, for the journal's files only, from now on."""

    def __init__(self, world: World, patch: pytest.MonkeyPatch) -> None:
        assert isinstance(world.ledger, EmbeddedLedger)
        self._fd = world.ledger._store.journal._fd
        self._patch = patch

    def inject(self, name: str, fault: Callable[..., Any]) -> None:
        real = getattr(os, name)

        def faulty(fd: int, *rest: Any) -> Any:
            return fault(real, fd, *rest) if fd == self._fd else real(fd, *rest)

        self._patch.setattr(journal_module.os, name, faulty)


@pytest.fixture
def faults(world: World, monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(world, monkeypatch)


def no_space(real: Any, fd: int, *rest: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def half_a_line(real: Any, fd: int, line: bytes) -> int:
    written: int = real(fd, line[: len(line) // 2])
    return written


async def refuses_everything(world: World, action_id: str) -> None:
    ledger = world.ledger
    for attempt in (
        ledger.authorize(call()),
        ledger.record(call(), "success"),
        ledger.record(call(), "success", ("key", "digest")),
        ledger.settle(action_id, SETTLED),
        ledger.void(action_id, SETTLED),
        ledger.create_agent(Agent("", "n", "r", "o", 1, None, 0)),
        ledger.change_agent("a", {"status": "paused"}),
        ledger.use(policy(budget("new", "1"))),
        ledger.preview(call()),
    ):
        with pytest.raises(LedgerUnavailable):
            await attempt


def test_a_line_belongs_to_its_utc_month() -> None:
    assert month_of(ms("2026-11-30T23:59:59Z")) == "2026-11"
    assert month_of(ms("2026-12-01T00:00:00Z")) == "2026-12"
    assert month_of(ms("2027-01-01T00:30:00+01:00")) == "2026-12"


async def test_each_line_carries_the_sha256_of_the_whole_line_before(world: World) -> None:
    await world.ledger.authorize(call())
    prev = "0" * 64
    for number, line in enumerate(lines(world), 1):
        entry = json.loads(line)
        assert (entry["v"], entry["seq"], entry["prev"]) == (VERSION, number, prev)
        prev = hashlib.sha256(line).hexdigest()
    assert (world.ledger.health().sequence, world.ledger.health().head) == (number, prev)


async def test_a_denial_its_pause_and_its_alert_are_one_line(world: World) -> None:
    before = len(lines(world))
    await world.ledger.authorize(call(estimate=101 * 10**9))
    (line,) = lines(world)[before:]
    entry = json.loads(line)
    assert (entry["type"], entry["pause"][0], entry["alerts"][0]["type"]) == ("denied", "a", "budget_exceeded")


async def test_hazard_37_a_failed_write_closes_the_journal_and_admits_nothing(world: World, faults: Faults) -> None:
    admitted = await world.ledger.authorize(call())
    before = lines(world)
    faults.inject("write", no_space)
    await refuses_everything(world, admitted.action_id)
    assert lines(world) == before
    health = world.ledger.health()
    assert (health.ok, health.detail) == (
        False,
        "writing the journal failed: No space left on device; nothing is recorded until a restart",
    )
    assert [held.action_id for held in world.ledger.reservations()] == [admitted.action_id]


async def test_hazard_37_after_a_failure_nothing_is_tried_again_and_old_data_is_readable(
    world: World, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = await world.ledger.record(call(estimate=7), "success")
    admitted = await world.ledger.authorize(call())
    with monkeypatch.context() as patch:
        Faults(world, patch).inject("write", no_space)
        with pytest.raises(LedgerUnavailable):
            await world.ledger.record(call(), "success")
    before = lines(world)
    await refuses_everything(world, admitted.action_id)  # though the disk would take it again
    assert lines(world) == before
    assert list((await world.ledger.actions(ActionFilter())).items) == [recorded.action]
    assert (await world.ledger.spend([], None, None))[0]["cost"] == 7
    await world.restart()
    assert isinstance(await world.ledger.authorize(call()), Admission)


async def test_hazard_38_a_partial_write_is_never_written_past(world: World, faults: Faults) -> None:
    admitted = await world.ledger.authorize(call(estimate=5))
    whole = lines(world)
    faults.inject("write", half_a_line)
    await refuses_everything(world, admitted.action_id)
    torn = lines(world)
    assert torn[:-1] == whole
    assert not torn[-1].endswith(b"\n")
    await world.restart()
    assert lines(world)[: len(whole)] == whole
    assert await world.do_balance("monthly_budget", "a") == "0.000000005+0.00"  # expired, charged
    (warning,) = world.ledger.health().warnings
    assert "set aside" in warning
    (aside,) = (world.data / "journal").glob("damaged-*")
    assert aside.read_bytes() == torn[-1]
    assert await world.do_alerts() == "journal_damaged"


@pytest.mark.parametrize("durability", ["normal", "strict"])
async def test_hazard_37_a_failed_fsync_is_never_retried(world: World, faults: Faults, durability: Any) -> None:
    world.policies = {"it": policy(durability=durability)}
    await world.do_use("it")
    await asyncio.sleep(0.05)
    calls = []

    def fail(real: Any, fd: int) -> None:
        calls.append(fd)
        raise OSError(errno.EIO, "Input/output error")

    faults.inject("fdatasync", fail)
    if durability == "strict":
        with pytest.raises(LedgerUnavailable, match="syncing the journal failed"):
            await world.ledger.authorize(call())
    else:
        assert isinstance(await world.ledger.authorize(call()), Admission)
        while world.ledger.health().ok:
            await asyncio.sleep(0.005)
    for _ in range(3):
        with pytest.raises(LedgerUnavailable):
            await world.ledger.authorize(call())
        await asyncio.sleep(0.02)
    assert len(calls) == 1
    await world.stop()
    assert len(calls) == 1


@pytest.mark.parametrize("step", ["authorize", "settle", "record", "deny", "patch"])
async def test_promise_4_strict_returns_only_once_its_line_is_synced(world: World, faults: Faults, step: str) -> None:
    world.policies = {"it": policy(durability="strict")}
    await world.do_use("it")
    admitted = await world.ledger.authorize(call())
    gate = threading.Event()

    def held(real: Any, fd: int) -> None:
        gate.wait()
        real(fd)

    faults.inject("fdatasync", held)
    task = asyncio.ensure_future(
        {
            "authorize": lambda: world.ledger.authorize(call()),
            "settle": lambda: world.ledger.settle(admitted.action_id, SETTLED),
            "record": lambda: world.ledger.record(call(), "success", ("key", "digest")),
            "deny": lambda: world.ledger.authorize(call(estimate=101 * 10**9)),
            "patch": lambda: world.ledger.change_agent("a", {"status": "paused"}),
        }[step]()
    )
    try:
        await asyncio.wait([task], timeout=0.05)
        assert not task.done()
    finally:
        gate.set()
    await task


@pytest.mark.parametrize("again", ["denied", "patched", "acknowledged", "replayed"])
async def test_promise_4_strict_an_answer_that_writes_nothing_waits_for_the_line_it_tells_of(
    world: World, faults: Faults, again: str
) -> None:
    world.policies = {"it": policy(durability="strict")}
    await world.do_use("it")
    await world.ledger.authorize(call(estimate=101 * 10**9))
    (alert,) = await world.ledger.alerts()
    await world.ledger.change_agent("a", {"status": "active"})
    ledger = world.ledger
    step = {
        "denied": lambda: ledger.authorize(call(estimate=None)),
        "patched": lambda: ledger.change_agent("a", {"status": "paused"}),
        "acknowledged": lambda: ledger.acknowledge(alert.id),
        "replayed": lambda: ledger.record(call(estimate=1), "success", ("key", "digest")),
    }[again]
    gate = threading.Event()

    def held(real: Any, fd: int) -> None:
        gate.wait()
        real(fd)

    faults.inject("fdatasync", held)
    first = asyncio.ensure_future(step())
    await asyncio.wait([first], timeout=0.02)
    first.cancel()  # its client has gone, and calls again
    await asyncio.wait([first])
    line = ledger.health().sequence
    second = asyncio.ensure_future(step())
    try:
        await asyncio.wait([second], timeout=0.05)
        assert not second.done()
    finally:
        gate.set()
    await second
    assert ledger.health().sequence == line


async def test_one_sync_serves_all_that_gathered(world: World, faults: Faults) -> None:
    world.policies = {"it": policy(durability="strict")}
    await world.do_use("it")
    gate, syncs = threading.Event(), []

    def held(real: Any, fd: int) -> None:
        gate.wait()
        syncs.append(fd)
        real(fd)

    faults.inject("fdatasync", held)
    before = world.ledger.health().sequence
    work = asyncio.gather(*(world.ledger.authorize(call(estimate=1)) for _ in range(500)))
    try:
        async with asyncio.timeout(10):
            while world.ledger.health().sequence < before + 500:
                await asyncio.sleep(0)
    finally:
        gate.set()
    await work
    assert len(syncs) <= 2


async def test_a_month_begins_with_the_book_the_one_before_left(world: World) -> None:
    held = await world.ledger.authorize(call(estimate=3))
    world.at = ms("2026-11-01T00:00:00Z")
    await world.ledger.record(call(estimate=5), "success")
    carry, record = map(json.loads, lines(world, "2026-11"))
    assert (carry["type"], record["type"]) == ("carry", "record")
    assert carry["prev"] == hashlib.sha256(lines(world)[-1]).hexdigest()
    assert [row[0]["id"] for row in carry["book"]["open"]] == [held.action_id]
    await world.stop()
    (world.data / "journal" / "2026-10.jsonl").rename(world.data / "moved.jsonl")
    (world.data / "desk.json").unlink()
    await world.start()
    assert await world.do_balance("monthly_budget", "a") == "0.000000005+0.00"
    with pytest.raises(Exception, match="no open reservation"):
        await world.ledger.settle(held.action_id, SETTLED)


async def test_a_month_that_cannot_begin_closes_the_journal(world: World) -> None:
    world.at = ms("2026-11-01T00:00:00Z")
    (world.data / "journal" / "2026-11.jsonl").mkdir()
    with pytest.raises(LedgerUnavailable, match="beginning a month"):
        await world.ledger.authorize(call())
    assert not world.ledger.health().ok
    (world.data / "journal" / "2026-11.jsonl").rmdir()


async def test_files_are_the_owners_alone(world: World, tmp_path: Path) -> None:
    await world.ledger.record(call(), "success")
    await world.ledger.actions(ActionFilter())
    await world.restart()
    modes = {path.name: path.stat().st_mode & 0o077 for path in world.data.rglob("*") if path.is_file()}
    assert {"2026-10.jsonl", "desk.json", "index.sqlite", "lock", "synced"} <= set(modes)
    assert not any(modes.values()), modes
