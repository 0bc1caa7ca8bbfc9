"""`python -m tests.browser.shots FOLDER [NAME…]`: a picture of each page to look at, light and dark, wide and phone.

The names are those of PAGES; none means all.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Browser

from tests.browser.chromium import PHONE, WIDE, browser, visitor
from tests.browser.month import BUDGET_PAUSED, MATCHER, POLICY, write_month
from tests.browser.served import Served, serving

SIZES = {"wide": WIDE, "phone": PHONE}
PAGES = {
    "sign-in": "/ui/sign-in",
    "agents": "/",
    "agents-none-found": "/?q=nobody",
    "agent": "/ui/agents/researcher",
    "agent-made": f"/ui/agents/{MATCHER}",
    "agent-paused": f"/ui/agents/{BUDGET_PAUSED}",
    "actions": "/ui/actions",
    "alerts": "/ui/alerts",
    "policy": "/ui/policy",
    "problem": "/ui/agents/nobody",
}


async def main(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        data = Path(made) / "data"
        await write_month(data)
        policy = shutil.copy(POLICY, Path(made) / "policy.yaml")
        async with serving(Path(policy), data) as served, browser() as launched:
            for size in SIZES:
                for scheme in ("light", "dark"):
                    await _shoot(launched, served, folder, names or list(PAGES), size, scheme)


async def _shoot(launched: Browser, served: Served, folder: Path, names: list[str], size: str, scheme: str) -> None:
    for name in names:
        signed_in = name != "sign-in"
        async with visitor(launched, served.url, size=SIZES[size], scheme=scheme, signed_in=signed_in) as window:
            await window.page.goto(PAGES[name])
            await window.page.screenshot(path=folder / f"{name}-{size}-{scheme}.png", full_page=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
