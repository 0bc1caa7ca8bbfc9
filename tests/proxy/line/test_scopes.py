"""What a budget or a limit concerns, and shadow mode, which records what it would have denied and lets it pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.money import NANO
from tests.proxy.line.governed import governed
from tests.proxy.upstreams import answer, says

CENT = NANO // 100
POLICY = """
version: 1
defaults: {mode: %s}
upstreams:
  one: {url: "URL"}
  two: {url: "URL"}
agents:
  - {id: worker, role: writer, owner_id: team, monthly_budget: 1}
  - {id: reader, role: reader, owner_id: team, monthly_budget: 1}
  - {id: capped, monthly_budget: 1, per_action_limit: 0.001}
  - {id: broke, monthly_budget: 0.005}
prices:
  - {name: dear, match: {path: "/dear"}, rates: {request: 0.02}}
  - {name: cheap, match: {path: "/cheap"}, rates: {request: 0.01}}
%s
"""


def policy(section: str = "", mode: str = "enforce") -> str:
    return POLICY % (mode, section)


@pytest.mark.parametrize(
    ("match", "passes", "denies"),
    [
        ("upstream: one", ("worker", "/two/cheap"), ("reader", "/one/cheap")),
        ("price: cheap", ("worker", "/one/dear"), ("reader", "/two/cheap")),
        ("role: writer", ("reader", "/one/cheap"), ("worker", "/two/dear")),
        ("owner_id: team", ("capped", "/one/free"), ("reader", "/two/dear")),
        ("agent: [worker, capped]", ("reader", "/one/cheap"), ("worker", "/two/dear")),
    ],
)
async def test_a_budget_counts_what_it_matches(
    tmp_path: Path, match: str, passes: tuple[str, str], denies: tuple[str, str]
) -> None:
    budget = "  - {name: free, match: {path: /free}, rates: {request: 0}}\nbudgets:\n"
    budget += f"  - {{name: narrow, match: {{{match}}}, amount: 0.015, period: day}}"
    async with governed(tmp_path, policy(budget), says(answer())) as line:
        assert (await line.post("/one/cheap", {})).status == 200
        agent, path = passes
        assert (await line.post(path, {}, f"X-Agent-Id: {agent}".encode())).status == 200
        assert line.standing("narrow").spent == CENT
        agent, path = denies
        got = await line.post(path, {}, f"X-Agent-Id: {agent}".encode())
        assert (got.status, got.json()["error"]["budget"]) == (403, "narrow")
        assert line.ledger.agent(agent).status == "active"  # type: ignore[union-attr]
        assert [(alert.type, alert.agent_id) for alert in await line.alerts()] == [("budget_exceeded", agent)]


async def test_each_counts_apart(tmp_path: Path) -> None:
    limits = "limits:\n  - {name: once, each: upstream, requests: 1, period: year}"
    async with governed(tmp_path, policy(limits), says(answer())) as line:
        statuses = [
            (await line.post(path, {})).status for path in ("/one/cheap", "/two/cheap", "/one/dear", "/two/dear")
        ]
        assert statuses == [200, 200, 429, 429]


SHADOWED = {
    "unpriced": ("worker", "/one/elsewhere", ("unpriced",), 0),
    "per action": ("capped", "/one/cheap", ("per_action_limit_exceeded",), CENT),
    "month": ("broke", "/one/cheap", ("budget_exceeded",), CENT),
}


@pytest.mark.parametrize("name", SHADOWED)
async def test_shadow_softens_and_records_what_it_would_have_denied(tmp_path: Path, name: str) -> None:
    agent, path, softened, cost = SHADOWED[name]
    async with governed(tmp_path, policy(mode="shadow"), says(answer())) as line:
        got = await line.post(path, {}, f"X-Agent-Id: {agent}".encode())
        assert got.status == 200
        assert got.header("x-ledger-budget-remaining") is None
        action = await line.ended()
        assert (action.softened, action.cost, action.outcome) == (softened, cost, "success")
        assert line.standing(agent=agent).spent == cost
        assert line.ledger.agent(agent).status == "active"  # type: ignore[union-attr]
        assert [alert.type for alert in await line.alerts()] == (["budget_exceeded"] if name == "month" else [])


async def test_shadow_softens_neither_identity_nor_pause(tmp_path: Path) -> None:
    async with governed(tmp_path, policy(mode="shadow"), says(answer())) as line:
        await line.ledger.change_agent("worker", {"status": "paused"})
        assert (await line.post("/one/cheap", {})).status == 403
        assert (await line.post("/one/cheap", {}, b"X-Agent-Id: ghost")).status == 404
        assert (await line.post("/one/cheap", {}, b"X-Other: 1")).status == 401
    assert line.upstream.lines == []


async def test_a_shadow_budget_counts_may_be_exceeded_and_leaves_the_others_in_force(tmp_path: Path) -> None:
    budgets = """budgets:
  - {name: trial, amount: 0.015, period: day, mode: shadow}
  - {name: real, amount: 0.035, period: day}"""
    async with governed(tmp_path, policy(budgets), says(answer())) as line:
        statuses = [(await line.post("/one/cheap", {})).status for _ in range(4)]
        assert statuses == [200, 200, 200, 403]
        assert [(await line.ended()).softened for _ in range(3)] == [(), ("budget_exceeded",), ("budget_exceeded",)]
        assert line.standing("trial").spent == line.standing("real").spent == 3 * CENT
        assert sorted(alert.message.split()[1] for alert in await line.alerts()) == ["real", "trial"]


@pytest.mark.parametrize(("mode", "limit_mode"), [("enforce", "shadow"), ("shadow", "enforce")])
async def test_a_shadow_limit_lets_pass(tmp_path: Path, mode: str, limit_mode: str) -> None:
    limits = f"limits:\n  - {{name: once, requests: 1, period: year, mode: {limit_mode}}}"
    async with governed(tmp_path, policy(limits, mode), says(answer())) as line:
        assert [(await line.post("/one/cheap", {})).status for _ in range(2)] == [200, 200]
        assert [(await line.ended()).softened for _ in range(2)] == [(), ("rate_limited",)]
