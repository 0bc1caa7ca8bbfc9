from __future__ import annotations

import pytest

from tests.proxy.line.governed import FullDisk


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    return FullDisk(monkeypatch)
