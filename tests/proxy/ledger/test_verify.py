"""Promise 12: the balances equal the replay of the journal, and `verify` finds where they do not."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.ledger.port import ActionFilter, Settlement
from proxy.ledger.verify import verify
from tests.contract.world import World, call, ms


async def filled(world: World) -> None:
    held = await world.ledger.authorize(call(estimate=9))
    for moment in ("2026-10-20T00:00:00Z", "2026-11-02T00:00:00Z", "2026-12-02T00:00:00Z"):
        world.at = ms(moment)
        for n in range(4):
            await world.ledger.record(call(estimate=n), "failure")
        await world.ledger.authorize(call(estimate=101 * 10**9))
        await world.ledger.change_agent("a", {"status": "active"})
    await world.ledger.settle(held.action_id, Settlement(8, "success"))
    await world.ledger.authorize(call(estimate=5))
    await world.ledger.actions(ActionFilter())


async def test_promise_12_a_ledger_is_proved_stopped_and_running(world: World) -> None:
    await filled(world)
    running = verify(world.data)
    assert (running.ok, running.problems) == (True, ())
    assert (running.lines, running.head) == (world.ledger.health().sequence, world.ledger.health().head)
    await world.stop()
    stopped = verify(world.data, anchor=running.head)
    assert stopped.problems == ()
    assert verify(world.data, anchor="ab" * 32).problems == (
        f"no line has the hash {'ab' * 32}: the journal was cut or written anew",
    )


def test_nothing_to_verify(tmp_path: Path) -> None:
    assert verify(tmp_path).ok
    assert verify(tmp_path).lines == 0


def in_desk(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def alter(data: Path) -> None:
        desk = json.loads((data / "desk.json").read_text())
        change(desk)
        (data / "desk.json").write_text(json.dumps(desk))

    return alter


def in_line(number: int, old: bytes, new: bytes, month: str = "2026-11") -> Callable[[Path], None]:
    def alter(data: Path) -> None:
        path = data / "journal" / f"{month}.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        assert old in lines[number]
        lines[number] = lines[number].replace(old, new)
        path.write_bytes(b"".join(lines))

    return alter


def in_index(sql: str) -> Callable[[Path], None]:
    def alter(data: Path) -> None:
        db = sqlite3.connect(data / "index.sqlite")
        db.execute(sql)
        db.commit()
        db.close()

    return alter


def cut(data: Path) -> None:
    path = data / "journal" / "2026-12.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


ALTERED: list[tuple[str, Callable[[Path], None], str]] = [
    ("a balance", in_desk(lambda desk: desk["balances"]["1"]["row"].__setitem__(4, 1)), "the desk's checkpoint"),
    ("an agent", in_desk(lambda desk: desk["agents"]["1"].update(status="paused")), "the desk's checkpoint"),
    ("a key", in_desk(lambda desk: desk["keys"].update({"9": {"digest": "x", "agent_id": "a"}})), "the desk's"),
    ("a reservation", in_desk(lambda desk: desk["open"].clear()), "the desk's checkpoint"),
    ("the desk's place", in_desk(lambda desk: desk["checkpoint"]["1"].update(head="ff")), "another journal's"),
    ("the desk's text", lambda data: (data / "desk.json").write_text("{"), "desk.json can't be read"),
    ("an old cost", in_line(3, b'"cost":2', b'"cost":1'), "2026-11.jsonl, line 5, byte"),
    ("an old hash", in_line(3, b'"prev":"', b'"prev":"0'), "2026-11.jsonl, line 4, byte"),
    ("what is carried over", in_line(0, b'"name":"A"', b'"name":"B"'), "line 1, byte 0: what it carries over"),
    ("the last line's cost", in_line(-1, b'"reserved":5', b'"reserved":4', "2026-12"), "not the line that was"),
    ("the end", cut, "2026-12.jsonl was synced to byte"),
    ("a row's cost", in_index("UPDATE actions SET cost = cost + 1 WHERE cost = 3"), "the index holds"),
    ("a row", in_index("DELETE FROM actions WHERE cost = 3"), "the index holds"),
    ("the index's place", in_index("UPDATE place SET seq = 9999"), "the index has seen line 9999"),
    ("the index's text", lambda data: (data / "index.sqlite").write_bytes(b"x" * 5000), "index.sqlite can't be read"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "alter", "problem"), ALTERED, ids=[what for what, _, _ in ALTERED])
async def test_promise_12_what_was_altered_is_found(
    world: World, what: str, alter: Callable[[Path], None], problem: str
) -> None:
    await filled(world)
    await world.stop()
    assert verify(world.data).problems == ()
    alter(world.data)
    report = verify(world.data)
    assert not report.ok
    assert any(problem in found for found in report.problems), report.problems


async def test_verify_writes_nothing_of_the_ledgers(world: World) -> None:
    await filled(world)
    await world.stop()
    held = {path: path.read_bytes() for path in world.data.rglob("*") if path.is_file() and "sqlite" not in path.name}
    verify(world.data)
    assert all(path.read_bytes() == text for path, text in held.items())


async def test_months_that_a_hand_took_away_are_missed(world: World) -> None:
    await filled(world)
    await world.stop()
    (world.data / "journal" / "2026-10.jsonl").unlink()
    assert verify(world.data).problems == (
        "2026-11.jsonl, line 1, byte 0: the journal begins with line 10: the months before it are missing, "
        "and were not archived",
    )
