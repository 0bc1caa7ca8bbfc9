"""Promise 1 and hazard 35: a thousand calls race for the last dollar over shared budgets, through real sockets."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict

import httpx
import pytest

from policy.money import NANO
from proxy.ledger.port import Admission
from tests.sidecar import ADMIN_HEADERS, in_process

CALLS = 1000
SEEDS = range(20)
AGENTS = [f"agent-{number}" for number in range(5)]

POLICY = (
    """
version: 1
upstreams:
  demo: {url: "builtin:demo"}
agents:
"""
    + "".join(
        f"  - {{id: {agent}, owner_id: {'ab'[number % 2]}, monthly_budget: {0.08 + number * 0.01}}}\n"
        for number, agent in enumerate(AGENTS)
    )
    + """
prices:
  - {name: models, match: {method: POST}, rates: catalog}
budgets:
  - {name: everyone, amount: 0.30, period: month}
  - {name: owner-a, match: {owner_id: a}, amount: 0.12, period: day}
"""
)


class Witness:
    """Stands before the ledger, and holds each decision against a model of three integers a budget."""

    def __init__(self, ledger) -> None:
        self._ledger = ledger
        self.amounts = {("everyone", ""): 300_000_000, ("owner-a", ""): 120_000_000}
        for number, agent in enumerate(AGENTS):
            self.amounts["monthly_budget", agent] = 80_000_000 + number * 10_000_000
        self.spent: dict[tuple[str, str], int] = defaultdict(int)
        self.reserved: dict[tuple[str, str], int] = defaultdict(int)
        self.open: dict[str, tuple[list[tuple[str, str]], int]] = {}
        self.admitted = self.denied = 0
        self.faults: list[str] = []

    def __getattr__(self, name):
        return getattr(self._ledger, name)

    def budgets(self, agent_id):
        names = [("monthly_budget", agent_id), ("everyone", "")]
        return names + ([("owner-a", "")] if AGENTS.index(agent_id) % 2 == 0 else [])

    async def authorize(self, call):
        budgets = self.budgets(call.agent_id)
        paused = self._ledger.agent(call.agent_id).status == "paused"
        fits = all(self.spent[b] + self.reserved[b] + call.estimate <= self.amounts[b] for b in budgets)
        answer = await self._ledger.authorize(call)
        admitted = isinstance(answer, Admission)
        if admitted != (fits and not paused):
            self.faults.append(f"{call} admitted={admitted} fits={fits} paused={paused}")
        if admitted:
            self.admitted += 1
            self.open[answer.action_id] = (budgets, call.estimate)
            for budget in budgets:
                self.reserved[budget] += call.estimate
        else:
            self.denied += 1
        return answer

    async def settle(self, action_id, settlement):
        action = await self._ledger.settle(action_id, settlement)
        budgets, estimate = self.open.pop(action_id)
        for budget in budgets:
            self.reserved[budget] -= estimate
            self.spent[budget] += action.cost
        return action


async def one_call(url, rng):
    """The status of one call on a connection of its own: a client's pool would be what a thousand of them wait for."""
    body = {
        "model": rng.choice(["gpt-4o-mini", "gpt-4o", "gpt-4.1-nano"]),
        "messages": [{"role": "user", "content": "word " * rng.randint(1, 60)}],
        "max_tokens": rng.randint(1, 400),
        "stream": rng.random() < 0.5,
    }
    text = json.dumps(body)
    head = f"POST /demo/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Agent-Id: {rng.choice(AGENTS)}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(f"{head}Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.endswith(b"\r\n0\r\n\r\n") or b"content-length" in answer.lower()
    status = int(answer[9:12])
    assert status in (200, 403, 429), answer
    return status


@pytest.mark.parametrize("seed", SEEDS)
async def test_promise_1_hazard_35_a_thousand_calls_race_for_the_last_dollar(tmp_path, seed):
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    rng = random.Random(seed)
    async with in_process(policy, tmp_path / "data") as (app, url):
        witness = app.sidecar.ledger = Witness(app.sidecar.ledger)
        statuses = await asyncio.gather(*(one_call(url, rng) for _ in range(CALLS)))
        async with httpx.AsyncClient(base_url=url) as client:
            spend = (await client.get("/api/spend", params={"groupBy": "agent"}, headers=ADMIN_HEADERS)).json()
        assert witness.faults == []
        assert witness.admitted == statuses.count(200) > 0
        assert witness.denied == CALLS - witness.admitted > 0
        assert witness.open == {}
        standings = {
            (standing.budget.name, standing.group): (standing.spent, standing.reserved)
            for agent in AGENTS
            for standing in app.sidecar.ledger.standings(agent)
        }
        assert standings == {budget: (witness.spent[budget], 0) for budget in standings}
        rows = {item["agent"]: round(item["cost"] * NANO) for item in spend["items"]}
        assert rows == {agent: witness.spent["monthly_budget", agent] for agent in rows}
        assert sum(rows.values()) == witness.spent["everyone", ""]
