"""Each call gets its own answer while clients leave and upstreams misbehave (`tests.bench.echo` is the whole of it)."""

from __future__ import annotations

import time

from tests.bench.echo import check

CALLS, CLIENTS = 1500, 96


async def test_no_answer_is_swapped_lost_or_hung_whatever_clients_and_upstreams_do(tmp_path):
    seed = time.time_ns() // 1_000_000
    print(f"--seed {seed}")
    checked = await check(tmp_path, CALLS, CLIENTS, seed)
    assert checked.faults == []
    told = checked.counts
    assert sum(told[name] for name in told if "upstream:" not in name and name != "actions") == CALLS
    assert told["answered"] > CALLS / 2
    assert min(told["502 upstream_failed"], told["left while reading"], told["left while waiting"]) > 0
    assert min(told["upstream: surplus bytes"], told["upstream: closed when idle"], told["upstream: torn"]) > 0
