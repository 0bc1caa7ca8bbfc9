"""One sidecar before one server of all providers, for every test of the SDKs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from time import sleep
from typing import Any

# Before any SDK is imported: no test fetches a price list, sends telemetry or finds a real credential.
os.environ |= {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
    "AWS_EC2_METADATA_DISABLED": "true",
}

import httpx
import pytest

from tests.e2e.providers import Providers
from tests.e2e.sdks.calls import LOOP
from tests.e2e.sdks.clients import Side
from tests.sidecar import Process

POLICY = """
version: 1
upstreams:
  openai: {url: "URL/openai", meter: openai, set_headers: {authorization: Bearer sk-provider}}
  azure: {url: "URL/azure", meter: openai, catalog: azure, set_headers: {api-key: sk-provider}}
  groq: {url: "URL/groq", meter: groq, set_headers: {authorization: Bearer sk-provider}}
  openrouter: {url: "URL/openrouter", meter: openrouter, set_headers: {authorization: Bearer sk-provider}}
  anthropic: {url: "URL/anthropic", meter: anthropic, set_headers: {x-api-key: sk-provider}}
  gemini: {url: "URL/gemini", meter: gemini, set_headers: {x-goog-api-key: sk-provider}}
  mistral: {url: "URL/mistral", meter: mistral, set_headers: {authorization: Bearer sk-provider}}
  cohere: {url: "URL/cohere", meter: cohere, set_headers: {authorization: Bearer sk-provider}}
  bedrock: {url: "URL/bedrock", meter: bedrock, set_headers: {authorization: Bearer sk-provider}}
  tools: {url: "URL/tools", meter: mcp}
  tools-json: {url: "URL/tools-json", meter: mcp}
agents:
  - {id: rich, monthly_budget: 100, key: alk_rich}
  - {id: poor, monthly_budget: 100, key: alk_poor}
  - {id: capped, monthly_budget: 100, per_action_limit: 0.000001, key: alk_capped}
  - {id: halted, monthly_budget: 100, key: alk_halted}
  - {id: fickle, monthly_budget: 100, key: alk_fickle}
  - {id: busy, monthly_budget: 100, key: alk_busy}
prices:
  - {name: deployment, match: {upstream: azure, path: /openai/deployments/mini/**}, model: gpt-4o-mini, rates: catalog}
  - {name: counting, match: {upstream: anthropic, path: /v1/messages/count_tokens}, rates: {request: 0}}
  - name: models
    match: {upstream: [openai, groq, openrouter, anthropic, gemini, mistral, cohere, bedrock], method: POST}
    rates: catalog
  - {name: listing, match: {upstream: openai, method: GET}, rates: {request: 0}}
  - name: tool
    match: {upstream: [tools, tools-json], body: {method: tools/call, params.name: [weather, broken, grow]}}
    rates: {request: 0.01}
  - name: talk
    match: {upstream: [tools, tools-json], body: {method: [initialize, server/discover, tools/list, "notifications/*"]}}
    rates: {request: 0}
  - {name: sessions, match: {upstream: [tools, tools-json], method: [GET, DELETE]}, rates: {request: 0}}
budgets:
  - {name: pocket, match: {agent: poor}, amount: 0.000001, period: total}
limits:
  - {name: one-at-a-time, match: {agent: busy}, concurrent: 1}
"""


@dataclass(frozen=True)
class World:
    """The providers, and the sidecar before them."""

    providers: Providers
    sidecar: Process
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def direct(self) -> Side:
        return Side(self.providers.url, "sk-provider")

    def through(self, agent: str = "rich") -> Side:
        return Side(self.sidecar.url, self.keys.get(agent, f"alk_{agent}"))

    def actions(self, agent: str = "rich", limit: int = 1) -> list[dict[str, Any]]:
        """The latest, newest first."""
        found: list[dict[str, Any]] = self.sidecar.get(f"/api/actions?agentId={agent}&limit={limit}")["items"]
        return found

    def arrived(self) -> int:
        """How many requests for upstreams have arrived at the sidecar and ended there, denied or answered."""
        # A denied call is among the calls, and among the denials by its reason.
        return sum(
            count
            for name, count in self._counters()
            if name.startswith(("calls", "denials", "rejected")) and 'outcome="denied"' not in name
        )

    def denied(self, reason: str) -> int:
        return next(count for name, count in self._counters() if name == f'denials_total{{reason="{reason}"}}')

    def hire(self) -> str:
        """The id of a new agent, which has done nothing yet."""
        asked = {"name": "Hired", "role": "tester", "ownerId": "tests", "monthlyBudget": 100, "perActionLimit": 1}
        answer = self.sidecar.api.post("/api/agents", json=asked)
        agent = answer.raise_for_status().json()
        self.keys[agent["id"]] = agent["key"]
        return agent["id"]

    def set_status(self, agent: str, status: str) -> None:
        self.sidecar.api.patch(f"/api/agents/{agent}", json={"status": status}).raise_for_status()

    @contextmanager
    def held(self) -> Iterator[None]:
        """A call of the agent `busy` is in flight until `providers.released` is set, or the block is left."""
        self.providers.released.clear()
        before = len(self.providers.seen)
        thread = Thread(target=self._hold)
        thread.start()
        try:
            while len(self.providers.seen) == before:
                assert thread.is_alive()
                sleep(0.005)
            yield
        finally:
            self.providers.released.set()
            thread.join()

    def _hold(self) -> None:
        body = {"model": "gpt-4o-mini", "max_tokens": 9, "messages": [{"role": "user", "content": "hold"}]}
        headers = {"authorization": "Bearer alk_busy"}
        httpx.post(f"{self.sidecar.url}/openai/v1/chat/completions", json=body, headers=headers, timeout=60)

    def _counters(self) -> Iterator[tuple[str, int]]:
        for line in self.sidecar.api.get("/metrics").text.splitlines():
            name, _, value = line.removeprefix("agent_ledger_").rpartition(" ")
            if not line.startswith("#") and "_total" in name:
                yield name, int(float(value))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("sdks")
    with LOOP, Providers() as providers:
        (folder / "policy.yaml").write_text(POLICY.replace("URL", providers.url))
        with Process(folder / "policy.yaml", folder / "data") as sidecar:
            world = World(providers, sidecar)
            world.set_status("halted", "paused")
            yield world


@pytest.fixture(scope="module", autouse=True)
def _no_certificates() -> Iterator[None]:
    """Every client would read all root certificates, for 40 ms; no call here is by TLS."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("ssl.SSLContext.load_verify_locations", lambda *_, **__: None)
        yield
