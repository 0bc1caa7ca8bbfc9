"""Closed months, compressed, moved and removed: the ledger goes on as if they were there."""

from __future__ import annotations

import asyncio
import gzip
import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from proxy.ledger.archive import archive
from proxy.ledger.index import path_of
from proxy.ledger.journal import months, read_archived
from proxy.ledger.lock import reading_files
from proxy.ledger.lookup import find_action
from proxy.ledger.port import ActionFilter, LedgerDamaged, LedgerError, Settlement
from proxy.ledger.verify import verify
from tests.contract.policies import budget, policy
from tests.contract.world import World, call, ms
from tests.proxy.ledger.crashing import crashing

MONTHS = ["2026-10", "2026-11", "2026-12"]
LATER = ms("2027-06-01T00:00:00Z")


async def filled(world: World) -> None:
    """Three months, with a call that flies from the first into the last."""
    held = await world.ledger.authorize(call(estimate=9))
    for month in MONTHS:
        world.at = ms(f"{month}-20T00:00:00Z")
        for n in range(5):
            await world.ledger.record(
                call(estimate=n * 10**9), "failure" if n == 3 else "success", (f"{month} {n}", "d")
            )
        await world.ledger.authorize(call(estimate=101 * 10**9))
        await world.ledger.change_agent("a", {"status": "active"})
    await world.ledger.settle(held.action_id, Settlement(8, "success"))


async def everything(world: World) -> tuple[Any, ...]:
    ledger = world.ledger
    agents = ledger.agents()
    return (
        agents,
        [ledger.standings(agent.id) for agent in agents],
        list(await ledger.alerts()),
        (await ledger.actions(ActionFilter(limit=1000))).items,
        await ledger.spend(["agent", "day", "outcome"], None, None),
    )


def files(data: Path) -> set[str]:
    return {path.name for path in (data / "journal").iterdir()}


def without_index(data: Path) -> None:
    for path in data.glob("index.sqlite*"):
        path.unlink()


async def stopped(world: World) -> tuple[Any, ...]:
    """A stopped ledger of three months, and all it answered."""
    await filled(world)
    before = await everything(world)
    await world.stop()
    return before


async def test_closed_months_are_compressed_and_read_as_before(world: World) -> None:
    before = await stopped(world)
    proved, texts = verify(world.data), {}
    for month in MONTHS[:2]:
        texts[month] = (world.data / "journal" / f"{month}.jsonl").read_bytes()
    done = list(archive(world.data, LATER))
    assert files(world.data) == {"2026-10.jsonl.gz", "2026-11.jsonl.gz", "2026-12.jsonl", "synced"}
    assert [month.month for month in done] == MONTHS[:2]
    assert [month.size for month in done] == [len(text) for text in texts.values()]
    assert (done[0].first, done[0].last + 1) == (1, done[1].first)
    for month, text in texts.items():
        packed = world.data / "journal" / f"{month}.jsonl.gz"
        assert gzip.decompress(packed.read_bytes()) == text
        assert packed.stat().st_mode & 0o777 == 0o600
    assert verify(world.data) == proved
    assert verify(world.data, anchor=done[0].head).ok
    assert list(archive(world.data, LATER)) == []
    without_index(world.data)
    await world.start()
    assert await everything(world) == before
    assert world.ledger.health().warnings == ()
    again = await world.ledger.record(call(), "success", ("2026-12 4", "d"))
    assert again.replayed


async def test_compressing_twice_gives_the_same_bytes(world: World, tmp_path: Path) -> None:
    await stopped(world)
    shutil.copytree(world.data, tmp_path / "copy")
    for data in (world.data, tmp_path / "copy"):
        list(archive(data, LATER))
    ones, others = ((data / "journal" / "2026-10.jsonl.gz").read_bytes() for data in (world.data, tmp_path / "copy"))
    assert ones == others


async def test_months_before_one_that_is_named(world: World) -> None:
    await stopped(world)
    assert [month.month for month in archive(world.data, LATER, before="2026-11")] == ["2026-10"]
    assert [month.month for month in archive(world.data, LATER, before="2027-05")] == ["2026-11"]


