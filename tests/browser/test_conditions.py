"""A sidecar before its first call, and in trouble: what the operator sees, and is told to do."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.browser.chromium import PHONE, Visitor, visitor
from tests.browser.served import Served, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

NO_AGENTS = """\
version: 1
upstreams: {demo: {url: "builtin:demo"}}
prices: [{name: models, match: {upstream: demo, method: POST}, rates: catalog}]
"""
ONE_AGENT = NO_AGENTS + "agents: [{id: first, name: First, role: r, owner_id: o, monthly_budget: 1.00}]\n"


@pytest.mark.parametrize(
    ("policy", "told"),
    [(NO_AGENTS, "No agent yet. Name one in"), (ONE_AGENT, "No call yet. Send the first one from a shell:")],
    ids=["no agent", "no call"],
)
async def test_an_empty_ledger_says_what_to_do_first(browser: Browser, tmp_path: Path, policy: str, told: str):
    file = tmp_path / "policy.yaml"
    file.write_text(policy)
    async with serving(file, tmp_path / "data") as served, visitor(browser, served.url, signed_in=True) as window:
        await window.audit_everywhere("/")
        await expect(window.page.get_by_text(told)).to_be_visible()


async def test_a_policy_that_was_refused_is_told_on_every_open_page_and_until_it_is_mended(
    operator: Visitor, served: Served
):
    policy = served.policy.read_text()
    served.policy.write_text(policy.replace("monthly_budget: 120.00", "monthly_budget: a lot"))
    assert not await served.reload()
    alert = operator.page.get_by_role("alert")
    await expect(alert).to_contain_text("The policy file was refused: the one before it stays in force.")
    await expect(alert).to_contain_text("monthly_budget: a lot")
    await operator.resize(PHONE)
    await operator.audit()
    served.policy.write_text(policy)
    assert await served.reload()
    await expect(alert).to_have_count(0)


async def test_a_page_that_lost_its_sidecar_says_so(browser: Browser, tmp_path: Path):
    file = tmp_path / "policy.yaml"
    file.write_text(ONE_AGENT)
    async with AsyncExitStack() as running:
        served = await running.enter_async_context(serving(file, tmp_path / "data"))
        async with visitor(browser, served.url, signed_in=True) as window:
            async with window.page.expect_response("**/ui/events"):
                await window.go("/")
            live = window.page.locator("#live")
            await expect(live).not_to_have_class(re.compile("stale"))
            await running.aclose()
            await expect(live).to_have_class(re.compile("stale"))
            await expect(window.page.get_by_role("heading", name="First")).to_be_visible()
