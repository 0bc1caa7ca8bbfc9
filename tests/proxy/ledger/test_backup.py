"""A backup holds all that was recorded as it began, and a restored ledger is that one."""

from __future__ import annotations

import asyncio
import io
import shutil
import tarfile
from itertools import count
from pathlib import Path

import pytest

from proxy.ledger.archive import archive
from proxy.ledger.backup import backup, restore
from proxy.ledger.embedded import open_embedded
from proxy.ledger.port import ActionFilter, LedgerDamaged, LedgerError
from proxy.ledger.verify import verify
from tests.contract.world import World, call
from tests.proxy.ledger.crashing import crashing
from tests.proxy.ledger.test_archive import LATER, MONTHS, everything, filled, stopped


def members(copy: Path) -> list[str]:
    with tarfile.open(copy) as tar:
        return tar.getnames()


def tree(data: Path) -> dict[str, bytes]:
    return {str(path.relative_to(data)): path.read_bytes() for path in data.rglob("*") if path.is_file()}


async def reopened(world: World, data: Path) -> World:
    other = World(open_embedded, data, world.policies)
    other.at = world.at
    await other.start()
    return other


@pytest.mark.parametrize("months", ["plain", "compressed", "removed"])
async def test_a_restored_ledger_is_the_one_that_was_copied(world: World, tmp_path: Path, months: str) -> None:
    key = "ab" * 32
    await world.ledger.add_key("a", key)
    before = await stopped(world)
    (world.data / "admin-token").write_text("secret")
    if months != "plain":
        list(archive(world.data, LATER, remove=months == "removed"))
    held = tree(world.data)
    report = backup(world.data, tmp_path / "copy.tar.gz")
    assert tree(world.data) == held
    assert (tmp_path / "copy.tar.gz").stat().st_mode & 0o777 == 0o600
    suffix = ".gz" if months == "compressed" else ""
    closed = [f"journal/{month}.jsonl{suffix}" for month in MONTHS[:2]]
    kept = ["index.sqlite", "journal/archived"] if months == "removed" else closed
    assert members(tmp_path / "copy.tar.gz") == [*kept, "journal/2026-12.jsonl", "journal/synced"]
    assert (report.lines, report.head) == (verify(world.data).lines, verify(world.data).head)
    assert restore(tmp_path / "copy.tar.gz", tmp_path / "new") == report
    assert {path.name for path in (tmp_path / "new").iterdir()} <= {"journal", "lock", "index.sqlite"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "new").rglob("*"))
    other = await reopened(world, tmp_path / "new")
    assert await everything(other) == before
    assert other.ledger.agent_by_key(key) == other.ledger.agent("a")
    assert other.ledger.health().warnings == ()
    await other.ledger.record(call(), "success")
    await other.stop()
    assert verify(tmp_path / "new", anchor=report.head).problems == ()


async def test_beside_a_ledger_at_work_it_holds_all_that_was_acknowledged_before(world: World, tmp_path: Path) -> None:
    await filled(world)
    acknowledged: list[str] = []
    working = True

    async def work() -> None:
        while working:
            world.at += 8 * 3_600_000
            recorded = await world.ledger.record(call(estimate=1), "success")
            assert recorded.action is not None
            acknowledged.append(recorded.action.id)
            await asyncio.sleep(0.001)

    load = asyncio.create_task(work())
    for number in range(2):
        while len(acknowledged) < 30 * (number + 1) and not load.done():  # months begin meanwhile
            await asyncio.sleep(0.001)
        known = list(acknowledged)
        report = await asyncio.to_thread(backup, world.data, tmp_path / "copy.tar.gz")
        assert report.lines <= world.ledger.health().sequence
        await asyncio.to_thread(restore, tmp_path / "copy.tar.gz", tmp_path / str(number))
        other = await reopened(world, tmp_path / str(number))
        rows = [row async for row in other.ledger.export(ActionFilter())]
        await other.stop()
        assert {row.id for row in rows} >= set(known)
        assert verify(tmp_path / str(number)).problems == ()
    working = False
    await load


async def test_a_line_cut_short_is_left_out(world: World, tmp_path: Path) -> None:
    await stopped(world)
    proved = verify(world.data)
    with (world.data / "journal" / "2026-12.jsonl").open("ab") as file:
        file.write(b'{"v":1,"seq":')
    assert backup(world.data, tmp_path / "copy").head == proved.head
    for begun in (b"", b'{"v":1,'):
        (world.data / "journal" / "2027-01.jsonl").write_bytes(begun)
        assert backup(world.data, tmp_path / "copy").head == proved.head
    restore(tmp_path / "copy", tmp_path / "new")
    other = await reopened(world, tmp_path / "new")
    assert other.ledger.health().warnings == ()
    await other.stop()


async def test_what_was_written_and_not_yet_synced_is_in_it(world: World, tmp_path: Path) -> None:
    """As after `kill -9`: those lines were acknowledged."""
    await stopped(world)
    proved = verify(world.data)
    note = (world.data / "journal" / "synced").read_text()
    (world.data / "journal" / "synced").write_text(note.replace("2026-12", "2026-11"))
    assert backup(world.data, tmp_path / "copy").head == proved.head


