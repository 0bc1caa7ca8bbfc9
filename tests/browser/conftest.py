"""One browser a test process, on the loop it was launched on, which all these tests share by their `pytestmark`; a new
window and a new sidecar a test.

A machine without a browser fails them: what was not looked at has not passed.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.browser import chromium
from tests.browser.chromium import Visitor
from tests.browser.month import POLICY, write_month
from tests.browser.served import Served, serving

Window = Callable[..., AbstractAsyncContextManager[Visitor]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium.browser() as launched:
        yield launched


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that holds `write_month`, to copy."""
    data = tmp_path_factory.mktemp("month") / "data"
    await write_month(data)
    return data


@pytest_asyncio.fixture(loop_scope="session")
async def served(month: Path, tmp_path: Path) -> AsyncIterator[Served]:
    """A sidecar that holds the month, and a call in flight."""
    shutil.copytree(month, tmp_path / "data")
    policy = shutil.copy(POLICY, tmp_path / "policy.yaml")
    async with serving(Path(policy), tmp_path / "data") as served:
        yield served


@pytest.fixture
def window(browser: Browser, served: Served) -> Window:
    """`chromium.visitor` on the sidecar."""
    return partial(chromium.visitor, browser, served.url)


@pytest_asyncio.fixture(loop_scope="session")
async def operator(window: Window) -> AsyncIterator[Visitor]:
    """A window of an operator who has signed in and sees the first page."""
    async with window(signed_in=True) as visitor:
        await visitor.go("/")
        yield visitor
