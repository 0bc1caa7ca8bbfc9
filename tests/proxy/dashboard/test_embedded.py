"""The dashboard on the ledger it is for: what the embedded engine records is what the page shows."""

from __future__ import annotations

import re

import pytest

from policy.model import AgentSpec, Policy, Upstream
from proxy.ledger.embedded import open_embedded
from proxy.ledger.port import Admission, Call, Denial

USD = 1_000_000_000


def call(cost: int) -> Call:
    return Call("bot", "api_call", "demo:gpt-4o", "demo", "models", cost)


@pytest.fixture
async def ledger(sidecar, tmp_path):
    policy = Policy(
        hash="p",
        upstreams={"demo": Upstream("demo", "builtin:demo")},
        agents={"bot": AgentSpec("bot", "Bot", monthly_budget=USD, per_action_limit=USD)},
        thresholds=(50,),
    )
    sidecar.policy_file.rules.policy = policy
    sidecar.ledger = await open_embedded(tmp_path)
    await sidecar.ledger.use(policy)
    yield sidecar.ledger
    await sidecar.ledger.close()


def total(page: str, name: str) -> str:
    """The figure of the tile with that name, as text."""
    cell = re.search(rf"<dt>{name}</dt>\s*<dd[^>]*>(.*?)</dd>", page, re.DOTALL)[1]
    return re.sub(r"<[^>]+>", "", cell).strip()


async def test_a_governed_month_is_on_the_page_and_a_paused_agent_resumes(ledger, operator):
    assert (await ledger.record(call(700_000_001), "success")).denial is None
    assert isinstance(await ledger.authorize(call(100_000_000)), Admission)
    assert isinstance(await ledger.authorize(call(400_000_000)), Denial)

    page = (await operator.get("/")).text
    assert [total(page, name) for name in ("Agents", "Spent this month", "Denied today")] == ["1", "$0.70", "1"]
    assert "$0.700000001 spent, $0.10 reserved of $1.00" in page
    assert "budget_exceeded: monthly_budget" in page
    assert int(total(page, "Open alerts")) == len(await ledger.alerts()) == 2
    assert "<dt>In flight</dt><dd>1</dd>" in page

    fields = {"form_token": re.search(r'name="form_token" value="(\w+)"', page)[1]}
    await operator.post("/ui/agents/bot/resume", data=fields)
    assert ledger.agent("bot").status == "active"
    await operator.post("/ui/agents/bot/pause", data=fields)
    assert ledger.agent("bot").status == "paused"
    for alert in await ledger.alerts():
        await operator.post(f"/ui/alerts/{alert.id}/acknowledge", data=fields)
    assert total((await operator.get("/")).text, "Open alerts") == "0"
