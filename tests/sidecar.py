"""A real sidecar for tests: in this loop (`in_process`), or as the command in its own process (`Process`)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from proxy.app import App, sidecar_app
from proxy.server import Server
from proxy.settings import Settings

ADMIN = "test-admin-token"
ADMIN_HEADERS = {"authorization": f"Bearer {ADMIN}"}


@asynccontextmanager
async def in_process(policy: Path, data: Path, **more) -> AsyncIterator[tuple[App, str]]:
    """(app, url) of a sidecar on port 0 in the running loop."""
    settings = Settings(policy=policy, data=data, port=0, admin_token=ADMIN, **more)
    async with sidecar_app(settings) as app:
        server = Server(app, settings.host, 0, load=app.sidecar.load)
        port = await server.start()
        try:
            yield app, f"http://127.0.0.1:{port}"
        finally:
            await server.shutdown(1.0)


class Process:
    """`agent-ledger serve` as a child process."""

    module = "proxy"

    def __init__(self, policy: Path, data: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.data = data
        self.log = data.parent / f"{data.name}.log"
        # As `make run` has it: a path relative to where it is started.
        relative = os.path.relpath(data)
        self._output = self.log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module, "serve", str(policy), "--port", "0", "--data", relative, *arguments],
            env={**os.environ, "AGENT_LEDGER_ADMIN_TOKEN": ADMIN, **(env or {})},
            stdout=self._output,
            stderr=self._output,
        )
        try:
            self.url = self._wait_for_url(self._output.tell())
        except BaseException:
            self.process.kill()
            self.process.wait()
            self._output.close()
            raise
        self.api = httpx.Client(base_url=self.url, headers=ADMIN_HEADERS, timeout=30)

    def _wait_for_url(self, start: int) -> str:
        return self._wait_for(re.compile(r" serves .* at (http://[^\s\"]+)"), start)[1]

    def wait_for_log(self, text: str) -> None:
        """Until the log says it."""
        self._wait_for(re.compile(re.escape(text)), 0)

    def _wait_for(self, pattern: re.Pattern[str], start: int) -> re.Match[str]:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            text = self.log.read_bytes()[start:].decode()
            if found := pattern.search(text):
                return found
            if self.process.poll() is not None:
                raise RuntimeError(f"the sidecar ended:\n{text}")
            time.sleep(0.02)
        raise TimeoutError(f"the log never said {pattern.pattern}:\n{self.log.read_text()}")

    def get(self, path: str):
        answer = self.api.get(path)
        answer.raise_for_status()
        return json.loads(answer.content, parse_float=str)

    def kill(self) -> None:
        """SIGKILL, as a crash would be."""
        self.process.send_signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        code = self.process.wait(timeout=40)
        self.api.close()
        self._output.close()
        return code

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exc_info) -> None:
        if self.process.poll() is None:
            self.stop()
