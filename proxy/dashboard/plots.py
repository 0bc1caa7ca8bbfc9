"""The geometry of an agent's charts, in percent of their plots from the top left: templates only draw what is here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from policy.forecast import DAY_MS, Forecast
from policy.periods import span
from proxy.dashboard.charts import Column, columns
from proxy.dashboard.money import Bar

_HEADROOM_PERCENT = 108  # of the highest, for its label
_BEYOND = 2  # a forecast is drawn to so many times the amount: one of a hundred times would flatten all else
_TICKS = 4
_WEEKLY = (0, 7, 14, 21, 28)  # days of a month that are named


@dataclass(frozen=True, slots=True)
class Mark:
    """``value`` (nano-dollars, or unix ms) and where it stands on its axis."""

    value: int
    at: float


@dataclass(frozen=True, slots=True)
class Burn:
    """A month so far against its budget. ``spent`` are the points of a line that ends ``today``, ``forecast`` the point
    it would lead to, and ``exhausted`` where that crosses the ``amount``.
    """

    spent: str
    today: Mark
    spent_at: float
    amount: float
    forecast: tuple[float, float] | None
    exhausted: Mark | None
    money: Sequence[Mark]
    dates: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class Days:
    """A column a day."""

    columns: Sequence[Column]
    money: Sequence[Mark]
    dates: Sequence[Mark]


def burn(
    month: Bar, start_ms: int, at_ms: int, days: Sequence[tuple[int, int]], expected: Forecast | None
) -> Burn | None:
    """``days`` are the month's until now: each one's start and what it cost. None for a budget that never resets."""
    if month.resets_at is None:
        return None
    end_ms = month.resets_at
    highest = max(month.amount, month.spent, 1)
    if expected is not None:
        highest = max(highest, min(expected.at_end, highest * _BEYOND))
    top = highest * _HEADROOM_PERCENT // 100 + 1

    def across(moment_ms: int) -> float:
        return _percent(moment_ms - start_ms, end_ms - start_ms)

    def down(nano: int) -> float:
        return round(100 - _percent(max(nano, 0), top), 2)

    total, points = 0, ["0,100"]
    for (_, cost), (next_ms, _) in pairwise(days):
        total += cost
        points.append(f"{across(next_ms):g},{down(total):g}")
    # What counts, whatever became of the history.
    points.append(f"{across(at_ms):g},{down(month.spent):g}")
    exhausted_at = expected.exhausted_at if expected else None
    return Burn(
        spent=" ".join(points),
        today=Mark(at_ms, across(at_ms)),
        spent_at=down(month.spent),
        amount=down(month.amount),
        forecast=_led_to(across(at_ms), month.spent, expected.at_end, top) if expected else None,
        exhausted=Mark(exhausted_at, across(exhausted_at)) if exhausted_at and exhausted_at > at_ms else None,
        money=[Mark(nano, down(nano)) for nano in ticks(top)],
        dates=[Mark(noon, across(noon)) for noon in _named(start_ms, end_ms, month)],
    )


def daily(days: Sequence[tuple[int, int]]) -> Days:
    """Each day's start and what it cost; every seventh is named, today's is not the last of them."""
    top = max([cost for _, cost in days] + [1]) * _HEADROOM_PERCENT // 100 + 1
    step = 100 / max(1, len(days))
    return Days(
        columns=columns([cost for _, cost in days], 100, 100, top=top),
        money=[Mark(nano, round(100 - _percent(nano, top), 2)) for nano in ticks(top)],
        dates=[
            Mark(start_ms, round((place + 0.5) * step, 2))
            for place, (start_ms, _) in enumerate(days)
            if (len(days) - 1 - place) % 7 == 0
        ],
    )


def ticks(top: int) -> list[int]:
    """Round amounts above 0 up to ``top`` nano-dollars: at most five, each 1, 2 or 5 times a power of ten apart."""
    apart = max(1, top // _TICKS)
    power = 10 ** (len(str(apart)) - 1)
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= apart)
    return list(range(step, top + 1, step))


def _led_to(today: float, spent: int, at_end: int, top: int) -> tuple[float, float]:
    """Where the line leaves the plot: at the month's end, or through its top before that."""
    if at_end <= top:
        return 100.0, round(100 - _percent(max(at_end, 0), top), 2)
    return round(today + (100 - today) * (top - spent) / (at_end - spent), 2), 0.0


def _named(start_ms: int, end_ms: int, month: Bar) -> list[int]:
    days = (span("day", start_ms + days * DAY_MS + DAY_MS // 2, month.zone).start_ms for days in _WEEKLY)
    return [day_ms for day_ms in days if day_ms < end_ms]


def _percent(part: int, whole: int) -> float:
    return round(max(0, min(part, whole)) * 100 / whole, 2)
