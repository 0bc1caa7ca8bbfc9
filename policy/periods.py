"""When a budget's period begins and ends, worked out from a timestamp and an IANA zone. There is no reset job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo

PeriodName = Literal["minute", "hour", "day", "week", "month", "year", "total"]
PERIODS: tuple[str, ...] = get_args(PeriodName)

_ENDLESS_MS = 253_402_300_800_000  # the year 10000: a `total` period never ends


@dataclass(frozen=True, slots=True)
class Span:
    """A period's bounds in unix milliseconds: start ≤ t < end."""

    start_ms: int
    end_ms: int


def span(period: PeriodName, at_ms: int, zone: ZoneInfo) -> Span:
    """The period of that name which holds ``at_ms``, in that zone.

    Minutes and hours are cut in UTC, so that no clock change can repeat or skip one; days and longer begin at local
    midnight, whatever the day's length.
    """
    if period == "total":
        return Span(0, _ENDLESS_MS)
    if period == "minute" or period == "hour":
        length = 60_000 if period == "minute" else 3_600_000
        start = at_ms // length * length
        return Span(start, start + length)
    local = datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(zone)
    today = datetime(local.year, local.month, local.day)  # noqa: DTZ001 (a local calendar day, placed by _ms)
    found = _calendar(period, today, zone)
    # Clocks put back over midnight show yesterday's date again; the periods still adjoin, so it is the one beside.
    if at_ms < found.start_ms:
        return _calendar(period, today - timedelta(days=1), zone)
    if at_ms >= found.end_ms:
        return _calendar(period, today + timedelta(days=1), zone)
    return found


def _calendar(period: PeriodName, day: datetime, zone: ZoneInfo) -> Span:
    if period == "day":
        first, then = day, day + timedelta(days=1)
    elif period == "week":
        first = day - timedelta(days=day.weekday())
        then = first + timedelta(days=7)
    elif period == "month":
        first = day.replace(day=1)
        then = (first + timedelta(days=32)).replace(day=1)
    else:
        first = day.replace(month=1, day=1)
        then = first.replace(year=first.year + 1)
    return Span(_ms(first, zone), _ms(then, zone))


def _ms(local: datetime, zone: ZoneInfo) -> int:
    return int(local.replace(tzinfo=zone, fold=0).timestamp()) * 1000
