"""Hazards 36 to 38, everywhere: each call of the file layer that a scripted run makes fails once, or is its last.

The run is played once on a disk that only counts; then once for every call, that fails; and of the folder as it was
before every call a copy is opened: what a crash right there leaves.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from proxy.ledger import store
from proxy.ledger.embedded import open_embedded
from proxy.ledger.journal import read_synced
from proxy.ledger.port import ActionFilter, Admission, Agent, Denial, Key, Ledger, LedgerError, Settlement
from proxy.ledger.verify import verify
from tests.contract.policies import agent, budget, policy
from tests.contract.world import call, ms
from tests.proxy.ledger.disk import Disk, Point, io_error

OLD = policy(agent("a"), agent("b", monthly="1"), budget("ever", "100", "total"))
NEW = policy(agent("a"), agent("b", monthly="2"), budget("ever", "100", "total"), budget("day", "50", each="agent"))


@dataclass
class Story:
    """One scripted run: what the ledger was told to do, and ``told``, what it acknowledged, in order."""

    data: Path
    durability: str = "normal"
    told: list[tuple[Any, ...]] = field(default_factory=list)
    at: int = 0

    async def play(self) -> None:
        """Two lives of a ledger; where it refuses, the story goes on. Raises what is no LedgerError."""
        for act in (self._first, self._second):
            try:
                ledger = await open_embedded(self.data, lambda: self.at)
            except LedgerError:
                continue
            try:
                await act(ledger)
            finally:
                await ledger.close()
            self._tear()

    async def _first(self, ledger: Ledger) -> None:
        self.at = ms("2026-10-31T23:59:00Z")
        await self._use(ledger, OLD)
        held = [await self._authorize(ledger, "a", amount) for amount in (700, 800, 900)]
        await self._settle(ledger, held[0], 650)
        await self._void(ledger, held[1])
        await self._record(ledger, 40, "key")
        await self._deny(ledger)
        await self._tell("changed", ledger.change_agent("b", {"status": "active"}), lambda b: (b.id, b.status))
        made = Agent("made", "n", "r", "o", 7, None, 0, keys=(Key("ab" * 32),))
        await self._tell("made", ledger.create_agent(made), lambda agent: (agent.id,))
        await self._acknowledge(ledger)
        await self._use(ledger, NEW)
        await asyncio.sleep(0.02)
        self.at = ms("2026-11-01T00:00:01Z")
        await self._record(ledger, 50, None)
        await self._settle(ledger, held[2], 2000)
        await self._authorize(ledger, "a", 300)

    def _tear(self) -> None:
        """As a write does that was cut by a crash."""
        for path in journals(self.data)[-1:]:
            with path.open("ab") as file:
                file.write(b'{"v":1,"seq":')

    async def _second(self, ledger: Ledger) -> None:
        self.at = max(self.at, ms("2026-11-01T12:00:00Z"))
        await self._use(ledger, NEW)
        await self._settle(ledger, await self._authorize(ledger, "a", 70), 60)
        await self._record(ledger, 20, "other")
        await asyncio.sleep(0.02)

    async def _tell(self, what: str, doing: Any, of: Callable[[Any], tuple[Any, ...]]) -> Any:
        try:
            done = await doing
        except LedgerError:
            return None
        self.told.append((what, *of(done)))
        return done

    async def _use(self, ledger: Ledger, rules: Any) -> None:
        await self._tell("used", ledger.use(replace(rules, durability=self.durability)), lambda _: ())

    async def _authorize(self, ledger: Ledger, agent_id: str, amount: int) -> str | None:
        answer = await self._tell("admitted", ledger.authorize(call(agent_id, amount)), lambda a: (a.action_id, amount))
        assert answer is None or isinstance(answer, Admission)
        return answer and answer.action_id

    async def _settle(self, ledger: Ledger, held: str | None, cost: int) -> None:
        if held is not None:
            await self._tell("ended", ledger.settle(held, Settlement(cost, "success")), lambda a: (a.id, cost))

    async def _void(self, ledger: Ledger, held: str | None) -> None:
        if held is not None:
            await self._tell("ended", ledger.void(held, Settlement(None, "failure")), lambda a: (a.id, 0))

    async def _record(self, ledger: Ledger, cost: int, key: str | None) -> None:
        doing = ledger.record(call("a", cost), "success", key and (key, "digest"))  # type: ignore[arg-type]
        await self._tell("recorded", doing, lambda r: (r.action.id, cost, key))

    async def _deny(self, ledger: Ledger) -> None:
        answer = await self._tell("denied", ledger.authorize(call("b", 3 * 10**9)), lambda d: (d.action_id,))
        assert answer is None or isinstance(answer, Denial)

    async def _acknowledge(self, ledger: Ledger) -> None:
        try:
            alerts = await ledger.alerts()
        except LedgerError:
            return
        for alert in alerts:
            await self._tell("acknowledged", ledger.acknowledge(alert.id), lambda a: (a.id,))


async def holds(data: Path, story: Story) -> None:
    """A ledger opened on the folder has all that was told, once, and proves itself."""
    told, at = story.told, story.at
    ledger = await open_embedded(data, lambda: at)
    await ledger.use(NEW)
    rows = [row async for row in ledger.export(ActionFilter())]
    by_id = {row.id: row for row in rows}
    assert len(by_id) == len(rows)
    costs = {action_id: cost for what, action_id, cost, *_ in (t for t in told if len(t) > 2) if what != "admitted"}
    for what, *rest in told:
        if what == "admitted" and rest[0] not in costs:
            row = by_id[rest[0]]
            assert row.cost == rest[1] or row.ending in ("settled", "voided"), row  # it was ended, but not told
        elif what in ("ended", "recorded"):
            assert by_id[rest[0]].cost == rest[1]
        elif what == "denied":
            assert by_id[rest[0]].outcome == "denied"
        elif what == "made":
            assert ledger.agent_by_key("ab" * 32) is not None
        elif what == "acknowledged":
            assert [a.acknowledged_at is not None for a in await ledger.alerts() if a.id == rest[0]] == [True]
        if what == "recorded" and rest[2] is not None:
            again = await ledger.record(call("a", rest[1]), "success", (rest[2], "digest"))
            assert (again.replayed, again.action and again.action.id) == (True, rest[0])
    assert ("changed", "b", "active") not in told or ledger.agent("b").status == "active"  # type: ignore[union-attr]
    spent = {standing.budget.name: standing for standing in ledger.standings("a")}
    assert spent["ever"].spent == sum(row.cost for row in rows)
    assert spent["ever"].reserved == 0
    day = at // 86_400_000
    assert spent["day"].spent == sum(r.cost for r in rows if r.agent_id == "a" and r.created_at // 86_400_000 == day)
    assert isinstance(await ledger.authorize(call("a", 1)), Admission)
    await ledger.close()
    assert verify(data).problems == ()


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done now and then is done all the time."""
    monkeypatch.setattr(store, "_CHECKPOINT_LINES", 4)
    monkeypatch.setattr(store, "_HOUSEKEEPING_S", 0.005)
    monkeypatch.setattr(store, "_INDEX_LINES", 3)