async def test_a_damaged_ledger_is_not_copied_and_the_copy_before_stays(world: World, tmp_path: Path) -> None:
    await stopped(world)
    copy = tmp_path / "copy"
    backup(world.data, copy)
    held = copy.read_bytes()
    path = world.data / "journal" / "2026-11.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"cost":1000000000', b'"cost":2000000000'))
    with pytest.raises(LedgerDamaged, match=r"does not prove whole: 2026-11\.jsonl, line"):
        backup(world.data, copy)
    assert copy.read_bytes() == held
    with pytest.raises(LedgerError, match="holds no journal"):
        backup(tmp_path, copy)
    assert {path.name for path in tmp_path.iterdir()} == {"copy", "data"}


async def test_restore_never_touches_a_ledger(world: World, tmp_path: Path) -> None:
    await filled(world)
    backup(world.data, tmp_path / "copy")
    with pytest.raises(LedgerError, match="in use by another process"):
        restore(tmp_path / "copy", world.data)
    await world.stop()
    held = tree(world.data)
    with pytest.raises(LedgerError, match="holds a ledger already"):
        restore(tmp_path / "copy", world.data)
    shutil.rmtree(world.data / "journal")
    with pytest.raises(LedgerError, match="holds a ledger already"):
        restore(tmp_path / "copy", world.data)
    (world.data / "desk.json").unlink()
    restore(tmp_path / "copy", world.data)  # beside the index of another journal, which goes
    assert {name for name in tree(world.data) if "journal" in name} == {name for name in held if "journal" in name}
    assert not list(world.data.glob("index.sqlite*"))


def packed(*files: tuple[tarfile.TarInfo, bytes]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as tar:
        for info, text in files:
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    return held.getvalue()


def link(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


FOREIGN: dict[str, bytes] = {
    "empty": b"",
    "no archive": b"some text",
    "no members": packed(),
    "a path out of it": packed((tarfile.TarInfo("../journal/2026-12.jsonl"), b"x")),
    "an absolute path": packed((tarfile.TarInfo("/journal/synced"), b"x")),
    "a link": packed((link("journal/synced"), b"")),
    "something else": packed((tarfile.TarInfo("admin-token"), b"x")),
    "no journal": packed((tarfile.TarInfo("journal/synced"), b"x")),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_no_backup_is_refused_and_leaves_nothing(tmp_path: Path, what: str) -> None:
    (tmp_path / "copy").write_bytes(FOREIGN[what])
    with pytest.raises(LedgerError):
        restore(tmp_path / "copy", tmp_path / "new")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["lock"]
    assert not (tmp_path / "journal").exists()


async def test_a_backup_cut_or_changed_anywhere_is_refused(world: World, tmp_path: Path) -> None:
    await stopped(world)
    backup(world.data, tmp_path / "copy")
    whole = (tmp_path / "copy").read_bytes()
    ends = [at for at in range(len(whole) - 12, len(whole)) if at != len(whole) - 9]  # its last bits are of no meaning
    for at in [*range(10, len(whole) - 12, len(whole) // 25), *ends]:
        for changed in (whole[:at], whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :]):
            (tmp_path / "copy").write_bytes(changed)
            with pytest.raises(LedgerError):
                restore(tmp_path / "copy", tmp_path / "new")
            assert [path.name for path in (tmp_path / "new").iterdir()] == ["lock"]


async def test_a_crash_at_any_step_of_a_backup_leaves_the_copy_before(world: World, tmp_path: Path) -> None:
    await stopped(world)
    (tmp_path / "copy").write_bytes(b"the one before")
    for step in count(1):
        with crashing(step) as crashed:
            backup(world.data, tmp_path / "copy")
        if not crashed():
            break
        if (tmp_path / "copy").read_bytes() != b"the one before":
            restore(tmp_path / "copy", tmp_path / f"new{step}")
            (tmp_path / "copy").write_bytes(b"the one before")
    assert step > 10
    restore(tmp_path / "copy", tmp_path / "new")


async def test_a_crash_at_any_step_of_a_restore_leaves_all_or_nothing(world: World, tmp_path: Path) -> None:
    await stopped(world)
    list(archive(world.data, LATER, remove=True))
    report = backup(world.data, tmp_path / "copy")
    data = tmp_path / "new"
    data.mkdir()
    for step in count(1):
        with crashing(step) as crashed:
            restore(tmp_path / "copy", data)
        if (data / "journal").exists():
            assert verify(data) == report
            assert (data / "index.sqlite").exists()
        else:
            assert restore(tmp_path / "copy", data) == report
        assert not (data / "restoring").exists() or crashed()
        shutil.rmtree(data)
        data.mkdir()
        if not crashed():
            break
    assert step > 10


async def test_an_index_that_can_not_be_copied_is_told(world: World, tmp_path: Path) -> None:
    await stopped(world)
    list(archive(world.data, LATER, remove=True))
    (world.data / "index.sqlite").write_bytes(b"no database" * 999)
    with pytest.raises(LedgerError, match="alone has the rows of archived months"):
        backup(world.data, tmp_path / "copy")


async def test_no_file_of_another_shape_is_taken_for_a_month(world: World, tmp_path: Path) -> None:
    await stopped(world)
    for name in ("2026-13.jsonl", "2026-10.jsonl.gz.tmp", "damaged-2026-12-7-0.jsonl", "0000-01.jsonl"):
        (world.data / "journal" / name).write_bytes(b"x")
    assert verify(world.data).problems == ()
    backup(world.data, tmp_path / "copy")
    assert "x" not in {Path(name).stem for name in members(tmp_path / "copy")}
    assert len(members(tmp_path / "copy")) == 4
