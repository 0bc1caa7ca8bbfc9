"""A sidecar in the running loop over a month that was written before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from proxy.ledger.port import Admission, Call, Ledger
from tests.sidecar import ADMIN_HEADERS, in_process

IN_FLIGHT = 120_000_000  # nano-dollars


@dataclass(frozen=True, slots=True)
class Served:
    """``policy`` is the file in force."""

    url: str
    ledger: Ledger
    policy: Path

    async def call(self, agent_id: str, text: str = "Say hello.") -> str:
        """A call through the gate to the stand-in, as that agent makes it: its action's id."""
        body = {"model": "gpt-4o-mini", "max_tokens": 32, "messages": [{"role": "user", "content": text}]}
        async with httpx.AsyncClient(base_url=self.url) as client:
            answer = await client.post("/demo/v1/chat/completions", json=body, headers={"x-agent-id": agent_id})
        answer.raise_for_status()
        return answer.headers["x-ledger-action-id"]

    async def reload(self) -> bool:
        """Whether the policy file, as it now is, came in force."""
        async with httpx.AsyncClient(base_url=self.url, headers=ADMIN_HEADERS) as client:
            return (await client.post("/api/policy/reload")).is_success


@asynccontextmanager
async def serving(policy: Path, data: Path) -> AsyncIterator[Served]:
    """A sidecar over that data folder; the coder, if the policy names one, has a call of IN_FLIGHT in flight."""
    async with in_process(policy, data) as (app, url):
        ledger = app.sidecar.ledger
        if ledger.agent("coder") is not None:
            rates = {"output_mtok": "25"}
            call = Call("coder", "llm", "anthropic:claude-opus-5", "anthropic", "models", IN_FLIGHT, rates)
            assert isinstance(await ledger.authorize(call), Admission)
        yield Served(url, ledger, policy)
