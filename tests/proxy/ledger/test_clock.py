"""Hazard 40: a clock that jumps, back or far on, while the ledger runs or while it is stopped."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from policy.money import NANO
from proxy.ledger.port import ActionFilter, Admission, Denial
from proxy.ledger.verify import verify
from tests.contract.policies import budget, policy
from tests.contract.world import World, call, ms

HOUR_MS = 3_600_000
JUMPS = {
    "an hour back": ("2026-10-31T12:00:00Z", "2026-10-31T11:00:00Z"),
    "days back": ("2026-10-31T12:00:00Z", "2026-10-28T12:00:00Z"),
    "back over a month's end": ("2026-11-01T00:00:01Z", "2026-10-31T23:59:59Z"),
    "back over many months": ("2026-11-01T00:00:01Z", "2025-02-03T00:00:00Z"),
    "to the epoch": ("2026-11-01T00:00:01Z", "1970-01-01T00:00:00Z"),
    "years on, and back": ("2031-05-05T05:05:05Z", "2026-11-01T00:00:00Z"),
    "to and fro": ("2026-11-01T00:00:00Z", "2026-10-31T23:59:59Z", "2026-12-01T00:00:00Z", "2026-11-30T23:59:59Z"),
}


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("jump", JUMPS)
async def test_hazard_40_a_clock_that_jumps_reopens_no_period(world: World, jump: str, restarts: bool) -> None:
    """What was spent stays spent in the latest period there was; no line, month or page goes back in time."""
    world.policies = {"it": policy(budget("hour", "10", "hour"), budget("month", "20", "month"))}
    await world.do_use("it")
    latest, taken = 0, 0
    for moment in JUMPS[jump]:
        world.at = ms(moment)
        if restarts:
            await world.restart()
        if world.at // HOUR_MS > latest // HOUR_MS:
            taken = 0
        latest = max(latest, world.at)
        for _ in range(2):
            fits = taken + 3 * NANO <= 10 * NANO
            assert isinstance(await world.ledger.authorize(call(estimate=3 * NANO)), Admission if fits else Denial)
            taken += 3 * NANO if fits else 0
        await world.ledger.record(call(estimate=1), "success")
        taken += 1
        (hour,) = [each for each in world.ledger.standings("a") if each.budget.name == "hour"]
        assert hour.spent + hour.reserved == taken
    rows = [row async for row in world.ledger.export(ActionFilter())]
    pages, cursor = [], None
    while True:
        page = await world.ledger.actions(ActionFilter(limit=2, cursor=cursor))
        pages += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [row.id for row in pages] == [row.id for row in rows][::-1]
    assert all(before.created_at <= after.created_at for before, after in pairwise(rows))
    await world.stop()
    months = sorted(world.data.rglob("2*.jsonl"))
    lines = [json.loads(line) for path in months for line in path.read_bytes().splitlines()]
    assert all((a["seq"] + 1, a["at"] <= b["at"]) == (b["seq"], True) for a, b in pairwise(lines))
    assert sum(line["type"] == "carry" for line in lines) == len(months)
    assert verify(world.data).problems == ()
