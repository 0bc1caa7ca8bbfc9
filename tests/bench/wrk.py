"""One run of wrk: so many connections, each with one call after the other."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import LOAD_CORE, pinned

_SCRIPT = """\
wrk.method = "POST"
wrk.body = io.open("{body}", "rb"):read("*a")
{headers}
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\\n{{"calls": %d, "us": %d, "p50_us": %d, "p99_us": %d, "errors": %d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True)
class Run:
    """``errors`` counts answers of 400 and more, and connections that failed or timed out."""

    calls: int
    us: int
    p50_us: int
    p99_us: int
    errors: int

    @property
    def per_s(self) -> float:
        return self.calls / self.us * 1e6


def script(folder: Path, name: str, body: bytes, headers: dict[str, str]) -> Path:
    """What wrk sends."""
    path, sent = folder / f"{name}.lua", folder / f"{name}.body"
    sent.write_bytes(body)
    told = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())
    path.write_text(_SCRIPT.format(body=sent, headers=told))
    return path


def run(url: str, told: Path, connections: int, seconds: int) -> Run:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "--latency", "-s", str(told), url]
    done = subprocess.run(pinned(LOAD_CORE, command), capture_output=True, text=True, check=True)
    return Run(**json.loads(done.stdout.splitlines()[-1]))
