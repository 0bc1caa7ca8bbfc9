"""What `agent-ledger demo` serves: a policy, and three agents of different tempers that spend on the stand-in."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import httpx

_PATHS = {"openai": "/demo/v1/chat/completions", "anthropic": "/demo/v1/messages"}


@dataclass(frozen=True, slots=True)
class Temper:
    """How one agent spends: rounds of ``at_once`` calls, then a rest; ``*`` pairs are (least, most).

    Each call asks for ``max_tokens``; one in ``greedy_every`` asks for twenty times that.
    """

    agent_id: str
    dialect: Literal["openai", "anthropic"]
    model: str
    max_tokens: int
    at_once: tuple[int, int]
    rest_s: tuple[float, float]
    tasks: tuple[str, ...]
    greedy_every: int = 0


TEMPERS = (
    Temper(
        agent_id="researcher",
        dialect="openai",
        model="gpt-4o",
        max_tokens=400,
        at_once=(1, 1),
        rest_s=(1.5, 3.0),
        tasks=("Who sells budget controls for agents?", "Compare their prices.", "What do their customers miss?"),
    ),
    Temper(
        agent_id="coder",
        dialect="anthropic",
        model="claude-opus-5",
        max_tokens=300,
        at_once=(2, 5),
        rest_s=(6.0, 12.0),
        tasks=("Review this diff.", "Write the missing test.", "Why does the build fail?"),
        greedy_every=10,
    ),
    Temper(
        agent_id="summarizer",
        dialect="openai",
        model="gpt-4o",
        max_tokens=80,
        at_once=(1, 2),
        rest_s=(0.8, 1.6),
        tasks=("Summarize every message of today. " * 20, "Summarize the summaries. " * 10),
    ),
)


def policy_text() -> str:
    """The demo's policy file: it comes with the package, so that an installed `agent-ledger` has it too."""
    return (resources.files("proxy") / "demo.yaml").read_text("utf-8")


async def simulate(base_url: str, *, pace: float = 1.0, seed: int | None = None) -> None:
    """The agents at work against the sidecar at ``base_url``, until canceled; ``pace`` multiplies their rests."""
    async with httpx.AsyncClient(base_url=base_url, timeout=30.0) as client, asyncio.TaskGroup() as agents:
        for place, temper in enumerate(TEMPERS):
            chance = random.Random(None if seed is None else seed + place)  # noqa: S311 (chance, not a secret)
            agents.create_task(_work(client, temper, chance, pace))


async def _work(client: httpx.AsyncClient, temper: Temper, chance: random.Random, pace: float) -> None:
    while True:
        bodies = [_body(temper, chance) for _ in range(chance.randint(*temper.at_once))]
        allowed = all(await asyncio.gather(*(_call(client, temper, body) for body in bodies)))
        # A denied agent asks again, but seldom: it is the operator's turn.
        await asyncio.sleep(pace * chance.uniform(*temper.rest_s) * (1 if allowed else 8))


def _body(temper: Temper, chance: random.Random) -> dict[str, Any]:
    greedy = temper.greedy_every and chance.randrange(temper.greedy_every) == 0
    return {
        "model": temper.model,
        "max_tokens": temper.max_tokens * (20 if greedy else 1),
        "stream": chance.random() < 0.5,
        "messages": [{"role": "user", "content": chance.choice(temper.tasks)}],
    }


async def _call(client: httpx.AsyncClient, temper: Temper, body: dict[str, Any]) -> bool:
    """Whether the call was let through; a sidecar that is gone lets none."""
    headers = {"x-agent-id": temper.agent_id}
    try:
        async with client.stream("POST", _PATHS[temper.dialect], json=body, headers=headers) as answer:
            async for _ in answer.aiter_raw():
                pass
    except httpx.HTTPError:
        return False
    return answer.is_success
