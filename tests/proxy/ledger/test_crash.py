"""Promise 4, hazard 36: SIGKILL of a real process in each state; what it had acknowledged is there, and once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.ledger.embedded import EmbeddedLedger, open_embedded
from proxy.ledger.port import Action, ActionFilter, LedgerError
from proxy.ledger.verify import verify
from tests.contract.world import call
from tests.proxy.ledger.crash_child import POLICY


@contextmanager
def child(data: Path, state: str, seed: int = 0) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.proxy.ledger.crash_child", str(data), state, str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def killed(data: Path, state: str, seed: int = 0, lines: int | None = None) -> list[list[str]]:
    """What the process said, up to its death: when it was ready, or had said so many lines."""
    with child(data, state, seed) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            if not line.endswith("\n"):
                break  # killed in the middle of saying it
            said.append(line.split())
            if said[-1] == ["ready"] or len(said) == lines:
                process.kill()
        assert process.wait() == -9
    return said


async def reopened(data: Path) -> EmbeddedLedger:
    ledger = await open_embedded(data)
    await ledger.use(POLICY)
    return ledger


async def rows(ledger: EmbeddedLedger) -> list[Action]:
    return [action async for action in ledger.export(ActionFilter())]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("before reserve", []),
        ("reserved", [(700, "expired", True)]),
        ("settled", [(300, "settled", False)]),
        ("voided", [(0, "voided", False)]),
        ("recorded", [(50, "settled", False), (700, "expired", True)]),
    ],
)
async def test_promise_4_hazard_36_kill_9_in_each_state(
    tmp_path: Path, state: str, expected: list[tuple[int, str, bool]]
) -> None:
    killed(tmp_path, state)
    for _ in range(2):  # a second restart charges nothing again
        ledger = await reopened(tmp_path)
        found = sorted((row.cost, row.ending, row.unconfirmed) for row in await rows(ledger))
        assert found == expected
        month, everything = ledger.standings("a")
        assert month.spent == everything.spent == sum(cost for cost, _, _ in expected)
        assert month.reserved == everything.reserved == 0
        assert ledger.health().warnings == ()
        await ledger.close()
        assert verify(tmp_path).problems == ()


@pytest.mark.parametrize("seed", range(4))
async def test_promise_4_kill_9_at_any_moment_of_work_loses_nothing_and_counts_nothing_twice(
    tmp_path: Path, seed: int
) -> None:
    reserved: dict[str, int] = {}
    ended: dict[str, int] = {}
    keys: dict[tuple[str, str], str] = {}
    for round_ in range(2):
        for kind, *words in killed(tmp_path, "working", seed * 10 + round_, lines=150 + 97 * seed):
            if kind == "reserved":
                reserved[words[0]] = int(words[1])
            elif kind in ("settled", "recorded"):
                ended[words[0]] = int(words[1])
            if kind == "recorded":
                keys[words[2], words[3]] = words[0]
        (tmp_path / "index.sqlite").unlink(missing_ok=round_ == 0)
        ledger = await reopened(tmp_path)
        found = await rows(ledger)
        by_id = {row.id: row for row in found}
        assert len(by_id) == len(found)
        assert {action_id: by_id[action_id].cost for action_id in ended} == ended
        for action_id in reserved.keys() - ended.keys():
            row = by_id[action_id]
            # Settled but killed before it could say so, or in flight.
            assert row.ending == "settled" or (row.cost, row.unconfirmed) == (reserved[action_id], True)
        month_a, everything = ledger.standings("a")
        assert everything.spent == sum(row.cost for row in found)
        assert month_a.spent == sum(row.cost for row in found if row.agent_id == "a")
        assert everything.reserved == 0
        (agent_id, key), action_id = list(keys.items())[-1]
        again = await ledger.record(call(agent_id, ended[action_id]), "success", (key, "digest"))
        assert (again.replayed, again.action and again.action.id) == (True, action_id)
        await ledger.close()
        assert verify(tmp_path).problems == ()
        keys.clear()


async def test_hazard_39_another_process_on_the_folder_is_refused_until_it_is_gone(tmp_path: Path) -> None:
    with child(tmp_path, "reserved") as process:
        assert process.stdout is not None
        while (await asyncio.to_thread(process.stdout.readline)).strip() != "ready":
            pass
        with pytest.raises(LedgerError, match="in use by another process"):
            await open_embedded(tmp_path)
        assert verify(tmp_path).problems == ()  # but it may be looked at
    ledger = await reopened(tmp_path)
    await ledger.close()
