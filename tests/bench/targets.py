"""What is measured side by side: this sidecar with everything on, and proxies that enforce nothing."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.processes import LOAD_CORE, PROXY_CORE, Child, free_port, program

KEY = "alk_the-bench-has-a-key-as-every-agent-should"
SIDECAR, STRICT, BARE, NGINX, NAIVE, LITELLM = (
    "sidecar",
    "sidecar, strict",
    "bare (no gate)",
    "nginx",
    "naive",
    "LiteLLM",
)
_CHAT = "/v1/chat/completions"

_POLICY = """\
version: 1
defaults: {{mode: enforce, timezone: UTC, durability: {durability}}}
upstreams:
  openai: {{url: "http://127.0.0.1:{upstream}", meter: openai, max_in_flight: 4096}}
prices:
  - {{name: models, match: {{upstream: openai, path: "/v1/**"}}, rates: catalog}}
agents:
  - {{id: bench, name: Bench, role: bench, owner_id: team, monthly_budget: 10000000, per_action_limit: 10,
     key: "{key}"}}
budgets:
  - {{name: agent-day, amount: 10000000, period: day, each: agent}}
  - {{name: team-month, amount: 10000000, period: month, match: {{owner_id: team}}}}
  - {{name: upstream-week, amount: 10000000, period: week, match: {{upstream: openai}}}}
limits:
  - {{name: rate, requests: 100000000, period: minute, each: agent}}
  - {{name: parallel, concurrent: 4096, each: agent}}
"""

_NGINX = """\
{user}worker_processes 1; worker_rlimit_nofile 8192; daemon off; error_log stderr error; pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_buffer_size 256k;  # a body of 100 KB else goes by a file
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""

_LITELLM = """\
model_list:
  - model_name: gpt-4o
    litellm_params: {{model: openai/gpt-4o, api_base: "http://127.0.0.1:{upstream}/v1", api_key: sk-bench}}
"""


@dataclass(frozen=True)
class Target:
    """How a proxy is started, and where its calls go."""

    name: str
    port: int
    command: list[str]
    path: str = _CHAT
    env: dict[str, str] = field(default_factory=dict)
    ready_s: float = 30.0


@dataclass(frozen=True)
class Running:
    target: Target
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.target.port}{self.target.path}"


def start(target: Target, folder: Path, stack: ExitStack) -> Running:
    """Listening; it ends with ``stack``. Raises NotStarted."""
    child = stack.enter_context(
        Child(target.command, folder / f"{target.name}-{target.port}.log", PROXY_CORE, target.env)
    )
    child.wait_until_listening(target.port, target.ready_s)
    return Running(target, child.pid)


def start_upstream(folder: Path, stack: ExitStack) -> int:
    """Its port."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.upstream", str(port)]
    stack.enter_context(Child(command, folder / "upstream.log", LOAD_CORE)).wait_until_listening(port)
    return port


def direct(upstream: int) -> Target:
    """No proxy: the upstream itself."""
    return Target("direct", upstream, [])


def sidecar(folder: Path, upstream: int, durability: str = "normal") -> Target:
    """As it is served by default, every part of it at work: each time with a ledger of its own."""
    port = free_port()
    policy = folder / f"policy-{port}.yaml"
    policy.write_text(_POLICY.format(durability=durability, upstream=upstream, key=KEY))
    command = [sys.executable, "-m", "proxy", "serve", str(policy), "--port", str(port)]
    command += ["--data", str(folder / f"data-{port}")]
    return Target(SIDECAR if durability == "normal" else STRICT, port, command, f"/openai{_CHAT}")


def bare(upstream: int) -> Target:
    return _program(BARE, "tests.bench.bare", upstream)


def naive(upstream: int) -> Target:
    return _program(NAIVE, "tests.bench.naive", upstream)


def _program(name: str, module: str, upstream: int) -> Target:
    port = free_port()
    return Target(name, port, [sys.executable, "-m", module, str(port), f"http://127.0.0.1:{upstream}"])


def nginx(folder: Path, upstream: int) -> Target:
    port = free_port()
    own = folder / f"nginx-{port}"
    own.mkdir()
    user = "user root root; " if os.geteuid() == 0 else ""  # the folder is ours alone
    (own / "nginx.conf").write_text(_NGINX.format(user=user, folder=own, upstream=upstream, port=port))
    return Target(NGINX, port, [program(NGINX) or NGINX, "-c", str(own / "nginx.conf"), "-p", str(own), "-e", "stderr"])


def litellm(folder: Path, upstream: int, program: str) -> Target:
    port = free_port()
    config = folder / "litellm.yaml"
    config.write_text(_LITELLM.format(upstream=upstream))
    command = [program, "--config", str(config), "--port", str(port), "--host", "127.0.0.1", "--num_workers", "1"]
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"}
    return Target(LITELLM, port, command, env=env, ready_s=90.0)
