from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.periods import PERIODS, span

# Those that change at midnight, by half an hour, over the date line, near the year's end, or not at all.
ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "America/Havana", "America/Santiago",
    "America/St_Johns", "America/Moncton", "America/Nuuk", "Africa/Cairo", "Africa/Casablanca", "Asia/Beirut",
    "Asia/Tehran", "Asia/Kathmandu", "Asia/Pyongyang", "Atlantic/Azores", "Australia/Lord_Howe", "Antarctica/Casey",
    "Antarctica/Troll", "Pacific/Apia", "Pacific/Kiritimati", "Pacific/Chatham",
]  # fmt: skip
MOMENTS = st.integers(0, int(datetime(2099, 12, 31, tzinfo=UTC).timestamp()) * 1000)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


# period, zone, a moment in it, its start and its end
TABLE = [
    ("minute", "UTC", "2026-11-22T10:30:59.999Z", "2026-11-22T10:30:00Z", "2026-11-22T10:31:00Z"),
    ("hour", "Asia/Kathmandu", "2026-11-22T10:30:00Z", "2026-11-22T10:00:00Z", "2026-11-22T11:00:00Z"),
    ("day", "UTC", "2026-11-22T00:00:00Z", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"),
    ("day", "UTC", "2026-11-22T23:59:59.999Z", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z"),
    ("week", "UTC", "2026-11-22T12:00:00Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),  # a Sunday
    ("week", "UTC", "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),  # a Monday
    ("week", "UTC", "2027-01-01T00:00:00Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"),
    ("month", "UTC", "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
    ("month", "UTC", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
    ("month", "Europe/Berlin", "2026-10-31T22:59:59Z", "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z"),
    ("month", "Europe/Berlin", "2026-10-31T23:00:00Z", "2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z"),
    ("year", "UTC", "2026-06-01T00:00:00Z", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
    ("year", "Pacific/Kiritimati", "2026-12-31T10:00:00Z", "2026-12-31T10:00:00Z", "2027-12-31T10:00:00Z"),
    # 23 hours: clocks go forward
    ("day", "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
    # 25 hours: clocks go back, and 2:30 comes twice
    ("day", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
    ("day", "Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
    # clocks go forward at midnight: the day begins at 1:00
    ("day", "America/Havana", "2026-03-08T05:00:00Z", "2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"),
    # clocks went back at 0:01 to 23:01: yesterday's last hour, seen again, is today's
    ("day", "America/St_Johns", "2010-11-07T02:31:00Z", "2010-11-07T02:30:00Z", "2010-11-08T03:30:00Z"),
    # clocks went forward from 23:30 to 0:30: the half hour before the missed midnight's moment is yesterday's
    ("day", "America/Toronto", "1919-03-31T04:30:00Z", "1919-03-30T05:00:00Z", "1919-03-31T05:00:00Z"),
    # Friday the 30th did not happen
    ("day", "Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"),
    ("day", "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"),
]  # fmt: skip


@pytest.mark.parametrize(("period", "zone", "at", "start", "end"), TABLE)
def test_hazard_40_a_period_begins_and_ends_by_the_calendar_of_its_zone(period, zone, at, start, end):
    found = span(period, ms(at), ZoneInfo(zone))
    assert (found.start_ms, found.end_ms) == (ms(start), ms(end))


def test_a_total_never_ends():
    found = span("total", ms("2026-11-22T00:00:00Z"), ZoneInfo("UTC"))
    assert found.start_ms == 0
    assert found.end_ms > ms("9999-12-31T23:59:59Z")


def holds_its_moment_and_adjoins(period, at_ms, zone):
    found = span(period, at_ms, zone)
    assert found.start_ms <= at_ms < found.end_ms
    assert span(period, found.start_ms, zone) == found
    assert span(period, found.end_ms - 1, zone) == found
    assert span(period, found.end_ms, zone).start_ms == found.end_ms
    assert span(period, found.start_ms - 1, zone).end_ms == found.start_ms


@given(st.sampled_from([name for name in PERIODS if name != "total"]), st.sampled_from(ZONES), MOMENTS)
def test_hazard_40_periods_hold_their_moment_and_adjoin_without_gap_or_overlap(period, zone, at_ms):
    holds_its_moment_and_adjoins(period, at_ms, ZoneInfo(zone))


def clock_changes(zone: ZoneInfo, year: int) -> list[int]:
    """The moments (unix ms, to the second) at which that year changes the zone's offset."""

    def offset(at_s: int) -> object:
        return datetime.fromtimestamp(at_s, UTC).astimezone(zone).utcoffset()

    first = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
    found = []
    for day_s in range(first, first + 366 * 86_400, 86_400):
        before, after = day_s, day_s + 86_400
        if offset(before) != offset(after):
            while after - before > 1:
                middle = (before + after) // 2
                before, after = (middle, after) if offset(middle) == offset(day_s) else (before, middle)
            found.append(after * 1000)
    return found


@pytest.mark.parametrize("year", [1993, 2010, 2011, 2026])
@pytest.mark.parametrize("name", ZONES)
def test_hazard_40_dst_never_repeats_or_skips_a_period(name, year):
    zone = ZoneInfo(name)
    for change_ms in clock_changes(zone, year):
        for offset_ms in (-7_200_000, -3_600_000, -60_000, -1, 0, 1, 59_999, 60_000, 1_800_000, 3_600_000, 7_200_000):
            for period in ("day", "week", "month", "year"):
                holds_its_moment_and_adjoins(period, change_ms + offset_ms, zone)
