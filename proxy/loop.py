"""The loop that the process runs on: uvloop's, a third cheaper on the line than asyncio's own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

from proxy.lookups import Loop

# How long a thread that sums or renders may keep the interpreter from the loop, each time the loop wakes up: a call
# wakes it several times.
_SWITCH_S = 0.0005


def run(main: Coroutine[Any, Any, None]) -> None:
    """As `asyncio.run`, on such a loop."""
    sys.setswitchinterval(_SWITCH_S)
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main)