async def played(story: Story, patch: pytest.MonkeyPatch, before: Callable[[Point], None]) -> Disk:
    with patch.context() as patched:
        disk = Disk(story.data, patched, before)
        async with asyncio.timeout(60):
            await story.play()
    return disk


async def crashed(
    tmp_path: Path, patch: pytest.MonkeyPatch, durability: str
) -> AsyncIterator[tuple[Point, Path, Story]]:
    """Before each call: the folder as it then was, with the story so far."""
    data = tmp_path / "data"
    story, copies = Story(data, durability), []

    def copy(point: Point) -> None:
        if data.exists() and (point[0].startswith(("journal", "recovery")) or point[1] <= 2):
            so_far, to = replace(story, told=story.told.copy()), tmp_path / f"copy{len(copies)}"
            shutil.copytree(data, to, ignore=shutil.ignore_patterns("*-shm"))
            copies.append((point, to, so_far))

    with patch.context() as patched:
        Disk(data, patched, copy)
        await story.play()
    for point, to, so_far in copies:
        yield point, to, so_far


def journals(data: Path) -> list[Path]:
    return sorted((data / "journal").glob("2*.jsonl"))


async def test_hazard_36_a_crash_before_any_call_of_the_disk_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async for point, data, story in crashed(tmp_path, monkeypatch, "normal"):
        if point[0] == "journal.append:write" and journals(data):
            with journals(data)[-1].open("ab") as file:
                file.write(b'{"v":1,"seq":')  # killed in the middle of it
        try:
            await holds(data, story)
        except Exception as error:
            raise AssertionError(f"a crash before {point}") from error


