"""Opening what a crash, a disk or a hand left behind."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.ledger.port import Admission, LedgerDamaged, LedgerError, Settlement
from proxy.ledger.verify import verify
from tests.contract.world import World, call, ms

MONTH = "2026-10"


def journal(world: World, month: str = MONTH) -> Path:
    return world.data / "journal" / f"{month}.jsonl"


async def filled(world: World, actions: int = 6) -> list[bytes]:
    """Stop a ledger of so many recorded actions; its lines."""
    for _ in range(actions):
        await world.ledger.record(call(estimate=1), "success")
    await world.stop()
    return journal(world).read_bytes().splitlines(keepends=True)


def not_synced_past(world: World, lines: list[bytes], kept: int) -> None:
    """As after a power loss: only the first ``kept`` lines are known to be synced, and the desk is older than all."""
    text = b"".join(lines[:kept])
    note = {"month": MONTH, "offset": len(text), "crc": zlib.crc32(text)}
    (world.data / "journal" / "synced").write_text(json.dumps(note))
    (world.data / "desk.json").unlink(missing_ok=True)


GARBAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda line: line[:-40],
    "no newline": lambda line: line[:-1],
    "zeros": lambda line: b"\0" * len(line),
    "half zeros": lambda line: line[:100] + b"\0" * (len(line) - 101) + b"\n",
    "bad utf-8": lambda line: line[:60] + b"\xff\xfe" + line[62:],
    "not an object": lambda line: b"[1,2]\n",
    "a number": lambda line: b"7\n",
    "empty": lambda line: b"\n",
    "nested": lambda line: b"[" * 5000 + b"\n",
    "other sequence": lambda line: line.replace(b'"seq":', b'"seq":1'),
    "other version": lambda line: b'{"v":0,' + line.split(b",", 1)[1],
    "other hash": lambda line: line.replace(b'"prev":"', b'"prev":"0'),
    "earlier": lambda line: line.replace(b'"at":17', b'"at":16'),
    "another month": lambda line: line.replace(b'"at":17', b'"at":19'),
    "unknown type": lambda line: line.replace(b'"type":"', b'"type":"un'),
    "no type": lambda line: line.replace(b'"type":"', b'"tape":"'),
}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("lines_after", [0, 3])
async def test_hazard_38_damage_past_what_was_synced_is_set_aside_and_reported(
    world: World, garbage: str, lines_after: int
) -> None:
    lines = await filled(world)
    at = len(lines) - 1 - lines_after
    damaged = GARBAGE[garbage](lines[at]) + b"".join(lines[at + 1 :])
    journal(world).write_bytes(b"".join(lines[:at]) + damaged)
    not_synced_past(world, lines, at)
    await world.start()
    assert await world.do_balance("monthly_budget", "a") == f"0.{6 - 1 - lines_after:09d}+0.00"
    (aside,) = (world.data / "journal").glob("damaged-*.jsonl")
    assert aside.read_bytes() == damaged
    (warning,) = world.ledger.health().warnings
    assert f"{MONTH}.jsonl, line {at + 1}, byte {sum(map(len, lines[:at]))}" in warning
    assert aside.name in warning
    assert await world.do_alerts() == "journal_damaged"
    assert world.ledger.health().ok
    await world.restart()
    assert world.ledger.health().warnings == ()
    await world.stop()
    assert verify(world.data).problems == ()


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("desk", ["kept", "lost"])
@pytest.mark.parametrize("line", [0, 3, -1])
async def test_hazard_38_damage_before_what_was_synced_refuses_to_open_saying_where(
    world: World, garbage: str, desk: str, line: int
) -> None:
    lines = await filled(world)
    at = range(len(lines))[line]
    mangled = GARBAGE[garbage](lines[at])
    assert mangled != lines[at]
    # A first line may follow months that are gone: its sequence is only disproved by the line after it.
    told = at + 1 if (at, garbage) == (0, "other sequence") else at
    place = rf"{MONTH}\.jsonl, line {told + 1}, byte {sum(map(len, [*lines[:at], mangled][:told]))}"
    journal(world).write_bytes(b"".join(lines[:at]) + mangled + b"".join(lines[at + 1 :]))
    if desk == "lost":
        (world.data / "desk.json").unlink()
    before = journal(world).read_bytes()
    with pytest.raises(LedgerDamaged, match=place):
        await world.start()
    assert journal(world).read_bytes() == before
    assert not list((world.data / "journal").glob("damaged-*"))
    with pytest.raises(LedgerDamaged):
        await world.start()


@pytest.mark.parametrize("desk", ["kept", "lost"])
async def test_hazard_38_a_synced_amount_changed_in_place_is_found(world: World, desk: str) -> None:
    lines = await filled(world)
    forged = [*lines[:-1], lines[-1].replace(b'"cost":1,', b'"cost":0,')]
    assert forged != lines
    journal(world).write_bytes(b"".join(forged))
    if desk == "lost":
        (world.data / "desk.json").unlink()
    with pytest.raises(LedgerDamaged, match=f"line {len(lines)}"):
        await world.start()


@pytest.mark.parametrize("desk", ["kept", "lost"])
@pytest.mark.parametrize("lost", ["a line", "half a line", "all but one", "everything", "the file"])
async def test_hazard_38_a_journal_shorter_than_was_synced_refuses_to_open(world: World, lost: str, desk: str) -> None:
    lines = await filled(world)
    kept = {"a line": lines[:-1], "half a line": [*lines[:-1], lines[-1][:50]], "all but one": lines[:1]}.get(lost, [])
    journal(world).write_bytes(b"".join(kept))
    if lost == "the file":
        journal(world).unlink()
    if desk == "lost":
        (world.data / "desk.json").unlink()
    with pytest.raises(LedgerDamaged, match=MONTH):
        await world.start()


@pytest.mark.parametrize("lost", ["a line", "the file"])
async def test_a_checkpoint_vouches_for_its_lines_where_the_note_of_what_was_synced_is_lost(
    world: World, lost: str
) -> None:
    lines = await filled(world)
    (world.data / "journal" / "synced").unlink()
    if lost == "the file":
        journal(world).unlink()
    else:
        journal(world).write_bytes(b"".join(lines[:-1]))
    with pytest.raises(LedgerDamaged, match=MONTH):
        await world.start()


async def test_a_torn_tail_at_every_byte_of_the_last_line_leaves_the_lines_before(world: World, tmp_path: Path) -> None:
    lines = await filled(world, 2)
    for cut in range(0, len(lines[-1]), 7):
        for aside in (world.data / "journal").glob("damaged-*"):
            aside.unlink()
        journal(world).write_bytes(b"".join(lines[:-1]) + lines[-1][:cut])
        not_synced_past(world, lines, len(lines) - 1)
        await world.start()
        assert await world.do_balance("monthly_budget", "a") == "0.000000001+0.00"
        assert bool(world.ledger.health().warnings) == (cut > 0)
        await world.stop()


@pytest.mark.parametrize("damage", ["lost", "empty", "garbage", "cut", "other tables"])
async def test_a_lost_or_damaged_desk_is_rebuilt_from_the_journal(world: World, damage: str) -> None:
    held = await world.ledger.authorize(call(estimate=3))
    await world.ledger.add_key("a", "ab" * 32)
    await world.ledger.authorize(call(estimate=101 * 10**9))
    alerts = await world.ledger.alerts()
    await world.ledger.settle(held.action_id, Settlement(2, "success"))
    agent = world.ledger.agent("a")
    await world.stop()
    desk = world.data / "desk.json"
    if damage == "lost":
        desk.unlink()
    else:
        whole = desk.read_bytes()
        desk.write_bytes(
            {"empty": b"", "garbage": b"\xff\0", "cut": whole[: len(whole) // 2], "other tables": b"{}"}[damage]
        )
    await world.start()
    assert world.ledger.agent("a") == agent
    assert world.ledger.agent_by_key("ab" * 32) == agent
    assert await world.ledger.alerts() == alerts
    assert await world.do_balance("monthly_budget", "a") == "0.000000002+0.00"
    assert world.ledger.health().warnings == ()


async def test_a_desk_of_long_ago_is_brought_up_by_the_lines_after_it(world: World) -> None:
    await filled(world)
    old = (world.data / "desk.json").read_bytes()
    await world.start()
    await filled(world, 5)
    (world.data / "desk.json").write_bytes(old)
    await world.start()
    assert await world.do_balance("monthly_budget", "a") == "0.000000011+0.00"


async def test_a_month_torn_at_its_first_line_gives_way_to_the_month_before(world: World) -> None:
    lines = await filled(world)
    not_synced_past(world, lines, len(lines))
    journal(world, "2026-11").write_bytes(b'{"v":1,"seq":')
    await world.start()
    assert await world.do_balance("monthly_budget", "a") == "0.000000006+0.00"
    world.at = ms("2026-11-01T00:00:00Z")
    assert isinstance(await world.ledger.authorize(call()), Admission)
    assert journal(world, "2026-11").exists()


async def test_the_expired_of_a_crash_are_charged_unconfirmed_once(world: World) -> None:
    held = await world.ledger.authorize(call(estimate=3))
    await world.restart()
    await world.restart()
    row = await world.ledger.action(held.action_id)
    assert (row.cost, row.ending, row.outcome, row.unconfirmed, row.flags) == (
        3,
        "expired",
        "failure",
        True,
        ("expired",),
    )
    assert await world.do_balance("monthly_budget", "a") == "0.000000003+0.00"


async def test_hazard_39_a_second_ledger_on_the_folder_refuses(world: World) -> None:
    second = World(world._open, world.data, world.policies)
    with pytest.raises(LedgerError, match="in use by another process"):
        await second.start()
    assert isinstance(await world.ledger.authorize(call()), Admission)
    await world.stop()
    await second.start()
    await second.stop()


async def test_a_folder_that_cannot_be_used_says_so(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    other = World(world._open, tmp_path / "file", world.policies)
    with pytest.raises(LedgerError, match="can't be used"):
        await other.start()
