from __future__ import annotations

import asyncio
import json
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from policy.parse import parse_policy
from proxy.demo import TEMPERS, policy_text, simulate
from proxy.server import Server

ROOT = Path(__file__).parents[2]


class Sidecar:
    """Answers every call, and remembers who made it and how."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.calls: list[tuple[str, str, dict]] = []
        self.at_once: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.called = asyncio.Condition()

    async def __call__(self, scope, receive, send) -> None:
        agent = dict(scope["headers"])[b"x-agent-id"].decode()
        body = b""
        while (message := await receive()).get("more_body") or message.get("body"):
            body += message["body"]
            if not message["more_body"]:
                break
        self.at_once[agent] += 1
        self.most[agent] = max(self.most[agent], self.at_once[agent])
        await asyncio.sleep(0.005)
        self.at_once[agent] -= 1
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})
        async with self.called:
            self.calls.append((agent, scope["path"], json.loads(body)))
            self.called.notify_all()

    async def after(self, calls: int) -> None:
        async with asyncio.timeout(20), self.called:
            await self.called.wait_for(lambda: len(self.calls) >= calls)


async def simulated(sidecar: Sidecar, calls: int, pace: float) -> asyncio.Task[None]:
    """The simulation, canceled after that many calls."""
    server = Server(sidecar)
    work = asyncio.create_task(simulate(f"http://127.0.0.1:{await server.start()}", pace=pace, seed=7))
    await sidecar.after(calls)
    work.cancel()
    await asyncio.wait([work], timeout=10)
    await server.shutdown(1.0)
    return work


async def test_three_agents_spend_in_both_formats_plain_and_streaming():
    sidecar = Sidecar()
    await simulated(sidecar, calls=120, pace=0.001)
    assert {(agent, path) for agent, path, _ in sidecar.calls} == {
        ("researcher", "/demo/v1/chat/completions"),
        ("coder", "/demo/v1/messages"),
        ("summarizer", "/demo/v1/chat/completions"),
    }
    for agent in ("researcher", "coder", "summarizer"):
        assert {body["stream"] for name, _, body in sidecar.calls if name == agent} == {True, False}


async def test_each_keeps_its_own_bound():
    sidecar = Sidecar()
    await simulated(sidecar, calls=120, pace=0.001)
    bounds = {temper.agent_id: temper.at_once[1] for temper in TEMPERS}
    assert all(sidecar.most[agent] <= bound for agent, bound in bounds.items())
    assert sidecar.most["coder"] > 1


async def test_it_ends_when_canceled():
    work = await simulated(Sidecar(), calls=5, pace=0.001)
    assert work.cancelled()
    assert [task for task in asyncio.all_tasks() if "_work" in repr(task)] == []


async def test_a_denied_agent_goes_on_asking():
    sidecar = Sidecar(status=403)
    await simulated(sidecar, calls=40, pace=0.0005)
    assert Counter(agent for agent, _, _ in sidecar.calls)["summarizer"] > 2


async def test_a_sidecar_that_is_gone_does_not_end_it():
    server = Server(Sidecar())
    url = f"http://127.0.0.1:{await server.start()}"
    await server.shutdown(0)
    work = asyncio.create_task(simulate(url, pace=0.001))
    done, _ = await asyncio.wait([work], timeout=0.3)
    assert not done
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


def test_the_policy_parses_without_a_warning_and_names_the_agents():
    parsed = parse_policy(policy_text(), name="demo.yaml", env={}, read_file=lambda name: name)
    assert not parsed.warnings
    assert set(parsed.policy.agents) == {temper.agent_id for temper in TEMPERS}
    assert not any(agent.key for agent in parsed.policy.agents.values())
    assert parsed.policy.upstreams["demo"].url == "builtin:demo"


def test_the_careless_agents_budget_is_the_smallest_and_soon_gone():
    agents = parse_policy(policy_text(), name="demo.yaml", env={}, read_file=str).policy.agents
    careless = min(agents.values(), key=lambda agent: agent.monthly_budget)
    assert careless.id == "summarizer"
    assert not careless.auto_resume


def test_the_policy_is_in_the_wheel():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["package-data"]
    assert "demo.yaml" in data["proxy"]
