"""Every page, as whoever comes to it finds it."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Window

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGES = ["/", "/?q=nobody"]


@pytest.mark.parametrize("path", PAGES)
async def test_it_is_sound_on_any_screen(window: Window, path: str):
    async with window(signed_in=True) as visitor:
        await visitor.audit_everywhere(path)
