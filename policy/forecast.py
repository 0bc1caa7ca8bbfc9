"""Where spending leads at its pace: for people to read, never to decide by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DAY_MS = 24 * 3_600_000
PACE_DAYS = 7  # long enough to hold a weekend, short enough to follow a change


@dataclass(frozen=True, slots=True)
class Forecast:
    """``at_end``: what will be spent by the period's end, nano-dollars. ``exhausted_at``: when the amount will be (unix
    ms), None where it lasts that long; it is ``now`` where nothing is left.
    """

    at_end: int
    exhausted_at: int | None


def pace(days: Sequence[int], now_ms: int, today_ms: int, since_ms: int) -> int:
    """Nano-dollars a day, over the last week.

    ``days`` is what each day cost, oldest first, the last being today so far, which began at ``today_ms``. What began
    to spend at ``since_ms``, within that week, is judged by the time since then, and by no less than an hour of it.
    """
    week = days[-PACE_DAYS:]
    began_ms = max(since_ms, today_ms - (len(week) - 1) * DAY_MS)
    return max(0, sum(week)) * DAY_MS // max(now_ms - began_ms, DAY_MS // 24)


def forecast(spent: int, amount: int, pace_per_day: int, now_ms: int, end_ms: int) -> Forecast:
    """Of a budget whose running period ends at ``end_ms``, at that pace from now on."""
    at_end = spent + pace_per_day * max(0, end_ms - now_ms) // DAY_MS
    if spent >= amount:
        return Forecast(at_end, now_ms)
    if pace_per_day <= 0:
        return Forecast(at_end, None)
    exhausted_at = now_ms + -(-(amount - spent) * DAY_MS // pace_per_day)
    return Forecast(at_end, exhausted_at if exhausted_at < end_ms else None)
