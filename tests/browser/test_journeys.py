"""What an operator does beyond the first page, each of it from the page where it is done."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.async_api import Page, expect

from proxy.ledger.port import ActionFilter
from tests.browser.conftest import Window
from tests.browser.month import MATCHER
from tests.browser.served import Served

pytestmark = pytest.mark.asyncio(loop_scope="session")

DEAR = '{"model": "gpt-4o", "max_tokens": 16000, "messages": [{"role": "user", "content": "Write it all down."}]}'


async def test_an_agent_is_paused_with_a_reason_by_keyboard_alone_and_resumed(window: Window, served: Served):
    async with window(signed_in=True) as visitor:
        page = visitor.page
        await visitor.go("/ui/agents/coder")
        await page.get_by_label("Reason to pause").focus()
        await page.keyboard.type("the invoice is late")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("paused")
        await expect(page.locator("#head")).to_contain_text("the invoice is late")
        assert served.ledger.agent("coder").paused_reason == "the invoice is late"
        await page.get_by_role("button", name="Resume").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("active")
        assert served.ledger.agent("coder").status == "active"
        await visitor.quiet()


async def test_a_budget_is_edited_and_a_wrong_amount_is_told_at_its_field(window: Window, served: Served):
    async with window(signed_in=True) as visitor:
        page = visitor.page
        await visitor.go(f"/ui/agents/{MATCHER}")
        await page.get_by_label("Monthly budget").fill("95.50")
        await page.get_by_label("Per-action limit").fill("3")
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("status").get_by_text("Saved.")).to_be_visible()
        await expect(page.locator("#month")).to_contain_text("$95.50")
        agent = served.ledger.agent(MATCHER)
        assert (agent.monthly_budget, agent.per_action_limit) == (95_500_000_000, 3_000_000_000)
        await visitor.audit()
        await page.get_by_label("Monthly budget").fill("a lot")
        await page.get_by_role("button", name="Save").click()
        field = page.get_by_label("Monthly budget")
        await expect(field).to_have_value("a lot")
        await expect(field).to_have_attribute("aria-invalid", "true")
        await expect(page.locator("#edit .wrong")).to_contain_text("Monthly budget")
        assert served.ledger.agent(MATCHER) == agent
        await visitor.accessible()


async def test_what_the_policy_file_manages_is_shown_and_not_edited(window: Window):
    async with window(signed_in=True) as visitor:
        await visitor.go("/ui/agents/researcher")
        settings = visitor.page.locator("#edit")
        await expect(settings).to_contain_text("$120.00 set in the policy file")
        await expect(settings.get_by_label("Monthly budget")).to_have_count(0)


async def test_a_key_is_shown_once_pays_for_a_call_and_is_revoked(window: Window, served: Served):
    async with window(signed_in=True) as visitor:
        page = visitor.page
        await visitor.go(f"/ui/agents/{MATCHER}")
        await page.get_by_role("button", name="New key").click()
        key = await page.locator("code.secret").inner_text()
        assert await _call(served, key) == 200
        await visitor.audit()
        await visitor.go(f"/ui/agents/{MATCHER}")
        assert key not in await page.content()
        made = next(each.id for each in reversed(served.ledger.agent(MATCHER).keys) if each.expires_at is None)
        newest = page.locator("#keys li").filter(has_text=made)
        await newest.get_by_text("Revoke", exact=True).click()
        await newest.get_by_role("button", name="Revoke this key").click()
        await expect(newest).to_contain_text("ended")
        assert await _call(served, key) == 401
        await visitor.quiet()


@pytest.mark.parametrize("path", ["/ui/agents/researcher", "/ui/actions", "/ui/actions?agent=researcher"])
async def test_an_action_arrives_on_an_open_page(window: Window, served: Served, path: str):
    async with window(signed_in=True) as visitor:
        async with visitor.page.expect_response("**/ui/events"):
            await visitor.go(path)
        await visitor.page.evaluate("window.loaded_once = true")
        action_id = await served.call("researcher")
        await expect(visitor.page.locator(f'[data-row="{action_id}"]')).to_contain_text("demo:gpt-4o-mini")
        assert await visitor.page.evaluate("window.loaded_once")
        await visitor.quiet()


async def test_actions_are_filtered_paged_and_looked_into(window: Window):
    async with window(signed_in=True) as visitor:
        page = visitor.page
        await visitor.go("/ui/actions")
        await page.get_by_label("Outcome").select_option("denied")
        await page.get_by_role("button", name="Show").click()
        rows = page.locator("tbody tr")
        await expect(rows.first).to_be_visible()
        assert set(await page.locator("td.outcome .badge").all_inner_texts()) == {"denied"}
        await rows.first.get_by_role("link").last.click()
        await expect(page.get_by_role("heading", name="Decision")).to_be_visible()
        await visitor.audit()


async def test_all_shown_alerts_are_acknowledged(window: Window, served: Served):
    async with window(signed_in=True) as visitor:
        await visitor.go("/ui/alerts")
        assert served.ledger.open_alerts() > 1
        await visitor.page.get_by_role("button", name=re.compile("Acknowledge all")).click()
        await expect(visitor.page.get_by_role("button", name="Acknowledge", exact=True)).to_have_count(0)
        assert served.ledger.open_alerts() == 0
        await visitor.audit()


async def test_a_call_is_tried_and_nothing_of_it_is_recorded(window: Window, served: Served):
    before = [action.id async for action in served.ledger.export(ActionFilter())], served.ledger.reservations()
    async with window(signed_in=True) as visitor:
        page = visitor.page
        await visitor.go("/ui/policy")
        answer = page.get_by_role("region", name="Answer")
        await _try(page, "coder", DEAR)
        await expect(answer).to_contain_text("allowed")
        await expect(answer).to_contain_text("models")
        await expect(answer).to_contain_text("output_tokens")
        await visitor.audit()
        await _try(page, "summarizer", DEAR)
        await expect(answer).to_contain_text("denied agent paused")
        await _try(page, "coder", "{not JSON")
        await expect(page.locator("#body")).to_have_attribute("aria-invalid", "true")
        await expect(page.locator("#body")).to_have_value("{not JSON")
        await visitor.accessible()
    assert before == (
        [action.id async for action in served.ledger.export(ActionFilter())],
        served.ledger.reservations(),
    )


async def test_a_broken_policy_is_not_put_in_force_by_its_button(window: Window, served: Served):
    policy = served.policy.read_text()
    async with window(signed_in=True) as visitor:
        await visitor.go("/ui/policy")
        served.policy.write_text(policy.replace("monthly_budget: 120.00", "monthly_budget: a lot"))
        await visitor.page.get_by_role("button", name="Reload the file").click()
        await expect(visitor.page.get_by_role("alert")).to_contain_text("monthly_budget: a lot")
        served.policy.write_text(policy)
        await visitor.page.get_by_role("button", name="Reload the file").click()
        await expect(visitor.page.get_by_role("alert")).to_have_count(0)


async def test_behind_each_chart_is_a_table_which_print_shows(window: Window):
    async with window(signed_in=True) as visitor:
        page = visitor.page
        await visitor.go("/ui/agents/researcher")
        tables = page.locator("details.behind")
        charts = page.locator("main svg[role=img]")
        assert await tables.count() >= 3
        for number in range(await charts.count()):
            assert await charts.nth(number).get_attribute("aria-label")
        await tables.nth(1).get_by_text("Table").click()
        await expect(tables.nth(1).locator("tbody tr")).to_have_count(30)
        await page.emulate_media(media="print")
        for number in range(await tables.count()):
            await expect(tables.nth(number).locator("table")).to_be_visible()
        await expect(page.get_by_role("button", name="Pause")).to_be_hidden()


async def test_without_javascript_every_page_reads_and_its_forms_work(window: Window, served: Served):
    async with window(signed_in=True, scripts=False) as visitor:
        page = visitor.page
        for path in ("/", "/ui/agents/coder", "/ui/actions", "/ui/alerts", "/ui/policy"):
            await visitor.go(path)
            await expect(page.get_by_role("navigation", name="Sections")).to_be_visible()
        await _try(page, "coder", DEAR)
        await expect(page.get_by_role("region", name="Answer")).to_contain_text("allowed")
        await visitor.go("/ui/agents/coder")
        await page.get_by_label("Reason to pause").fill("no script needed")
        await page.get_by_role("button", name="Pause").click()
        await expect(page.locator("#head")).to_contain_text("no script needed")
        assert served.ledger.agent("coder").status == "paused"


async def _try(page: Page, agent_id: str, body: str) -> None:
    form = page.locator("#try form")
    await form.get_by_label("Upstream", exact=True).select_option("openai")
    await form.locator("#path").fill("/v1/chat/completions")
    await form.locator("#agent").fill(agent_id)
    await form.locator("#body").fill(body)
    await form.get_by_role("button", name="Try it").click()
    await page.wait_for_load_state()


async def _call(served: Served, key: str) -> int:
    body = {"model": "gpt-4o-mini", "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]}
    async with httpx.AsyncClient(base_url=served.url) as client:
        return (await client.post("/demo/v1/chat/completions", json=body, headers={"x-ledger-key": key})).status_code
