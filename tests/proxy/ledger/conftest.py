from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.ledger.embedded import open_embedded
from tests.contract.policies import policy
from tests.contract.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A fresh embedded ledger under a policy of one agent, a, with 100 USD a month."""
    made = World(open_embedded, tmp_path / "data", {"first": policy(thresholds=(50,))})
    await made.start()
    yield made
    await made.stop()
