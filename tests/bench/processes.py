"""The processes that are measured: each pinned to a core, read by /proc as a whole tree, ended with the bench."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PROXY_CORE, LOAD_CORE = 0, 1
_PACKAGES = ("agent-ledger", "uvicorn", "httptools", "httpx", "uvloop", "msgspec", "starlette", "genai-prices")
_STOP_S = 5.0
_IDLE_SHARE = 0.02


class NotStarted(Exception):
    """The program ended, or did not listen in time."""


def pinned(core: int, command: list[str]) -> list[str]:
    """On that core, where there are two at least."""
    return ["taskset", "--cpu-list", str(core), *command] if (os.cpu_count() or 1) > 1 else command


def program(name: str) -> str | None:
    """Where it is installed; nginx's folder is not on every user's PATH."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Child:
    """A program in a session of its own, so that all it starts ends with it. Its output goes to ``log``."""

    def __init__(
        self, command: list[str], log: Path | None = None, core: int | None = None, env: dict[str, str] | None = None
    ) -> None:
        self._log = log
        self.began = time.perf_counter()
        with log.open("wb") if log else contextlib.nullcontext() as output:
            self._process = subprocess.Popen(
                command if core is None else pinned(core, command),
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def wait(self) -> int:
        return self._process.wait()

    def wait_until_listening(self, port: int, seconds: float = 30.0) -> None:
        """Raises NotStarted."""
        deadline = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
                return
            time.sleep(0.05)
        raise NotStarted(self._log.read_text(errors="replace")[-2000:] if self._log else "")

    def end(self) -> None:
        for number, seconds in ((signal.SIGTERM, _STOP_S), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # what it started and did not end

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *raised: object) -> None:
        self.end()


def awake(core: int) -> Child:
    """Keeps it from sleeping, and yields to whatever else runs there.

    To wake a sleeping core costs whoever writes to a process on it tens of µs in a virtual machine: a proxy that keeps
    the load's core busy would never pay them, one that doesn't would at each write.
    """
    return Child(["chrt", "--idle", "0", "sh", "-c", "while :; do :; done"], core=core)


def tree(pid: int) -> Iterator[int]:
    """The process and all that it started."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from tree(int(child))


def cpu_us(pid: int) -> float:
    """User and system time of every thread of the tree, in µs."""
    threads = (path for each in tree(pid) for path in Path(f"/proc/{each}/task").glob("*/schedstat"))
    return sum(int(path.read_text().split()[0]) for path in threads) / 1e3


def rss_kib(pid: int) -> int:
    """Resident memory of the tree."""
    statuses = (Path(f"/proc/{each}/status").read_text() for each in tree(pid))
    return sum(int(status.split("VmRSS:")[1].split()[0]) for status in statuses)


def wait_until_idle(pid: int, seconds: float = 20.0) -> None:
    """What a proxy does behind its answers (an index, a log, streams cut off) is part of what they cost it."""
    deadline, before = time.monotonic() + seconds, cpu_us(pid)
    while time.monotonic() < deadline:
        time.sleep(0.2)
        now = cpu_us(pid)
        if now - before < _IDLE_SHARE * 0.2e6:
            return
        before = now


def machine() -> list[tuple[str, str]]:
    """What a figure depends on."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), "?")
    facts = [
        ("CPU", f"{model}, {os.cpu_count()} cores"),
        ("Kernel", platform.release()),
        ("Load before", f"{os.getloadavg()[0]:.1f}"),
        ("Python", platform.python_version()),
    ]
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            facts.append((package, version(package)))
    return facts
