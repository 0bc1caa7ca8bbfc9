"""The machine's own Chromium, driven by Playwright: pages on which whatever a browser complains of is kept."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from proxy.dashboard import session
from tests.sidecar import ADMIN

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")  # the first takes half the time
MISSING = (
    f"The browser tests need a Chromium, and none of {', '.join(NAMES)} is on the PATH: "
    "install one (Debian: apt-get install chromium-headless-shell)."
)
WIDE, PHONE = (1440, 900), (390, 844)
ZOOMED = (320, 640)  # what is left of a wide window at a zoom of 400 %
SLOW_MS = 15_000  # what takes longer on a loaded machine is not coming

# Chromium tells a page's script of each violation; the console has them too, but says less.
_REPORTS = """
window.__violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.__violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""
_AXE = Axe()
expect.set_options(timeout=SLOW_MS)


class NoBrowser(Exception):
    pass


def executable() -> str:
    """Raises NoBrowser, which says what to install."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise NoBrowser(MISSING)
    return found


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    path = executable()
    async with async_playwright() as playwright:
        # As root, which a container's user often is, Chromium starts only without its sandbox.
        launched = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield launched
        finally:
            await launched.close()


class Visitor:
    """A person's browser window on one sidecar, with what it complained of since the last `audit`."""

    def __init__(self, context: BrowserContext, page: Page) -> None:
        self.context = context
        self.page = page
        self.complaints: list[str] = []
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        page.on("requestfailed", lambda request: self._failed(request.url, request.failure))
        page.on("response", lambda response: self._answered(response.url, response.status))

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"console {kind}: {text}")

    def _failed(self, url: str, failure: str | None) -> None:
        # A page that is left ends its own stream of events.
        if not url.endswith("/ui/events") or failure != "net::ERR_ABORTED":
            self.complaints.append(f"failed: {url} {failure}")

    def _answered(self, url: str, status: int) -> None:
        if status >= 400:
            self.complaints.append(f"{status}: {url}")

    async def go(self, path: str) -> None:
        answer = await self.page.goto(path)
        assert answer is not None
        assert answer.status == 200, f"{path}: {answer.status}"

    async def sign_in(self, token: str = ADMIN) -> None:
        await self.go("/ui/sign-in")
        await self.page.get_by_label("Admin token").fill(token)
        await self.page.get_by_role("button", name="Sign in").click()

    async def audit(self) -> None:
        """Fails for what the browser complained of, for what people can't use, and where a page scrolls sideways."""
        await self.quiet()
        await self.accessible()
        await self.fits()

    async def audit_everywhere(self, path: str) -> None:
        """The page at ``path``, audited with all of it unfolded: wide and light, and on a phone and dark; zoomed, too,
        it does not scroll sideways."""
        await self.go(path)
        await self.page.evaluate("document.querySelectorAll('details').forEach((details) => details.open = true)")
        await self.audit()
        await self.resize(ZOOMED)
        await self.fits()
        await self.resize(PHONE)
        await self.page.emulate_media(color_scheme="dark")
        await self.audit()

    async def resize(self, size: tuple[int, int]) -> None:
        await self.page.set_viewport_size({"width": size[0], "height": size[1]})

    async def quiet(self) -> None:
        """No console error or warning, no violation of the content security policy, nothing that failed to load."""
        violations = await self.page.evaluate("window.__violations")
        complaints, self.complaints = self.complaints + [f"csp: {told}" for told in violations], []
        assert not complaints, f"{self.page.url}:\n" + "\n".join(complaints)

    async def accessible(self) -> None:
        """axe-core finds nothing serious or critical."""
        # Evaluated through the debugger, which no content security policy stops.
        results = await _AXE.run(self.page)
        grave = [each for each in results.response["violations"] if each["impact"] in ("serious", "critical")]
        assert not grave, f"{self.page.url}:\n" + "\n".join(map(_told, grave))

    async def fits(self) -> None:
        """No part of the page is wider than the window."""
        wide, window = await self.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert wide <= window, f"{self.page.url} is {wide} px wide in a window of {window} px"


def _told(violation: dict[str, Any]) -> str:
    nodes = "\n".join(f"    {node['html'][:160]}\n      {node['failureSummary']}" for node in violation["nodes"][:5])
    return f"  {violation['id']} ({violation['impact']}): {violation['help']}\n{nodes}"


@asynccontextmanager
async def visitor(
    browser: Browser,
    url: str,
    *,
    size: tuple[int, int] = WIDE,
    scheme: Literal["light", "dark"] = "light",
    scripts: bool = True,
    signed_in: bool = False,
) -> AsyncIterator[Visitor]:
    """A window of that size (CSS pixels) on the sidecar at ``url``; without ``scripts``, JavaScript is off."""
    context = await browser.new_context(
        base_url=url,
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        java_script_enabled=scripts,
        reduced_motion="reduce",
    )
    try:
        context.set_default_timeout(SLOW_MS)
        await context.add_init_script(_REPORTS)
        if signed_in:
            await context.add_cookies([{"name": session.COOKIE, "value": session.open_session(ADMIN), "url": url}])
        yield Visitor(context, await context.new_page())
    finally:
        await context.close()
