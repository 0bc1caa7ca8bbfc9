"""The first page: every agent's month at a glance."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Locator, Page, expect

from tests.browser.chromium import Visitor
from tests.browser.conftest import Window
from tests.browser.month import BUDGET_PAUSED, NEARLY_SPENT, OPERATOR_PAUSED
from tests.browser.served import Served

pytestmark = pytest.mark.asyncio(loop_scope="session")


def card(page: Page, name: str) -> Locator:
    return page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=name))


async def test_it_shows_every_agent_in_its_condition(operator: Visitor):
    page = operator.page
    await expect(card(page, "Summarizer")).to_contain_text("paused")
    await expect(card(page, "Summarizer")).to_contain_text("$15.00")
    await expect(card(page, "Nightly eval")).to_contain_text("ask Dana before resuming")
    await expect(card(page, "Support triage").get_by_role("img").first).to_have_class(re.compile("high"))
    await expect(card(page, "Coder")).to_contain_text("$0.12 reserved")
    await expect(card(page, "Translator")).to_contain_text("$25.00 available")
    await expect(page.get_by_role("heading", name="<EMEA> & Ωmega")).to_be_visible()


async def test_an_agent_is_paused_and_resumed(operator: Visitor, served: Served):
    page = operator.page
    await card(page, "Coder").get_by_role("button", name="Pause").click()
    await expect(card(page, "Coder").get_by_text("paused", exact=True)).to_be_visible()
    assert served.ledger.agent("coder").status == "paused"
    await operator.quiet()
    await card(page, "Coder").get_by_role("button", name="Resume").click()
    await expect(card(page, "Coder").get_by_text("active", exact=True)).to_be_visible()
    assert served.ledger.agent("coder").status == "active"
    await operator.quiet()


async def test_with_a_keyboard_alone_an_agent_is_paused(operator: Visitor, served: Served):
    page = operator.page
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    button = card(page, "Research bot").get_by_role("button", name="Pause")
    for _ in range(80):
        await page.keyboard.press("Tab")
        if await button.evaluate("button => button === document.activeElement"):
            break
    await expect(button).to_be_focused()
    assert await button.evaluate("button => getComputedStyle(button).outlineStyle") == "solid"
    await page.keyboard.press("Enter")
    await expect(card(page, "Research bot").get_by_role("button", name="Resume")).to_be_visible()
    assert served.ledger.agent("researcher").status == "paused"


async def test_an_alert_is_acknowledged(operator: Visitor, served: Served):
    page = operator.page
    buttons = page.get_by_role("button", name="Acknowledge")
    before = await buttons.count()
    await buttons.first.click()
    await expect(buttons).to_have_count(before - 1)
    newest = (await served.ledger.alerts(limit=1))[0]
    assert newest.acknowledged_at is not None
    await operator.quiet()


async def test_agents_are_searched_and_sorted(operator: Visitor):
    page = operator.page
    names = page.get_by_role("heading", level=3)
    await page.get_by_role("searchbox").fill("platform")
    await page.keyboard.press("Enter")
    await expect(names).to_have_text(["Nightly eval", "Coder"])
    await page.wait_for_load_state()  # the script that submits by itself
    await page.get_by_label("Sort by").select_option("Name")
    await expect(names).to_have_text(["Coder", "Nightly eval"])
    await page.get_by_label("Status").select_option("Paused")
    await expect(names).to_have_text(["Nightly eval"])
    await page.get_by_role("searchbox").fill("nobody of this name")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("No agent fits.")).to_be_visible()
    await operator.quiet()


# -- live --------------------------------------------------------------------------------------------------------------


async def test_an_action_arrives_without_the_page_being_loaded_again(operator: Visitor, served: Served):
    page = operator.page
    await page.evaluate("window.unloaded = 'not since'")
    row = page.get_by_role("row").filter(has_text="demo:gpt-4o-mini")
    await expect(row).to_have_count(0)
    await served.call("translator")
    await expect(row).to_have_count(1)
    await expect(row).to_contain_text("Translator")
    await expect(card(page, "Translator")).not_to_contain_text("$0.00 spent")
    assert await page.evaluate("window.unloaded") == "not since"
    await operator.quiet()


async def test_what_is_being_typed_stays_while_actions_arrive(operator: Visitor, served: Served):
    page = operator.page
    await page.get_by_role("searchbox").press_sequentially("half a wo")
    await served.call("translator")
    await expect(page.get_by_role("row").filter(has_text="demo:gpt-4o-mini")).to_have_count(1)
    await expect(page.get_by_role("searchbox")).to_be_focused()
    await expect(page.get_by_role("searchbox")).to_have_value("half a wo")


async def test_a_page_whose_session_ended_leads_to_the_sign_in(window: Window, served: Served):
    async with window(signed_in=True) as visitor:
        async with visitor.page.expect_response("**/ui/events"):
            await visitor.go("/")
        await visitor.context.clear_cookies()
        await served.call("translator")
        await expect(visitor.page.get_by_label("Admin token")).to_be_visible()


# -- for anyone --------------------------------------------------------------------------------------------------------


async def test_it_works_without_javascript(window: Window, served: Served):
    async with window(scripts=False) as visitor:
        await visitor.sign_in()
        for agent_id, name in ((BUDGET_PAUSED, "Summarizer"), (OPERATOR_PAUSED, "Nightly eval")):
            await card(visitor.page, name).get_by_role("button", name="Resume").click()
            await expect(card(visitor.page, name).get_by_role("button", name="Pause")).to_be_visible()
            assert served.ledger.agent(agent_id).status == "active"
        await visitor.page.get_by_role("searchbox").fill(NEARLY_SPENT)
        await visitor.page.get_by_role("button", name="Show").click()
        await expect(visitor.page.get_by_role("heading", level=3)).to_have_text(["Support triage"])
        await visitor.page.get_by_role("button", name="Sign out").click()
        await expect(visitor.page.get_by_label("Admin token")).to_be_visible()
