"""A sidecar in the running loop over a month that was written before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from proxy.ledger.port import Admission, Call, Ledger
from tests.sidecar import in_process

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


@asynccontextmanager
async def serving(policy: Path, data: Path) -> AsyncIterator[Served]:
    """Over that data folder, with one call in flight: the coder's, of IN_FLIGHT."""
    async with in_process(policy, data) as (app, url):
        ledger = app.sidecar.ledger
        held = await ledger.authorize(
            Call("coder", "llm", "anthropic:claude-opus-5", "anthropic", "models", IN_FLIGHT, {"output_mtok": "25"})
        )
        assert isinstance(held, Admission)
        yield Served(url, ledger, policy)