async def test_months_that_were_moved_are_not_missed_and_prove_the_whole_chain(world: World, tmp_path: Path) -> None:
    before = await stopped(world)
    proved = verify(world.data)
    first_head = verify(world.data, anchor="?").head
    list(archive(world.data, LATER, before="2026-11"))
    done = list(archive(world.data, LATER, to=tmp_path))
    assert files(world.data) == {"2026-12.jsonl", "synced", "archived"}
    assert {path.name for path in tmp_path.glob("*.gz")} == {"2026-10.jsonl.gz", "2026-11.jsonl.gz"}
    report = verify(world.data)
    assert report.problems == ()
    assert (report.first, report.head) == (done[1].last + 1, first_head)
    assert verify(world.data, anchor=done[1].head).ok
    assert not verify(world.data, anchor=done[0].head).ok
    assert verify(world.data, anchor=done[0].head, also=tmp_path) == proved
    await world.start()
    assert await everything(world) == before
    assert world.ledger.health().warnings == ()


async def test_months_that_were_removed_keep_their_rows_in_the_index(world: World) -> None:
    before = await stopped(world)
    done = list(archive(world.data, LATER, remove=True))
    assert files(world.data) == {"2026-12.jsonl", "synced", "archived"}
    assert [month.path for month in done] == [None, None]
    assert read_archived(world.data / "journal")[1:] == (done[1].last, done[1].head)
    assert verify(world.data).problems == ()
    assert find_action(world.data, before[3][-1].id) == before[3][-1]
    await world.start()
    assert await everything(world) == before
    world.at = ms("2027-01-02T00:00:00Z")
    await world.ledger.record(call(), "success")
    await world.stop()
    assert [month.month for month in archive(world.data, LATER)] == ["2026-12"]
    (world.data / "journal" / "2026-12.jsonl.gz").unlink()
    assert "were not archived" in verify(world.data).problems[0]


async def test_what_a_lost_index_no_longer_knows_is_told(world: World, tmp_path: Path) -> None:
    before = await stopped(world)
    list(archive(world.data, LATER, to=tmp_path))
    without_index(world.data)
    await world.start()
    await world.ledger.actions(ActionFilter())
    assert world.ledger.health().warnings == (
        "lists and totals begin with 2026-12: the read index was made without the months before",
    )
    assert [row.id for row in (await world.ledger.actions(ActionFilter())).items] == [
        row.id
        for row in before[3]
        if row.created_at >= ms("2026-12-01T00:00:00Z") or (row.ending == "settled" and row.cost == 8)
    ]
    assert verify(world.data).problems == ()
    assert verify(world.data, also=tmp_path).problems == ()
    await world.stop()
    for path in tmp_path.glob("*.gz"):
        path.rename(world.data / "journal" / path.name)
    await world.start()  # they are back
    assert await everything(world) == before
    assert world.ledger.health().warnings == ()


@pytest.mark.parametrize("index", ["kept", "lost"])
async def test_a_new_budget_counts_removed_months_or_says_that_it_does_not(world: World, index: str) -> None:
    await stopped(world)
    list(archive(world.data, LATER, remove=True))
    if index == "lost":
        without_index(world.data)
    await world.start()
    await world.new_alerts()
    world.policies = {"more": policy(budget("all", "1000", "total"), budget("month", "900", "month"), thresholds=(50,))}
    await world.do_use("more")
    assert await world.do_balance("month", "") == "10.00+0.00"
    alerts = await world.new_alerts()
    if index == "kept":
        assert await world.do_balance("all", "") == "30.000000008+0.00"
        assert alerts == []
    else:
        assert await world.do_balance("all", "") == "10.000000008+0.00"
        assert [alert.type for alert in alerts] == ["history_missing"]
        assert alerts[0].message.startswith("all: opened with what was spent from 2026-12 on.")


async def test_promise_6_a_month_whose_keys_still_hold_is_not_taken_away(world: World, tmp_path: Path) -> None:
    await stopped(world)
    day_after = ms("2026-12-01T23:59:59Z")
    first, second = archive(world.data, day_after, to=tmp_path)
    assert (first.path, first.kept) == (tmp_path / "2026-10.jsonl.gz", "")
    assert second.path == world.data / "journal" / "2026-11.jsonl.gz"
    assert second.kept == "its Idempotency-Keys hold for 24 hours"
    (second,) = archive(world.data, day_after + 1000, to=tmp_path)
    assert second.path == tmp_path / "2026-11.jsonl.gz"


