"""What an action costs the embedded ledger as the actions it holds grow, and how long a restart takes.

    python -m tests.bench.ledger [ACTIONS]

Prints, at 1k, 10k, 100k and 1M actions of one month (or up to ACTIONS): CPU per recorded action (authorize + settle,
durability normal), of the event loop's thread and of the whole process until the read index holds it too; the slowest
such pair, and resident memory; then the time to open them again after a clean stop and after kill -9, and the size of
the files. No assertion: machines differ, the ratios should not.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from zoneinfo import ZoneInfo

from policy.model import AgentSpec, Budget, Limit, Policy, Scope
from policy.money import NANO
from proxy.ledger.embedded import EmbeddedLedger, open_embedded
from proxy.ledger.port import ActionFilter, Admission, Call, Settlement

AGENTS = 50
SIZES = (1_000, 10_000, 100_000, 1_000_000)
UTC = ZoneInfo("UTC")

POLICY = Policy(
    hash="bench",
    agents={
        f"agent-{n}": AgentSpec(
            f"agent-{n}", f"Agent {n}", "Research", "team", 10**6 * NANO, managed=frozenset({"name"})
        )
        for n in range(AGENTS)
    },
    budgets=(
        Budget("agent-day", 10**6 * NANO, "day", UTC, Scope(each="agent")),
        Budget("team-day", 10**6 * NANO, "day", UTC, Scope(owner_ids=("team",))),
        Budget("all", 10**7 * NANO, "month", UTC),
    ),
    limits=(
        Limit("rate", requests=10**9, scope=Scope(each="agent")),
        Limit("parallel", concurrent=16, scope=Scope(each="agent")),
    ),
    thresholds=(50, 80, 100),
)
RATES = {"input_mtok": "2.5", "cache_read_mtok": "1.25", "output_mtok": "10"}
ESTIMATED = {"request": 1, "input_tokens": 964, "output_tokens": 4096}
USAGE = {
    "request": 1,
    "input_tokens": 812,
    "cache_read_tokens": 512,
    "output_tokens": 164,
    "output_reasoning_tokens": 7,
}


def call(n: int) -> Call:
    agent, target = f"agent-{n % AGENTS}", "openai:gpt-4o"
    return Call(agent, "llm", target, "openai", "catalog", 30_000, RATES, POLICY.hash, estimated=ESTIMATED)


def resident_mib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) >> 10


async def act(ledger: EmbeddedLedger, n: int) -> None:
    admitted = await ledger.authorize(call(n))
    assert isinstance(admitted, Admission), admitted
    await ledger.settle(admitted.action_id, Settlement(20_000, "success", USAGE, upstream_status=200, duration_ms=420))


async def fill(data: Path, actions: int) -> None:
    ledger = await open_embedded(data)
    await ledger.use(POLICY)
    done, first, first_line = 0, 0.0, 0.0
    for size in (size for size in SIZES if size <= actions):
        slowest, busy, line = 0.0, time.process_time(), time.thread_time()
        measured = size - done
        while done < size:
            start = time.perf_counter()
            await act(ledger, done)
            slowest = max(slowest, time.perf_counter() - start)
            done += 1
            if done % 50 == 0:
                await asyncio.sleep(0)  # as a server does: let the loop's other work run
        line = (time.thread_time() - line) / measured * 1e6
        await ledger.actions(ActionFilter(limit=1))  # the index has all of them: its work is in the sum
        busy = (time.process_time() - busy) / measured * 1e6
        first, first_line = first or busy, first_line or line
        print(
            f"{size:>9} actions: {line:6.1f} µs on the line (×{line / first_line:.2f}), {busy:6.1f} µs with all "
            f"threads (×{busy / first:.2f}), slowest {slowest * 1e3:5.1f} ms, {resident_mib():4d} MiB resident",
            flush=True,
        )
    began = time.perf_counter()
    await ledger.actions(ActionFilter(agent_id="agent-7", outcome="success", limit=100))
    print(f"a page of 100: {(time.perf_counter() - began) * 1e3:.1f} ms")
    began = time.perf_counter()
    await ledger.spend(["agent", "day"], None, None)
    print(f"totals by agent and day: {time.perf_counter() - began:.2f} s; {resident_mib()} MiB resident", flush=True)
    await ledger.close()


async def reopen(data: Path, how: str) -> None:
    began = time.perf_counter()
    ledger = await open_embedded(data)
    await ledger.use(POLICY)
    await act(ledger, 1)
    print(f"open after {how}: first action settled after {time.perf_counter() - began:.2f} s", flush=True)
    for n in range(9_000):
        await act(ledger, n)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    actions = int(sys.argv[1]) if len(sys.argv) > 1 else SIZES[-1]
    with tempfile.TemporaryDirectory() as folder:
        for step in (["fill", str(actions)], ["reopen", "a clean stop"], ["reopen", "kill -9"]):
            subprocess.run(
                [sys.executable, "-m", "tests.bench.ledger", "--child", folder, *step], check=step[0] == "fill"
            )
        for path in sorted(Path(folder).rglob("*.*")):
            print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _, _, data, step, detail = sys.argv
        asyncio.run(fill(Path(data), int(detail)) if step == "fill" else reopen(Path(data), detail))
    else:
        main()
