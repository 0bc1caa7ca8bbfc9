"""The echo check: does each call get its own answer, whatever its client, its upstream and its connections do?

    python -m tests.bench.echo [CALLS] [--tasks N] [--seed N]

Clients with a connection each call through a sidecar to an upstream that repeats each request's id, and misbehaves as
`chaos` plans it; some clients leave in the middle. It fails on any answer that is another's or not whole, on a call
that hangs, is sent twice or ends without a reason, and on an action, a reservation or a connection left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from tests.bench.chaos import Chaos, Plan, plan
from tests.bench.report import Report
from tests.sidecar import Process

AGENTS = 8
HUNG_S = 20.0
_FAULTS_SHOWN = 20
_SETTLED_S = 45.0  # above the 30 s that an answer is drained for
_OWN = frozenset((502, 503, 504))

_POLICY = """\
version: 1
upstreams: {{up: {{url: "{url}", meter: openai, circuit_breaker: false, max_in_flight: 4096}}}}
prices: [{{name: models, rates: catalog}}]
agents:
{agents}
budgets:
  - {{name: agent-day, amount: 1000000, period: day, each: agent}}
  - {{name: team-month, amount: 1000000, period: month, match: {{owner_id: team}}}}
limits: [{{name: parallel, concurrent: 4096, each: agent}}]
"""
_AGENT = "  - {{id: a{n}, owner_id: team, monthly_budget: 1000000, key: alk_the-key-of-agent-number-{n}}}"


@dataclass
class Checked:
    """What became of all calls. Any ``faults`` are the sidecar's."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Garbled(Exception):
    """What came is no answer, or not one that a client can read."""


@dataclass
class Answer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Caller:
    """A client and its connection, which it keeps for as long as both sides let it."""

    def __init__(self, port: int, checked: Checked, rng: random.Random) -> None:
        self._port = port
        self._checked = checked
        self._rng = rng
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter

    async def work(self, plans: Iterator[Plan]) -> None:
        """Until there are no more."""
        for each in plans:
            try:
                async with asyncio.timeout(HUNG_S):
                    told = await self._call(each)
            except TimeoutError:
                self._checked.faults.append(f"{each.id} hung: {each}")
                told = "hung"
            except (Garbled, ValueError, LookupError) as error:
                self._checked.faults.append(f"{each.id} was told {error!r}: {each}")
                told = "garbled"
            self._checked.counts[told] += 1
            if told != "answered" or self._rng.randrange(8) == 0:
                self.leave()
        self.leave()

    def leave(self) -> None:
        """With what may be unread, and so by a reset as often as not."""
        if self._reader is not None:
            self._writer.transport.abort() if self._rng.randrange(2) else self._writer.close()
            self._reader = None

    async def _call(self, each: Plan) -> str:
        """What became of it."""
        if self._reader is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        sent, cut = self._request(each), self._rng.randrange(10)
        at = (
            len(sent) - self._rng.randrange(1, each.padding + 50)
            if each.leaving == "sending" or cut == 0
            else len(sent)
        )
        self._writer.write(sent[:at])
        if each.leaving == "sending":
            await asyncio.sleep(each.patience_s)
            return "left while sending"
        if at < len(sent):
            await asyncio.sleep(each.patience_s / 10)
            self._writer.write(sent[at:])
        if each.leaving == "waiting":
            await asyncio.sleep(each.patience_s)
            return "left while waiting"
        try:
            head = await self._head()
            each.action_id = head.headers.get(b"x-ledger-action-id", b"").decode() or None
            if each.leaving == "reading":
                await asyncio.sleep(each.patience_s / 4)
                return "left while reading"
            head.body = await self._body(head.headers)
        except (ConnectionError, asyncio.IncompleteReadError):
            return self._torn(each)
        return self._judge(each, head)

    def _request(self, each: Plan) -> bytes:
        body = each.request()
        head = (
            f"POST /up/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n"
            f"Authorization: Bearer alk_the-key-of-agent-number-{each.agent}\r\nX-Echo-Id: {each.id}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def _head(self) -> Answer:
        assert self._reader is not None
        status = 100
        while status < 200:  # early hints
            line, *fields = (await self._reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
            if not line.startswith(b"HTTP/1.1 "):
                raise Garbled(f"not an answer: {line!r}")
            status = int(line[9:12])
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(b":") for each in fields)}
        return Answer(status, headers, b"")

    async def _body(self, headers: dict[bytes, bytes]) -> bytes:
        assert self._reader is not None
        if b"content-length" in headers:
            return await self._reader.readexactly(int(headers[b"content-length"]))
        if headers.get(b"transfer-encoding") != b"chunked":
            raise Garbled(f"only its connection's end would end this answer: {headers}")
        chunks = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            chunks.append((await self._reader.readexactly(size + 2))[:-2])
        if await self._reader.readexactly(2) != b"\r\n":
            raise Garbled("an answer has trailers")
        return b"".join(chunks)

    def _judge(self, each: Plan, answer: Answer) -> str:
        """Of an answer that came whole."""
        echoed = answer.headers.get(b"x-echo-id", b"").decode()
        if not echoed:
            return self._own(each, answer)
        if echoed != each.id:
            self._checked.faults.append(f"SWAPPED: {each.id} got the answer of {echoed}")
            return "swapped"
        if (answer.status, answer.body) != (each.status, each.answer(each.asks_usage)):
            self._checked.faults.append(f"{each.id} got another body: {answer} for {each}")
        elif each.fault:
            self._checked.faults.append(f"{each.id}: an answer that was torn looks whole: {each}")
        each.whole = True
        return self._keep("answered", answer)

    def _own(self, each: Plan, answer: Answer) -> str:
        """The sidecar's own answer: there must have been no other to pass on."""
        told = json.loads(answer.body)["error"]
        each.action_id = told.get("actionId") or each.action_id
        if answer.status not in _OWN or each.answered:
            self._checked.faults.append(f"{each.id}: {answer.status} {told} for {each}")
        stale = "" if each.received else ", on a connection that its upstream was closing"
        return self._keep(f"{answer.status} {told['code']}{stale}", answer)

    def _keep(self, told: str, answer: Answer) -> str:
        if answer.headers.get(b"connection") == b"close":
            self.leave()
        return told

    def _torn(self, each: Plan) -> str:
        if each.answered or not each.received:
            self._checked.faults.append(f"{each.id}: torn off without a reason: {each}")
        return "torn off, as its upstream's answer was"