async def test_promise_4_power_lost_before_any_call_of_the_disk_takes_nothing_of_a_strict_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async for point, data, story in crashed(tmp_path, monkeypatch, "strict"):
        for path in journals(data)[-1:]:
            synced = read_synced(path.parent)
            os.truncate(path, synced.offset if synced.month == path.stem else 0)
        for path in data.glob("index.sqlite*"):
            path.unlink()
        try:
            await holds(data, story)
        except Exception as error:
            raise AssertionError(f"power lost before {point}") from error


def chosen(points: list[Point]) -> list[Point]:
    """The first and the last call of each place; but for the closing of files as the process ends."""
    last = {place: number for place, number in points if not place.endswith(".close:close")}
    return sorted({(place, number) for place, of in last.items() for number in (1, of)})


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
async def test_hazard_37_any_call_of_the_disk_that_fails_loses_nothing_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasting: bool
) -> None:
    unhandled: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(context))
    disk = await played(Story(tmp_path / "counted"), monkeypatch, lambda point: None)
    for number, fault in enumerate(chosen(disk.points)):
        story, failing = Story(tmp_path / f"data{number}"), []

        def fail(point: Point, fault: Point = fault, failing: list[Point] = failing) -> None:
            if point == fault or (lasting and failing and point[0] == fault[0]):
                failing.append(point)
                raise io_error(point)

        try:
            await played(story, monkeypatch, fail)
            await holds(story.data, story)
            assert unhandled == []
        except Exception as error:
            raise AssertionError(f"{fault} failed") from error


def killed_by_its_limit(data: Path, limit: int) -> list[list[str]]:
    """What a real process said that may write no more than so many bytes to a file, until it ended by itself."""
    command = [sys.executable, "-m", "tests.proxy.ledger.crash_child", str(data), "working", "1"]
    resource_limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
    ended = subprocess.run(command, capture_output=True, text=True, preexec_fn=resource_limit, timeout=60)
    assert ended.returncode == 1
    assert "LedgerUnavailable: " in ended.stderr.splitlines()[-1]
    return [line.split() for line in ended.stdout.splitlines()]


@pytest.mark.parametrize("limit", [200_000, 250_003])
async def test_hazard_37_a_full_disk_denies_and_what_was_said_before_is_there(tmp_path: Path, limit: int) -> None:
    said = killed_by_its_limit(tmp_path, limit)
    assert len(said) > 100
    ledger = await open_embedded(tmp_path)
    rows = {row.id: row async for row in ledger.export(ActionFilter())}
    ended = {words[1]: int(words[2]) for words in said if words[0] in ("settled", "recorded")}
    assert {action_id: rows[action_id].cost for action_id in ended} == ended
    assert {words[1] for words in said if words[0] == "reserved"} <= rows.keys()
    await ledger.close()
    assert verify(tmp_path).problems == ()
