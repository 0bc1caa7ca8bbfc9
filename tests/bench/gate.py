"""What each step of the line costs, and what it costs among many prices, agents and budgets; no sockets.

`python -m tests.bench.gate [--markdown]`

One JSON call of an agent with a key, a catalog model, its own month and three budgets, two limits. CPU of the loop's
thread in µs, the best of five; of the whole also that of all threads, until the read index holds it too.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from proxy.app import sidecar_app
from proxy.calllog import CallLog
from proxy.ledger.port import ActionFilter
from proxy.loop import run
from proxy.settings import Settings
from tests.bench.line import Line, Size, policy_text
from tests.bench.report import Report, figure, progress, ratio

CALLS, BEST_OF = 1000, 5
SIZES = {
    "": Size(),
    "1,000 prices": Size(prices=1000),
    "1,000 agents": Size(agents=1000),
    "100 budgets": Size(budgets=100),
}
_TURN = 50  # calls, after which the loop has its turn, as a server's has


def measured(step: Callable[[], object]) -> float:
    """µs of the loop's thread."""
    best = float("inf")
    for _ in range(BEST_OF):
        began = time.thread_time()
        for _ in range(CALLS):
            step()
        best = min(best, time.thread_time() - began)
    return best / CALLS * 1e6


async def one_round(step: Callable[[Any], Awaitable[Any]], each: Sequence[Any]) -> tuple[float, list[Any]]:
    """µs of the loop's thread, and what the step gave of each."""
    given, began = [], time.thread_time()
    for number, one in enumerate(each):
        given.append(await step(one))
        if number % _TURN == 0:
            await asyncio.sleep(0)
    return (time.thread_time() - began) / len(each) * 1e6, given


async def awaited(step: Callable[[], Awaitable[Any]]) -> float:
    """µs of the loop's thread."""
    return min([(await one_round(lambda _: step(), range(CALLS)))[0] for _ in range(BEST_OF)])


async def costs(size: Size) -> dict[str, float]:
    """Of each step, in µs, in the order of the line; then of the whole."""
    with tempfile.TemporaryDirectory(prefix="bench-gate-") as name:
        policy = Path(name, "policy.yaml")
        policy.write_text(policy_text(size))
        async with sidecar_app(Settings(policy=policy, data=Path(name, "data"), port=0, admin_token="none")) as app:
            app.sidecar.calls = log = CallLog("json", lambda lines: None)
            try:
                return await _steps(Line(app))
            finally:
                await log.close()


async def _steps(line: Line) -> dict[str, float]:
    gc.collect()
    authorize = settle = all_threads = float("inf")
    for _ in range(BEST_OF):
        taken, admitted = await one_round(lambda _: line.authorize(), range(CALLS))
        authorize = min(authorize, taken)
        taken, actions = await one_round(line.settle, admitted)
        settle = min(settle, taken)
    action = actions[-1]
    found = {
        "receive the head": measured(line.receive_head),
        "identify the agent": measured(line.identify),
        "match by the head": measured(line.match),
        "receive the body": await awaited(line.receive_body),
        "parse, match by the body, estimate": measured(line.quote),
        "authorize": authorize,
        "headers, both ways": measured(line.headers),
        "meter the answer": measured(line.meter),
        "conclude and settle": settle,
        "count it": measured(lambda: line.count(action)),
        "log line": measured(lambda: line.log(action)),
    }
    found["sum of these"] = sum(found.values())
    whole, transport = await awaited(line.whole), await awaited(line.transport)
    found["the whole line, over a transport that answers at once"] = whole
    found["of it neither that transport nor any of the steps"] = whole - transport - found["sum of these"]
    for _ in range(BEST_OF):
        began = time.process_time()
        await one_round(lambda _: line.whole(), range(CALLS))
        await line.sidecar.ledger.actions(ActionFilter(limit=1))  # the index has them all
        all_threads = min(all_threads, (time.process_time() - began) / CALLS * 1e6)
    found["the whole line, in all threads"] = all_threads
    found["meter a stream of 51 events"] = measured(line.meter_stream)
    found["the same, and take the usage out of it"] = measured(line.meter_and_strip_stream)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true")
    report, found = Report(parser.parse_args().markdown), []
    logging.getLogger("agent_ledger").setLevel(logging.ERROR)

    async def each_size() -> None:
        for name, size in SIZES.items():
            progress(f"the line's steps: {name or 'few of all'}")
            found.append(await costs(size))
        progress("")

    run(each_size())
    few, *many = found
    report.heading(f"The line, step by step: {CALLS} calls, CPU of the loop's thread, best of {BEST_OF}")
    rows = [[step, figure(few[step]), *(ratio(each[step] / few[step]) for each in many)] for step in few]
    report.table(["", "µs", *(f"× with {name}" for name in SIZES if name)], rows)
    report.line("Few are 10 prices, 10 agents and 10 budgets, of which 4 count this call.")


if __name__ == "__main__":
    main()