@pytest.mark.parametrize("index", ["lost", "behind", "older", "garbage"])
@pytest.mark.parametrize("remove", [False, True])
async def test_a_month_that_the_index_has_not_got_is_not_taken_away(
    world: World, tmp_path: Path, index: str, remove: bool
) -> None:
    await world.ledger.record(call(), "success")
    await world.ledger.actions(ActionFilter())
    await world.stop()
    old = path_of(world.data).read_bytes()
    await world.start()
    await stopped(world)
    without_index(world.data)
    if index != "lost":
        path_of(world.data).write_bytes(
            {"behind": old, "older": old[:60] + bytes(4) + old[64:], "garbage": b"x" * 99}[index]
        )
    done = list(archive(world.data, LATER, to=None if remove else tmp_path, remove=remove))
    assert {month.kept for month in done} == {"the read index has not got its rows yet; a running sidecar brings it up"}
    assert months(world.data / "journal") == MONTHS
    assert list(tmp_path.glob("*.gz")) == []


async def test_a_damaged_month_stays_as_it_is(world: World) -> None:
    await stopped(world)
    path = world.data / "journal" / "2026-11.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for damaged, place in (
        ([*lines[:2], lines[2].replace(b'"cost":1', b'"cost":2'), *lines[3:]], "2026-11.jsonl, line 4"),
        (lines[:-1], "2026-12.jsonl does not follow 2026-11.jsonl"),
    ):
        path.write_bytes(b"".join(damaged))
        held = path.read_bytes()
        for how in ({}, {"remove": True}):
            with pytest.raises(LedgerDamaged, match=place):
                list(archive(world.data, LATER, **how))
            assert path.read_bytes() == held
            assert "2026-11.jsonl.gz" not in files(world.data)


async def test_a_compressed_month_that_is_damaged_is_found(world: World, tmp_path: Path) -> None:
    await stopped(world)
    list(archive(world.data, LATER))
    path = world.data / "journal" / "2026-10.jsonl.gz"
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], b"", whole[:700] + b"\xff" + whole[701:], whole + b"x"):
        path.write_bytes(damaged)
        report = verify(world.data)
        assert any(
            "2026-10.jsonl.gz, line" in problem or "2026-11.jsonl.gz, line 1" in problem for problem in report.problems
        )
        with pytest.raises(LedgerDamaged):
            list(archive(world.data, LATER, to=tmp_path))
        assert path.read_bytes() == damaged
    without_index(world.data)
    path.write_bytes(whole[:-1])
    await world.start()
    assert await world.do_authorize("a", "1.00") != ""  # the line goes on
    with pytest.raises(LedgerError, match="can't follow the journal"):
        await world.ledger.actions(ActionFilter())


async def test_nothing_is_moved_over_another_file_or_to_no_folder(world: World, tmp_path: Path) -> None:
    await stopped(world)
    (tmp_path / "2026-10.jsonl.gz").write_bytes(b"another ledger's")
    with pytest.raises(LedgerError, match="is there already, and is not"):
        list(archive(world.data, LATER, to=tmp_path))
    assert (tmp_path / "2026-10.jsonl.gz").read_bytes() == b"another ledger's"
    for to in (tmp_path / "missing", world.data / "journal", tmp_path / "2026-10.jsonl.gz"):
        with pytest.raises(LedgerError, match="is no other folder to move months to"):
            list(archive(world.data, LATER, to=to))
    with pytest.raises(LedgerError, match="holds no journal"):
        list(archive(tmp_path, LATER))
    with reading_files(world.data / "journal"), pytest.raises(LedgerError, match="another command is at work"):
        list(archive(world.data, LATER))
    assert months(world.data / "journal") == MONTHS


async def test_a_month_is_not_closed_before_a_line_of_the_next_is_synced(world: World) -> None:
    await stopped(world)
    note = (world.data / "journal" / "synced").read_text()
    (world.data / "journal" / "synced").write_text(note.replace("2026-12", "2026-11"))
    assert [month.month for month in archive(world.data, LATER)] == ["2026-10"]
    (world.data / "journal" / "synced").unlink()
    assert list(archive(world.data, LATER)) == []