async def check(folder: Path, calls: int, tasks: int, seed: int) -> Checked:
    """Make so many calls, and audit what they left behind."""
    rng, checked = random.Random(seed), Checked()
    plans = {made.id: made for made in (plan(number, rng, AGENTS) for number in range(calls))}
    policy, began = folder / "policy.yaml", time.monotonic()
    async with Chaos(plans, rng) as chaos:
        agents = "\n".join(_AGENT.format(n=number) for number in range(AGENTS))
        policy.write_text(_POLICY.format(url=chaos.url, agents=agents))
        with await asyncio.to_thread(Process, policy, folder / "data") as sidecar:
            callers = [Caller(int(sidecar.url.rpartition(":")[2]), checked, rng) for _ in range(tasks)]
            left = iter(plans.values())
            await asyncio.gather(*(caller.work(left) for caller in callers))
            checked.seconds = time.monotonic() - began
            checked.faults += await _left_behind(sidecar, chaos)
            rows = await asyncio.to_thread(_actions, sidecar)
    checked.faults += [*chaos.faults, *_errors(sidecar.log)]
    checked.faults += _audit(plans, rows, checked.counts)
    checked.counts.update({f"upstream: {name}": count for name, count in chaos.counts.items()})
    return checked


async def _left_behind(sidecar: Process, chaos: Chaos) -> list[str]:
    """Reservations, calls in flight, memory of bodies and connections that are not given back, at the latest when the
    bound of a drain has passed."""
    deadline = time.monotonic() + _SETTLED_S
    while True:
        found = await asyncio.to_thread(_gauges, sidecar)
        found["upstream's connections in the midst of a call"] = chaos.busy
        found["connections"] -= 1  # this one's
        kept = [f"left behind: {name} {value:g}" for name, value in found.items() if value]
        if not kept or time.monotonic() > deadline:
            return kept
        await asyncio.sleep(0.2)


