"""Signing in and out, as a person does it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.chromium import NoBrowser, executable
from tests.browser.conftest import Window

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_right_token_opens_the_dashboard_and_signing_out_ends_it(window: Window):
    async with window() as visitor:
        page = visitor.page
        await visitor.go("/")
        await expect(page).to_have_title("Sign in · Agent Ledger")
        await expect(page.get_by_label("Admin token")).to_be_focused()
        await visitor.audit()

        await visitor.sign_in()
        await expect(page.get_by_role("heading", name="Research bot")).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        await visitor.go("/")
        await expect(page).to_have_title("Sign in · Agent Ledger")
        await visitor.quiet()


async def test_a_wrong_token_is_told_beside_its_field(window: Window):
    async with window() as visitor:
        await visitor.sign_in("not-it")
        field = visitor.page.get_by_label("Admin token")
        await expect(field).to_have_accessible_description("That is not this sidecar's admin token.")
        await expect(field).to_have_value("")
        await visitor.accessible()


async def test_what_a_page_brings_with_it_is_its_own(window: Window):
    """No font, script or picture comes from elsewhere: a pod may have no road out."""
    async with window() as visitor:
        hosts = set()
        visitor.page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
        await visitor.sign_in()
        await expect(visitor.page.get_by_role("heading", name="Research bot")).to_be_visible()
        assert len(hosts) == 1


async def test_where_no_browser_is_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """And fails: pages that nobody looked at have not passed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoBrowser, match="apt-get install chromium"):
        executable()