async def test_a_journal_whose_open_month_is_gone_refuses_to_open_though_closed_ones_are_there(world: World) -> None:
    await stopped(world)
    list(archive(world.data, LATER))
    for name in ("journal/2026-12.jsonl", "journal/synced", "desk.json"):
        (world.data / name).unlink()
    with pytest.raises(
        LedgerDamaged, match=r"2026-11\.jsonl is a closed month, compressed: the file of the month after"
    ):
        await world.start()


@pytest.mark.parametrize("how", ["compress", "move"])
async def test_what_reads_otherwise_than_it_was_written_takes_no_files_place(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    await stopped(world)
    if how == "move":
        list(archive(world.data, LATER))
    held = files(world.data)
    monkeypatch.setattr(shutil, "copyfileobj", lambda source, target, *size: target.write(source.read()[:-1] + b"?"))
    with pytest.raises(OSError, match="it reads otherwise than it was written"):
        list(archive(world.data, LATER, to=tmp_path if how == "move" else None))
    assert files(world.data) == held
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


async def test_power_loss_finds_what_takes_a_files_place_on_disk(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Synced before it takes the place, and its folder before the other goes."""
    await stopped(world)
    to, done = tmp_path / "elsewhere", []
    to.mkdir()

    def telling(name: str, real: Callable[..., Any]) -> Callable[..., None]:
        def call(what: Any, *rest: Any) -> None:
            path = Path(f"/proc/self/fd/{what}").readlink() if isinstance(what, int) else Path(what)
            real(what, *rest)
            done.append(f"{name} {path.name}")

        return call

    for name in ("fsync", "replace", "unlink"):
        monkeypatch.setattr(os, name, telling(name, getattr(os, name)))
    list(archive(world.data, LATER, before="2026-11", to=to))
    packed, in_journal = "2026-10.jsonl.gz.tmp", "fsync journal"
    assert done == [
        *(f"fsync {packed}", f"replace {packed}", in_journal, "unlink 2026-10.jsonl", in_journal),
        *(f"fsync {packed}", f"replace {packed}", "fsync elsewhere"),
        *("fsync archived.tmp", "replace archived.tmp", in_journal, "unlink 2026-10.jsonl.gz", in_journal),
    ]


@pytest.mark.parametrize("how", ["compress", "move", "remove"])
async def test_a_crash_at_any_step_leaves_the_ledger_whole(world: World, tmp_path: Path, how: str) -> None:
    await stopped(world)
    proved = verify(world.data)
    data, to = tmp_path / "crashed", tmp_path / "elsewhere"
    options: dict[str, Any] = {"compress": {}, "move": {"to": to, "before": "2026-11"}, "remove": {"remove": True}}[how]
    for step in count(1):
        shutil.copytree(world.data, data)
        to.mkdir()
        with crashing(step) as crashed:
            list(archive(data, LATER, **options))
        told = verify(data, also=to)
        assert told.problems == ()
        assert told.head == proved.head
        assert how == "remove" or (told.first, told.lines) == (1, proved.lines)
        list(archive(data, LATER, **options))
        assert verify(data, also=to).problems == ()
        assert not list(data.rglob("*.tmp")) + list(to.rglob("*.tmp"))
        assert months(data / "journal") == MONTHS[{"compress": 0, "move": 1, "remove": 2}[how] :]
        shutil.rmtree(data)
        shutil.rmtree(to)
        if not crashed():
            break
    assert step > 8


async def test_beside_a_ledger_at_work_nothing_is_lost(world: World, tmp_path: Path) -> None:
    await filled(world)
    await everything(world)
    working = True

    async def work() -> int:
        calls = 0
        while working:
            world.at += 8 * 3_600_000  # into further months, as the archive looks
            await world.ledger.record(call(estimate=1), "success")
            calls += 1
            await asyncio.sleep(0)
        return calls

    load = asyncio.create_task(work())
    done: list[str] = []
    while len(done) < 6:
        done += [
            month.month for month in await asyncio.to_thread(lambda: list(archive(world.data, world.at, to=tmp_path)))
        ]
        await world.ledger.actions(ActionFilter(limit=1))
    working = False
    calls = await load
    assert (await world.ledger.spend([], None, None))[0]["actions"] >= calls
    await world.stop()
    assert verify(world.data).problems == ()
    assert verify(world.data, also=tmp_path).problems == ()
    assert verify(world.data, also=tmp_path).first == 1
