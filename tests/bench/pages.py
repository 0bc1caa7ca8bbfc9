"""How long the dashboard's pages and the API's reads take over a long history, and what they cost the line.

    python -m tests.bench.pages [--actions 1000000] [--agents 200] [--rounds 20] [--data FOLDER]

Makes a ledger of that many actions (with --data it is kept, for another run), serves it, and prints the median and the
99th percentile of each page and read; then a call's latency on an idle dashboard, and while one visitor loads page
after page. A page that there is not (yet) is left out, and said to be.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import quote

from tests.bench import history, targets
from tests.bench.calls import body
from tests.bench.processes import Child, free_port, machine, wait_until_idle
from tests.bench.report import Report, figure, progress, ratio
from tests.bench.streams import request
from tests.bench.targets import KEY, Target

_ADMIN = "the-bench-is-the-admin-here"
_PACE_S = 0.005  # between calls, of each caller
_CALLERS = 2
_CALLS_S = 10.0


class Visitor:
    """One connection, by the admin's token; ``get`` returns the status and the body."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def get(self, path: str) -> tuple[int, bytes]:
        self._connection.request("GET", path, headers={"Authorization": f"Bearer {_ADMIN}", "Accept": "text/html"})
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def json(self, path: str) -> object:
        return json.loads(self.get(path)[1])


def paths(visitor: Visitor) -> tuple[list[str], list[str]]:
    """The pages, and the reads of the API."""
    agent, since = "agent-7", quote((datetime.now(UTC) - timedelta(days=30)).isoformat())
    [action] = visitor.json("/api/actions?limit=1")["items"]  # type: ignore[index, call-overload]
    pages = ["/", "/?q=agent-1&sort=spent", f"/ui/agents/{agent}", "/ui/actions", f"/ui/actions?agent={agent}"]
    pages += [f"/ui/actions/{action['id']}", "/ui/alerts", "/ui/policy"]
    reads = ["/api/agents", f"/api/agents/{agent}", "/api/actions", f"/api/actions?agentId={agent}&outcome=denied"]
    reads += ["/api/alerts", f"/api/alerts?agentId={agent}", "/api/spend?groupBy=agent", "/api/spend?groupBy=target"]
    reads += [f"/api/spend?groupBy=agent,day&since={since}", "/api/spend?groupBy=agent,day,outcome"]
    reads += [f"/api/spend?groupBy=day&agentId={agent}", "/metrics"]
    return pages, reads


def measure_reads(report: Report, port: int, rounds: int) -> list[str]:
    """The pages that there are."""
    visitor = Visitor(port)
    pages, reads = paths(visitor)
    took: dict[str, list[float]] = {}
    sizes: dict[str, int] = {}
    for path in (*pages, *reads):
        status, answer = visitor.get(path)  # once before: what is compiled, or imported, at first
        if status == 200:
            took[path], sizes[path] = [], len(answer)
        else:
            report.line(f"{path} is left out: it answers {status}")
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for path, times in took.items():
            began = time.perf_counter()
            visitor.get(path)
            times.append((time.perf_counter() - began) * 1e3)
    progress("")
    for title, asked in (("Pages", pages), ("Reads", reads)):
        rows = [
            [
                path.partition("&since")[0],
                figure(median(took[path])),
                figure(_p99(took[path])),
                figure(sizes[path] / 1e3),
            ]
            for path in asked
            if path in took
        ]
        report.heading(title)
        report.table(["", "median ms", "p99 ms", "KB"], rows)
    return [path for path in pages if path in took]


def measure_calls(report: Report, port: int, pages: Sequence[str]) -> None:
    """Calls at an even pace, so that pages alone make the difference."""
    idle = asyncio.run(_calls(port))
    stop, loaded = threading.Event(), 0

    def load() -> None:
        nonlocal loaded
        visitor = Visitor(port)
        while not stop.is_set():
            visitor.get(pages[loaded % len(pages)])
            loaded += 1

    thread = threading.Thread(target=load)
    thread.start()
    try:
        busy = asyncio.run(_calls(port))
    finally:
        stop.set()
        thread.join()
    rows = [
        [name, str(len(times)), figure(median(times), 2), figure(_p99(times), 2), ratio(_p99(times) / _p99(idle))]
        for name, times in (("idle dashboard", idle), (f"{loaded / _CALLS_S:.0f} pages a second", busy))
    ]
    report.heading("A call, while pages are loaded")
    report.table(["", "calls", "p50 ms", "p99 ms", "p99 × idle"], rows)


async def _calls(port: int) -> list[float]:
    """What each took, in ms."""
    sent, took = request(Target("sidecar", port, [], "/openai/v1/chat/completions"), body(1000)), []
    deadline = time.perf_counter() + _CALLS_S

    async def caller() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (began := time.perf_counter()) < deadline:
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.partition(b"\r\n")[0]:
                raise RuntimeError(f"a call was answered {head!r}")
            await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))
            took.append((time.perf_counter() - began) * 1e3)
            await asyncio.sleep(_PACE_S)
        writer.close()

    await asyncio.gather(*(caller() for _ in range(_CALLERS)))
    return took


def _p99(times: Sequence[float]) -> float:
    return quantiles(times, n=100, method="inclusive")[98]


def main() -> None:
    options = arguments()
    report = Report(options.markdown)
    report.heading("Machine")
    report.facts(machine())
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        kept = Path(name if options.data is None else options.data) / f"{options.actions}-{options.agents}"
        kept.mkdir(parents=True, exist_ok=True)
        policy, data = kept / "policy.yaml", kept / "data"
        history.write_policy(policy, options.agents, targets.start_upstream(Path(name), stack), KEY)
        if not (kept / "filled").exists():
            asyncio.run(history.fill(data, policy, options.actions, options.agents))
            (kept / "filled").touch()
        port = free_port()
        command = [sys.executable, "-m", "proxy", "serve", str(policy), "--port", str(port), "--data", str(data)]
        env = {"AGENT_LEDGER_ADMIN_TOKEN": _ADMIN}
        child = stack.enter_context(Child(command, Path(name) / "sidecar.log", env=env))
        child.wait_until_listening(port)
        Visitor(port).get("/api/spend")  # answers once the index has all
        wait_until_idle(child.pid)
        report.facts([("Ledger", f"{options.actions:,} actions of {options.agents} agents in {history.DAYS} days")])
        pages = measure_reads(report, port, options.rounds)
        measure_calls(report, port, pages)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Pages and reads over a long history.")
    parser.add_argument("--actions", type=int, default=1_000_000)
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--data", help="where the ledger is kept, and found by another run")
    parser.add_argument("--markdown", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