def _gauges(sidecar: Process) -> dict[str, float]:
    wanted = ("reserved_usd", "upstream_in_flight", "open_streams", "buffered_bytes", "connections")
    found = {"reservations": float(len(sidecar.get("/api/reservations")))}
    for line in sidecar.api.get("/metrics").raise_for_status().text.splitlines():
        name, _, value = line.partition(" ")
        name = name.partition("{")[0].removeprefix("agent_ledger_")
        if name in wanted:
            found[name] = float(value)
    assert len(found) == len(wanted) + 1, found
    return found


def _actions(sidecar: Process) -> dict[str, dict]:
    """Every row of the ledger."""
    text = sidecar.api.get("/api/export?format=jsonl", timeout=600).raise_for_status().text
    return {row["id"]: row for row in map(json.loads, text.splitlines())}


def _errors(log: Path) -> list[str]:
    """What it logged of failures of its own."""
    with log.open() as lines:
        return [
            line for line in lines if '"level":"ERROR"' in line or '"level":"CRITICAL"' in line or "Traceback" in line
        ]


def _audit(plans: dict[str, Plan], rows: dict[str, dict], counts: Counter[str]) -> Iterator[str]:
    """Each call that was sent on has its one action, and a whole answer has been charged as it says."""
    known: set[str] = set()
    certain = uncertain = 0
    for each in plans.values():
        if each.received > 1 or (each.received and each.leaving == "sending"):
            yield f"{each.id}: sent on {each.received} times: {each}"
        if each.action_id is None:
            certain += each.received > 0
            uncertain += not each.received and each.leaving in ("waiting", "reading")
            continue
        certain += 1
        row = rows.get(each.action_id)
        if row is None or each.action_id in known:
            yield f"{each.id}: its action {each.action_id} is {'another call’s' if row else 'not in the ledger'}"
        elif row["agentId"] != f"a{each.agent}":
            yield f"{each.id}: its action is of {row['agentId']}, and not of a{each.agent}"
        elif each.whole:
            yield from _charged(each, row)
        known.add(each.action_id)
    counts["actions"] = len(rows)
    if not certain <= len(rows) <= certain + uncertain:
        yield f"{len(rows)} actions for {certain} to {certain + uncertain} calls that were authorized"


def _charged(each: Plan, row: dict) -> Iterator[str]:
    wanted = {"input_tokens": each.usage["prompt_tokens"], "output_tokens": each.usage["completion_tokens"]}
    got = {unit: row["usage"].get(unit) for unit in wanted}
    if each.status == 200 and (got != wanted or row["outcome"] != "success" or row["unconfirmed"]):
        yield f"{each.id} was charged as another: {row}"
    if each.status != 200 and (row["cost"] or row["outcome"] != "failure"):
        yield f"{each.id} failed, and was charged: {row}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calls", type=int, nargs="?", default=100_000)
    parser.add_argument("--tasks", type=int, default=128, help="clients at once (default: 128)")
    parser.add_argument("--seed", type=int, default=time.time_ns() // 1_000_000)
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    report = Report(options.markdown)
    with tempfile.TemporaryDirectory(prefix="echo-") as folder:
        checked = uvloop.run(check(Path(folder), options.calls, options.tasks, options.seed))
    report.heading(f"Echo: {options.calls:,} calls by {options.tasks} clients in {checked.seconds:.0f} s")
    report.table(["", "calls"], [[name, f"{count:,}"] for name, count in sorted(checked.counts.items())])
    verdict = f"{len(checked.faults)} faults" if checked.faults else "No answer swapped, torn unseen or lost; none hung"
    report.line(f"{verdict} (--seed {options.seed}).")
    for fault in checked.faults[:_FAULTS_SHOWN]:
        print(fault[:600], file=sys.stderr)
    return 1 if checked.faults else 0


if __name__ == "__main__":
    sys.exit(main())
