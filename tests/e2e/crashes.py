"""A crash campaign: `python -m tests.e2e.crashes [--kills 1000] [--seconds 60] [--seed N] [--durability both]`.

One data folder (or two side by side, `normal` and `strict`) lives through all rounds. Each round is an `agent-ledger
serve` under load that is killed with SIGKILL at some instant, from its first millisecond on. Now and then the power
fails with it: what the journal had not synced is cut or garbled; and the files beside it are lost or grow old. After
each life an independent reader (`crash_audit`) holds the journal against all that clients were told and the upstream
got, and now and then `agent-ledger verify` runs. The campaign ends at the first fault, and prints what it did.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.crash_audit import HOUR_MS, Audit, Wrong, check, months, period
from tests.e2e.crash_load import Load, Notes, Report, Upstream, amounts_of, nano, write_policy
from tests.sidecar import ADMIN, ADMIN_HEADERS

VERIFY_EVERY = 20
DAY_MS = 86_400_000
GARBLED = b"\xff" * 300
_URL = re.compile(rb" serves .* at (http://[^\s\"]+)")


class Nursery:
    """The process that the sidecars are forked from (`crash_nursery`)."""

    async def __aenter__(self) -> Nursery:
        env = {**os.environ, "AGENT_LEDGER_ADMIN_TOKEN": ADMIN}
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "tests.e2e.crash_nursery")
        self._process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env=env)
        self._one = asyncio.Lock()
        return self

    async def __aexit__(self, *raised: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def spawn(self, log: Path, shift_ms: int, *argv: str) -> int:
        """The pid of an `agent-ledger` of those arguments."""
        return await self._ask({"argv": argv, "log": str(log), "shift_ms": shift_ms})

    async def reap(self, pid: int) -> int:
        """The exit code, once it has ended."""
        return await self._ask(pid)

    async def _ask(self, order: object) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._one:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            return int(await self._process.stdout.readline())


class Campaign:
    """One folder's lives. ``did`` counts what happened."""

    def __init__(self, folder: Path, durability: str, seed: int, upstream: Upstream, nursery: Nursery) -> None:
        self.did: Counter[str] = Counter()
        self.durability = durability
        self.audit = Audit(folder / "data" / "journal")
        self._data = folder / "data"
        self._log = folder / "log"
        self._policy = folder / "policy.yaml"
        self._kept = folder / "kept"
        self._rng = random.Random(f"{seed} {durability}")
        self._upstream = upstream
        self._nursery = nursery
        self._life = 0
        self._shift_ms = 0
        self._latest = 0  # the time that any life began at
        self._variant = 0
        self._whole = True  # nothing was done to the files since a life last served
        self._limit: tuple[Path, int] | None = None  # where damage may begin that no life has set aside yet
        self._unproved = 0
        self._checked = 0  # of what the upstream received
        self._forgotten: set[int] = set()  # lives of which the power took what was not synced
        self._reports: list[Report] = []
        self._keys: dict[str, str] = {}
        self._budgets: dict[str, set[str]] = {}
        for path in (folder, self._kept):
            path.mkdir()
        write_policy(self._policy, upstream.url, durability, 0)

    # -- one life ------------------------------------------------------------------------------------------------------
    async def live(self) -> None:
        """Raises Wrong."""
        rng, power = self._rng, self._rng.random() < 0.25
        pid = await self._begin()
        serves = asyncio.Event()
        killing = asyncio.create_task(self._kill(pid, serves))
        try:
            notes = await self._attend(pid, killing, serves, compare=not power)
        finally:
            os.kill(pid, signal.SIGKILL)  # it was, but for a campaign that is given up
        code = await self._nursery.reap(pid)
        check(code == -signal.SIGKILL, "the sidecar ended with", code, self._log.read_text())
        self.did["kills"] += 1
        if power:
            self._lose_power()
        self.audit.read(self._limit)
        self._hold_against(notes, lost=power and self.durability != "strict")
        self._unproved += 1
        if self._unproved >= VERIFY_EVERY and self._whole and not self._desk_is_garbled():
            await self.prove()
        if rng.random() < 0.3:
            self._lose_files()

    async def _begin(self) -> int:
        """The new sidecar's pid."""
        self._life += 1
        self._log.write_bytes(b"")
        wall = time.time_ns() // 1_000_000
        shift = self._next_shift(wall)
        at = self._latest = max(self._latest, wall + shift)
        known = self.audit.keys
        fresh = [each for each in self._reports if at - known.get(each.key, (at,))[0] < DAY_MS - HOUR_MS]
        self._reports = fresh[-50:]
        arguments = ("serve", str(self._policy), "--port", "0", "--data", str(self._data))
        return await self._nursery.spawn(self._log, shift, *arguments)

    def _next_shift(self, wall: int) -> int:
        """How far off this life's clock is: mostly some minutes on, at times about to begin a month, or set back."""
        rng, sort = self._rng, self._rng.random()
        if sort < 0.06:
            return self._shift_ms - rng.randrange(40 * DAY_MS)
        if sort < 0.16:
            now = datetime.fromtimestamp(max(self._latest, wall + self._shift_ms) // 1000, UTC)
            border = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
            self._shift_ms = int(border.timestamp()) * 1000 - rng.randrange(800) - wall
        elif sort < 0.165:
            self._shift_ms += 400 * DAY_MS
        else:
            self._shift_ms += rng.randrange(HOUR_MS // 3)
        return self._shift_ms

    async def _kill(self, pid: int, serves: asyncio.Event) -> None:
        """In its first moments, or some time after it has come to serve."""
        if self._rng.random() < 0.3:
            await asyncio.sleep(self._rng.uniform(0.0, 0.4))
        else:
            await serves.wait()
            await asyncio.sleep(self._rng.expovariate(2.0))
        os.kill(pid, signal.SIGKILL)

    async def _attend(self, pid: int, killing: asyncio.Task[None], serves: asyncio.Event, *, compare: bool) -> Notes:
        """What its clients were told until its death."""
        while not (found := _URL.search(self._log.read_bytes())):
            if killing.done() or b"agent-ledger: " in self._log.read_bytes():
                self.did["killed before they served"] += 1
                return Notes()
            await asyncio.sleep(0.005)
        url = found[1].decode()
        serves.set()
        self._whole, self._limit = True, None
        shared = (self._rng, self._reports, self._keys, self._budgets)
        load = Load(url, self._life, *shared, self._change_policy, lambda: os.kill(pid, signal.SIGHUP))

        async def serve() -> None:
            if compare:
                await self._look(url)
            await load.run()

        serving = asyncio.create_task(serve())
        try:
            await asyncio.wait([killing])
            with contextlib.suppress(httpx.TransportError):
                await serving  # all clients find that it has gone
        finally:
            serving.cancel()
        return load.notes

    def _change_policy(self) -> int:
        self._variant += 1
        write_policy(self._policy, self._upstream.url, self.durability, self._variant)
        return self._variant

    # -- what must hold ------------------------------------------------------------------------------------------------
    async def _look(self, url: str) -> None:
        """Before any load: what the sidecar tells of itself is what its journal comes to."""
        audit = self.audit
        audit.read()
        async with httpx.AsyncClient(base_url=url, headers=ADMIN_HEADERS, timeout=20, verify=False) as client:

            async def get(path: str) -> Any:
                answer = await client.get(path)
                check(answer.status_code == 200, path, answer, answer.text)
                return json.loads(answer.content, parse_float=str, parse_int=str)

            check(await get("/api/reservations") == [], "open reservations at the start")
            check(not audit.open, "the journal holds open reservations after the start")
            total = sum(row.get("cost", 0) for row in audit.rows.values())
            listed = nano((await get("/api/spend"))["total"])
            check(listed == total, "the rows come to", listed, "not", total)
            told = {agent["id"]: nano(agent["currentSpend"]) for agent in await get("/api/agents")}
            spent = {agent_id: audit.month_spent(agent_id) for agent_id in audit.agents}
            check(told == spent or not self._same_month(), "spent are", spent, "told are", told)
            for action_id in self._rng.sample(list(audit.rows), min(2, len(audit.rows))):
                row = await get(f"/api/actions/{action_id}")
                check(nano(row["cost"]) == audit.rows[action_id].get("cost", 0), row, audit.rows[action_id])

    def _same_month(self) -> bool:
        now = max(self.audit.at, time.time_ns() // 1_000_000 + self._shift_ms)
        return period("month", now) == period("month", self.audit.at)

    def _hold_against(self, notes: Notes, *, lost: bool) -> None:
        """All that was told is in the journal; where it is ``lost``, what is there is as it was told."""
        audit, did = self.audit, self.did
        if lost:
            self._forgotten.add(self._life)
        for model, action_id in notes.begun.items():
            there = audit.authorized.get(f"up:{model}")
            check(there == action_id or (lost and there is None), "lost:", model, action_id)
        for action_id, charge in notes.settled.items():
            row = audit.rows.get(action_id)
            check(lost or row is not None, "the row is lost:", action_id)
            check(row is None or (row["ending"], row["cost"]) == ("settled", charge), charge, "but", row)
        for action_id in notes.voided:
            row = audit.rows.get(action_id)
            check((lost and row is None) or (row or {}).get("ending") == "voided", "not voided:", row)
        for action_id, reason in notes.denied.items():
            row = audit.rows.get(action_id)
            check((lost and row is None) or (row or {}).get("reason") == reason, "not denied:", reason, row)
        for report in notes.answered:
            self._hold_report(report, lost=lost)
        for agent_id in notes.made:
            check(lost or agent_id in audit.agents, "the agent is lost:", agent_id)
        for agent_id in [each for each in self._keys if each not in audit.agents]:
            del self._keys[agent_id], self._budgets[agent_id]
        for agent_id, budgets in self._budgets.items():
            held = audit.agents[agent_id]["monthly_budget"]
            check(lost or held in map(nano, budgets), "the budget of", agent_id, "is", held, "not", budgets)
            self._budgets[agent_id] = {f"{Decimal(held).scaleb(-9):f}"}
        for alert_id in notes.acknowledged:
            check(lost or audit.alerts[alert_id] is not None, "the acknowledgment is lost:", alert_id)
        if notes.policy is not None and not lost:
            there = {name: amount for name, amount in audit.amounts.items() if name != "monthly_budget"}
            told = {name: nano(usd) for name, usd in amounts_of(notes.policy).items()}
            check(there == told, "the policy in force has", there, "not", told)
        self._hold_upstream()
        did.update(answers=len(notes.settled), denials=len(notes.denied), reports=len(notes.answered))
        did.update(agents=len(notes.made), acknowledgments=len(notes.acknowledged))

    def _hold_report(self, report: Report, *, lost: bool) -> None:
        found = self.audit.keys.get(report.key)
        if lost and found is None:
            report.answer = None
            return
        check(found is not None, "what was answered under key", report.key, "is lost")
        assert found is not None
        assert report.answer is not None
        status, body = report.answer
        told = json.loads(body, parse_float=str, parse_int=str)
        if status == 201:
            row = self.audit.rows[found[1]]
            check((told["id"], nano(told["cost"])) == (row["id"], row.get("cost", 0)), told, "but", row)

    def _hold_upstream(self) -> None:
        """No call was forwarded that the journal does not know of."""
        received = self._upstream.received
        for model in received[self._checked :]:
            life = int(model[1:].partition("-")[0])
            check(life in self._forgotten or f"up:{model}" in self.audit.authorized, "forwarded unrecorded:", model)
        self._checked = len(received)

    async def prove(self) -> None:
        """`agent-ledger verify`, and the whole journal read once more. Raises Wrong."""
        again = Audit(self.audit.folder)
        again.read()
        check((again.head, again.spent) == (self.audit.head, self.audit.spent), "the journal is not what it was")
        self._log.write_bytes(b"")
        arguments = ("verify", "--data", str(self._data), "--anchor", self.audit.head)
        code = await self._nursery.reap(await self._nursery.spawn(self._log, 0, *arguments))
        check(code == 0, "verify:", self._log.read_text())
        self._unproved = 0
        self.did["verified"] += 1

    async def finish(self) -> None:
        """One more life, which is let end; then the proof. Raises Wrong."""
        pid = await self._begin()
        while not (found := _URL.search(self._log.read_bytes())):
            await asyncio.sleep(0.01)
        await self._look(found[1].decode())
        os.kill(pid, signal.SIGTERM)
        check(await self._nursery.reap(pid) == 0, self._log.read_text())
        self.audit.read()
        await self.prove()

    # -- what else a crash takes ---------------------------------------------------------------------------------------
    def _lose_power(self) -> None:
        """Cut or garble what was not synced; of what the audit has read, nothing: a life before had it on disk."""
        self._whole = False
        kept = months(self.audit.folder)
        if not kept:
            return
        path, rng = kept[-1], self._rng
        synced = _synced_to(path)
        if self.audit.path == path:
            synced = max(synced, self.audit.offset)
        if self._limit is not None and self._limit[0] == path and self._limit[1] < synced:
            self._limit = None
        size = path.stat().st_size
        if size <= synced:
            return
        self.did["powerless"] += 1
        cut = rng.randint(synced, size)
        with path.open("r+b") as file:
            sort = rng.choice(["cut", "zeros", "noise", "hole"])
            file.seek(cut)
            if sort == "hole":
                file.write(bytes(rng.randrange(1, 400))[: size - cut])
            elif sort == "noise":
                file.write(rng.randbytes(size - cut))
            else:
                file.truncate()
                file.truncate(size if sort == "zeros" else cut)
        if self._limit is None or self._limit[0] == path:
            self._limit = path, min(cut, self._limit[1]) if self._limit else cut

    def _lose_files(self) -> None:
        """The files beside the journal are lost, garbled, or as they were some lives ago."""
        rng, beside = self._rng, sorted(self._data.glob("index.sqlite*"))
        desk = self._data / "desk.json"
        if rng.random() < 0.3:
            for path in self._kept.iterdir():
                path.unlink()
            for path in (*beside, *([desk] if desk.exists() else [])):
                shutil.copy(path, self._kept)
            return
        self._whole = False
        sort = rng.choice(["desk", "old desk", "index", "old index", "garbled index", "garbled desk", "note", "torn"])
        self.did[f"lost: {sort}"] += 1
        if "index" in sort:
            for path in beside:
                path.unlink()
        if sort == "old index":
            for path in self._kept.glob("index.sqlite*"):
                shutil.copy(path, self._data)
        elif sort == "garbled index":
            (self._data / "index.sqlite").write_bytes(rng.randbytes(9000))
        elif sort == "desk":
            desk.unlink(missing_ok=True)
        elif sort == "old desk" and (self._kept / "desk.json").exists():
            shutil.copy(self._kept / "desk.json", desk)
        elif sort == "garbled desk":
            desk.write_bytes(GARBLED)
        elif sort == "note":
            (self.audit.folder / "synced").unlink(missing_ok=True)
        elif sort == "torn":
            (self._data / "desk.tmp").write_text("{")

    def _desk_is_garbled(self) -> bool:
        """No life has come to write it anew."""
        desk = self._data / "desk.json"
        return desk.exists() and desk.read_bytes() == GARBLED


def _synced_to(path: Path) -> int:
    """As the ledger's own note says; none of it, where the note is of another month."""
    try:
        note = json.loads((path.parent / "synced").read_bytes())
    except (FileNotFoundError, ValueError):
        return 0
    return note["offset"] if note["month"] == path.stem else 0


async def run(folder: Path, durabilities: Sequence[str], seed: int, kills: int, seconds: float) -> Counter[str]:
    """As many kills as asked for, or until so much time has passed; what was done. Raises Wrong."""
    deadline = time.monotonic() + seconds
    did: Counter[str] = Counter()

    async def campaign(durability: str) -> None:
        async with Nursery() as nursery, Upstream() as upstream:
            lives = Campaign(folder / durability, durability, seed, upstream, nursery)
            try:
                while did["kills"] < kills and time.monotonic() < deadline:
                    before = lives.did.copy()
                    await lives.live()
                    did.update(lives.did - before)
                await lives.finish()
            except Wrong as wrong:
                raise Wrong(f"{durability}, after {lives.did['kills']} kills: {wrong}") from wrong
            did.update(calls=len(upstream.received), lines=lives.audit.seq, months=len(months(lives.audit.folder)))
            did.update({f"lines: {kind}": count for kind, count in lives.audit.kinds.items()})

    campaigns = [asyncio.create_task(campaign(durability)) for durability in durabilities]
    try:
        await asyncio.gather(*campaigns)
    finally:
        for task in campaigns:
            task.cancel()
        await asyncio.gather(*campaigns, return_exceptions=True)
    return did


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=time.time_ns() // 1_000_000)
    parser.add_argument("--durability", choices=["normal", "strict", "both"], default="both")
    options = parser.parse_args()
    durabilities = ["normal", "strict"] if options.durability == "both" else [options.durability]
    folder = Path(tempfile.mkdtemp(prefix="crashes-"))
    print(f"seed {options.seed}, in {folder}", flush=True)
    began = time.monotonic()
    try:
        did = asyncio.run(run(folder, durabilities, options.seed, options.kills, options.seconds))
    except Wrong as wrong:
        print(f"WRONG: {wrong}")
        return 1
    print(f"{time.monotonic() - began:.0f} s, nothing wrong")
    for what, count in sorted(did.items()):
        print(f"  {count:8} {what}")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
