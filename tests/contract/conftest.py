"""Every engine passes this suite: to add one, add it to ENGINES."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from policy.model import Policy
from tests.contract.engines import ENGINES, Engine
from tests.contract.world import World

Worlds = Callable[[Mapping[str, Policy]], Any]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> Worlds:
    """`async with world(policies) as w`: a fresh ledger under the first of the policies."""

    @asynccontextmanager
    async def make(policies: Mapping[str, Policy]) -> AsyncIterator[World]:
        made = World(engine, tmp_path / "data", policies)
        await made.start()
        try:
            yield made
        finally:
            await made.stop()

    return make
