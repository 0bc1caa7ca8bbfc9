"""Streams held by a client of our own: when the first byte of each comes, and what a thousand open ones take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles

import uvloop

from tests.bench import targets
from tests.bench.calls import HEADERS, HELD, STREAM
from tests.bench.processes import PROXY_CORE, Child, rss_kib, wait_until_idle
from tests.bench.report import Report, figure, progress
from tests.bench.targets import Running, Target

_END = b"0\r\n\r\n"  # of the chunks; no event ends so
_WAIT_S = 30.0
_CONNECTIONS = 16


class Stream(asyncio.Protocol):
    """Asks, and once more for each stream that has ended, until it is closed. ``first_s`` are the times that the
    first byte of each body took."""

    def __init__(self, request: bytes) -> None:
        self.first_s: list[float] = []
        self.begun = asyncio.get_running_loop().create_future()
        self._request = request
        self._asked: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.begun.done():
            self.begun.set_exception(ConnectionResetError("a stream was not answered"))

    def data_received(self, data: bytes) -> None:
        if self._asked is not None and b"data: " in data:
            self.first_s.append(time.perf_counter() - self._asked)
            self._asked = None
            if not self.begun.done():
                self.begun.set_result(None)
        if data.endswith(_END):
            self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self.transport.write(self._request)


def request(target: Target, body: bytes) -> bytes:
    told = {"Host": f"127.0.0.1:{target.port}", **HEADERS, "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"POST {target.path} HTTP/1.1\r\n{head}\r\n".encode() + body


async def open_streams(target: Target, body: bytes, count: int) -> list[Stream]:
    """Each of them begun."""
    loop, sent = asyncio.get_running_loop(), request(target, body)
    streams = []
    for first in range(0, count, 100):  # less than any backlog
        batch = range(first, min(first + 100, count))
        made = await asyncio.gather(
            *(loop.create_connection(lambda: Stream(sent), "127.0.0.1", target.port) for _ in batch)
        )
        streams += [stream for _, stream in made]
        await asyncio.wait_for(asyncio.gather(*(stream.begun for _, stream in made)), _WAIT_S)
    return streams


async def first_bytes(target: Target, seconds: float) -> list[float]:
    streams = await open_streams(target, STREAM, _CONNECTIONS)
    await asyncio.sleep(seconds)
    for stream in streams:
        stream.transport.abort()
    found = [first for stream in streams for first in stream.first_s[1:]]  # the first one's connection was new
    if len(found) < _CONNECTIONS:
        raise RuntimeError(f"{target.name} leaves streams unanswered")
    return found


def measure_first_byte(report: Report, running: Sequence[Running], upstream: int, rounds: int, seconds: int) -> None:
    """How much later the first byte of a stream comes through a proxy than without one."""
    asked = [targets.direct(upstream), *(each.target for each in running)]
    found: dict[str, list[float]] = {target.name: [] for target in asked}
    for number in range(rounds):
        for target in asked:
            progress(f"first byte: round {number + 1} of {rounds}, {target.name}")
            found[target.name] += uvloop.run(first_bytes(target, seconds))
        for each in running:
            wait_until_idle(each.pid)
    progress("")
    rows = []
    direct_50, direct_99 = (_percentile_ms(found["direct"], percent) for percent in (50, 99))
    for name, times in found.items():
        p50, p99 = (_percentile_ms(times, percent) for percent in (50, 99))
        cells = [name, str(len(times)), figure(p50, 2), figure(p99, 2)]
        rows.append([*cells, figure(p50 - direct_50, 2), figure(p99 - direct_99, 2)])
    report.heading(f"Time to the first byte of a stream, {_CONNECTIONS} streams at once")
    report.table(["", "streams", "p50 ms", "p99 ms", "p50 − direct", "p99 − direct"], rows)


def _percentile_ms(seconds: list[float], percent: int) -> float:
    return quantiles(seconds, n=100)[percent - 1] * 1e3


def measure_memory(report: Report, folder: Path, upstream: int, with_nginx: bool, count: int = 1000) -> None:
    """Resident memory at rest and with streams open, each of them with its connection upstream."""
    made = [targets.sidecar(folder, upstream)] + ([targets.nginx(folder, upstream)] if with_nginx else [])
    rows = []
    for target in made:
        with ExitStack() as stack:
            progress(f"memory: {target.name}")
            rows.append(_memory(targets.start(target, folder, stack), count))
    progress("")
    report.heading(f"Memory (RSS), and {count:,} open streams")
    report.table(["", "idle MB", "after calls MB", "with streams MB", "KB a stream"], rows)


def _memory(running: Running, count: int) -> list[str]:
    wait_until_idle(running.pid)
    idle = rss_kib(running.pid)

    async def opened() -> tuple[int, int]:
        for stream in await open_streams(running.target, STREAM, _CONNECTIONS):  # imports, pools, caches
            stream.transport.abort()
        await asyncio.sleep(1.0)
        before = rss_kib(running.pid)
        streams = await open_streams(running.target, HELD, count)
        await asyncio.sleep(1.0)
        after = rss_kib(running.pid)
        for stream in streams:
            stream.transport.abort()
        return before, after

    before, after = uvloop.run(opened())
    megabytes = [figure(kib / 1024) for kib in (idle, before, after)]
    return [running.target.name, *megabytes, figure((after - before) / count)]


def measure_ready(report: Report, folder: Path, upstream: int, times: int = 5) -> None:
    """From its start to the first 200 of /readyz, with a new ledger each time."""
    took = []
    for number in range(times):
        progress(f"ready: {number + 1} of {times}")
        target = targets.sidecar(folder, upstream)
        with Child(target.command, folder / f"ready-{number}.log", PROXY_CORE) as child:
            while not asyncio.run(_is_ready(target.port)):
                if time.perf_counter() - child.began > _WAIT_S:
                    raise TimeoutError("it never was ready")
                time.sleep(0.005)
            took.append(time.perf_counter() - child.began)
    progress("")
    report.heading("Ready")
    report.line(f"From start to /readyz: {median(took):.2f} s (median of {times}).")


async def _is_ready(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    try:
        return b" 200 " in await reader.readline()
    finally:
        writer.close()
