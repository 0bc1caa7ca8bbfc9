"""Promise 4 under fire: part of the crash campaign in each run of the suite (`crashes` is the whole of it)."""

from __future__ import annotations

import os
import time

from tests.e2e.crashes import run

SECONDS = float(os.environ.get("CRASH_SECONDS", "45"))


async def test_promise_4_killed_again_and_again_under_load_nothing_is_lost_or_double(tmp_path):
    seed = time.time_ns() // 1_000_000
    print(f"--seed {seed}")
    did = await run(tmp_path, ["normal", "strict"], seed, kills=1000, seconds=SECONDS)
    assert did["kills"] > SECONDS / 4
    assert min(did["answers"], did["denials"], did["reports"], did["lines: expire"], did["verified"]) > 0
