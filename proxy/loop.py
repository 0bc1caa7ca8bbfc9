"""The loop that the process runs on: uvloop's, a third cheaper on the line than asyncio's own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from proxy.lookups import Loop


def run(main: Coroutine[Any, Any, None]) -> None:
    """As `asyncio.run`, on such a loop."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main)
