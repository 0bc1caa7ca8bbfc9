"""The data folder under odd hands: taken twice, copied, moved, deleted, mixed with what is another's."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.ledger import journal as journal_module
from proxy.ledger.embedded import EmbeddedLedger, open_embedded
from proxy.ledger.port import ActionFilter, Admission, LedgerError, LedgerUnavailable
from proxy.ledger.store import Store
from proxy.ledger.verify import verify
from tests.contract.policies import policy
from tests.contract.world import World, call, ms
from tests.proxy.ledger.disk import Disk, Point, io_error


def store_of(world: World) -> Store:
    assert isinstance(world.ledger, EmbeddedLedger)
    return world.ledger._store


async def filled(world: World, *moments: str) -> None:
    for moment in moments:
        world.at = ms(moment)
        for cost in range(1, 5):
            await world.ledger.record(call(estimate=cost), "success")


async def costs(world: World) -> list[int]:
    return [row.cost async for row in world.ledger.export(ActionFilter())]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


# -- whose it is -------------------------------------------------------------------------------------------------------
async def test_hazard_39_a_second_started_while_the_first_is_being_killed_comes_after_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.proxy.ledger.crash_child", str(tmp_path), "working", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(100):
            await asyncio.to_thread(process.stdout.readline)
        with pytest.raises(LedgerError, match="in use by another process"):
            await open_embedded(tmp_path)
        process.kill()
        async with asyncio.timeout(10):
            while True:
                try:
                    ledger = await open_embedded(tmp_path)
                    break
                except LedgerError:
                    await asyncio.sleep(0)
        head = ledger.health().head
        process.stdout.read()
    await asyncio.sleep(0.01)
    assert ledger.health().head == head
    await ledger.close()
    assert verify(tmp_path, head).problems == ()


async def test_hazard_39_a_lock_file_that_a_dead_process_left_holds_nobody_up(world: World) -> None:
    await world.stop()
    (world.data / "lock").write_text("4711\n")
    await world.start()
    assert isinstance(await world.ledger.authorize(call()), Admission)


async def test_hazard_39_a_copy_of_a_folder_in_use_is_a_ledger_of_its_own(world: World, tmp_path: Path) -> None:
    await filled(world, "2026-10-20T00:00:00Z")
    other = World(world._open, tmp_path / "copy", world.policies)
    shutil.copytree(world.data, other.data)
    other.at = world.at
    await other.start()
    await other.ledger.record(call(estimate=9), "success")
    assert (await costs(world), await costs(other)) == ([1, 2, 3, 4], [1, 2, 3, 4, 9])
    await other.stop()


async def test_hazard_39_by_a_symbolic_link_it_is_the_same_folder(world: World, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(world.data)
    with pytest.raises(LedgerError, match="in use by another process"):
        await open_embedded(tmp_path / "link")
    await filled(world, "2026-10-20T00:00:00Z")
    await world.stop()
    world.data = tmp_path / "link"
    await world.start()
    await filled(world, "2026-11-01T00:00:00Z")
    assert await costs(world) == [1, 2, 3, 4] * 2
    await world.stop()
    assert verify(tmp_path / "link").problems == ()


# -- what is under it --------------------------------------------------------------------------------------------------
def remove(world: World) -> None:
    shutil.rmtree(world.data)


def begin_again(world: World) -> None:
    shutil.rmtree(world.data)
    shutil.copytree(world.data.with_name("kept"), world.data)


def move_the_file(world: World) -> None:
    path = world.data / "journal" / "2026-10.jsonl"
    path.rename(path.with_suffix(".moved"))


@pytest.mark.parametrize("durability", ["normal", "strict"])
@pytest.mark.parametrize("doing", [remove, begin_again, move_the_file])
async def test_promise_8_a_journal_that_was_taken_from_under_the_ledger_is_closed(
    world: World, doing: Callable[[World], None], durability: str
) -> None:
    """What is written to a file that no path leads to would be found by nobody."""
    world.policies = {"it": policy(durability=durability)}
    await world.do_use("it")
    await store_of(world).journal.durable(world.ledger.health().sequence)
    shutil.copytree(world.data, world.data.with_name("kept"))
    doing(world)
    if durability == "strict":
        with pytest.raises(LedgerUnavailable, match="moved or removed"):
            await world.ledger.authorize(call())
    else:
        await world.ledger.authorize(call())
        await until(lambda: not world.ledger.health().ok)
    with pytest.raises(LedgerUnavailable, match="moved or removed"):
        await world.ledger.authorize(call())


async def test_files_that_are_not_the_journals_are_left_alone(world: World) -> None:
    await filled(world, "2026-10-20T00:00:00Z")
    await world.stop()
    folder = world.data / "journal"
    names = ("2026-11.jsonl~", ".2026-11.jsonl.swp", "2026-13.jsonl", "2026-11.jsonl.bak", "x2026-11.jsonl", "README")
    for name in names:
        (folder / name).write_text("not a line\n")
    (folder / "2027-01").mkdir()
    assert verify(world.data).problems == ()
    await world.start()
    await filled(world, "2026-10-21T00:00:00Z")
    assert await costs(world) == [1, 2, 3, 4] * 2
    assert all((folder / name).read_text() == "not a line\n" for name in names)


# -- months ------------------------------------------------------------------------------------------------------------
async def test_an_empty_file_of_a_new_month_is_begun_anew(world: World) -> None:
    await filled(world, "2026-10-20T00:00:00Z")
    await world.stop()
    (world.data / "journal" / "2026-11.jsonl").touch()
    assert verify(world.data).problems == ()
    await world.start()
    await filled(world, "2026-11-02T00:00:00Z")
    assert await costs(world) == [1, 2, 3, 4] * 2
    await world.stop()
    assert verify(world.data).problems == ()


async def test_a_month_missing_between_others_is_told_by_reads_and_by_verify_and_stops_no_call(world: World) -> None:
    await filled(world, "2026-10-20T00:00:00Z", "2026-11-02T00:00:00Z", "2026-12-02T00:00:00Z")
    await world.stop()
    (world.data / "journal" / "2026-11.jsonl").unlink()
    (world.data / "index.sqlite").unlink()
    assert any("2026-12.jsonl, line 1, byte 0" in problem for problem in verify(world.data).problems)
    await world.start()
    assert await world.do_balance("monthly_budget", "a") == "0.00000001+0.00"
    assert isinstance(await world.ledger.authorize(call()), Admission)
    async with asyncio.timeout(10):
        with pytest.raises(LedgerUnavailable, match=r"2026-12\.jsonl, line 1, byte 0: it does not follow"):
            await world.ledger.actions(ActionFilter())
    assert any("2026-12.jsonl, line 1" in warning for warning in world.ledger.health().warnings)


@pytest.mark.parametrize("longer", [1, 30])
async def test_the_index_of_another_course_of_events_is_made_anew(world: World, longer: int, tmp_path: Path) -> None:
    """As where the power took lines that it had seen, or where it was restored from a copy."""
    await filled(world, "2026-10-20T00:00:00Z")
    await world.stop()
    shutil.copytree(world.data, tmp_path / "then")
    await world.start()
    await world.ledger.record(call(estimate=77, metadata='"' + "x" * 300 + '"'), "success")
    assert await costs(world) == [1, 2, 3, 4, 77]
    await world.stop()
    other = (world.data / "index.sqlite").read_bytes()
    shutil.rmtree(world.data)
    shutil.copytree(tmp_path / "then", world.data)
    await world.start()
    for _ in range(longer):
        await world.ledger.record(call(estimate=5), "success")
    await world.stop()
    (world.data / "index.sqlite").write_bytes(other)
    await world.start()
    assert await costs(world) == [1, 2, 3, 4] + [5] * longer
    assert world.ledger.health().warnings == ()


async def test_hazard_36_a_crash_between_a_months_file_and_its_first_line(world: World, tmp_path: Path) -> None:
    """The thread that syncs may come in between: it must not note a month that no line stands for."""
    await filled(world, "2026-10-20T00:00:00Z")
    journal = store_of(world).journal
    journal.begin_month(ms("2026-11-01T00:00:00Z"))
    journal._work.set()
    await until(lambda: not journal._work.is_set())
    with journal._file:  # whatever it then does is done
        shutil.copytree(world.data, tmp_path / "copy")
    other = World(world._open, tmp_path / "copy", world.policies)
    await other.start()
    assert await costs(other) == [1, 2, 3, 4]
    await other.stop()


async def test_a_month_that_could_not_begin_is_no_checkpoint(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(world, "2026-10-20T00:00:00Z")
    store = store_of(world)
    await store.journal.durable(store.journal.tip.seq)
    world.at = ms("2026-11-01T00:00:00Z")
    with monkeypatch.context() as patch:
        patch.setattr(journal_module.os, "write", lambda fd, line: 0)
        store._begin_checkpoint()
        with pytest.raises(LedgerUnavailable):
            await world.ledger.record(call(), "success")
    assert store._checkpointing is not None
    await store._checkpointing
    await world.restart()
    assert await costs(world) == [1, 2, 3, 4]


async def test_hazard_38_a_tail_that_finds_no_room_beside_the_journal_stays_in_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(world, "2026-10-20T00:00:00Z")
    await world.stop()
    path = world.data / "journal" / "2026-10.jsonl"
    torn = path.read_bytes() + b'{"v":'
    path.write_bytes(torn)

    def full(point: Point) -> None:
        if point[0] == "recovery._set_aside:write":
            raise io_error(point)

    with monkeypatch.context() as patch:
        Disk(world.data, patch, full)
        for _ in range(3):
            with pytest.raises(LedgerError, match="No space left on device"):
                await world.start()
    assert path.read_bytes() == torn
    assert not list(path.parent.glob("damaged-*"))
    await world.start()
    assert await costs(world) == [1, 2, 3, 4]
    (aside,) = path.parent.glob("damaged-*")
    assert aside.read_bytes() == b'{"v":'


# -- syncs -------------------------------------------------------------------------------------------------------------
async def test_hazard_37_a_restart_writes_again_what_a_failed_sync_may_have_left_off_the_disk(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(world, "2026-10-20T00:00:00Z")
    await world.stop()
    path = world.data / "journal" / "2026-10.jsonl"
    whole = path.read_bytes()
    note = world.data / "journal" / "synced"
    first = whole.index(b"\n") + 1
    note.write_text(json.dumps({"month": "2026-10", "offset": first, "crc": zlib.crc32(whole[:first])}))
    with monkeypatch.context() as patch:
        disk = Disk(world.data, patch, lambda point: None)
        await world.start()
    places = [place for place, _ in disk.points]
    assert places.index("journal._write_again:write") < places.index("journal._sync:fdatasync")
    assert path.read_bytes()[: len(whole)] == whole
    assert json.loads(note.read_bytes())["offset"] >= len(whole)
