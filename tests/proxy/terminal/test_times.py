from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime, timedelta

import pytest

from proxy.terminal.times import moment, shown


@pytest.fixture
def zone(monkeypatch):
    def be_in(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield be_in
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11", "2026-10-31T23:00:00.000Z"),
        ("2026-07", "2026-06-30T22:00:00.000Z"),  # in summer time
        ("2026-11-22", "2026-11-21T23:00:00.000Z"),
        ("2026-11-22T10:30", "2026-11-22T09:30:00.000Z"),
        ("2026-11-22T10:30:00Z", "2026-11-22T10:30:00.000Z"),
        ("2026-11-22T10:30:00.123456-05:00", "2026-11-22T15:30:00.123Z"),
    ],
)
def test_a_moment_is_of_the_terminals_zone_unless_it_says_its_own(zone, text, at):
    zone("Europe/Berlin")
    assert moment(text) == at


def test_ago(zone):
    zone("UTC")
    for text, ago in {"90s": 90, "30m": 1800, "2h": 7200, "3d": 259_200, "1w": 604_800}.items():
        off = datetime.now(UTC) - timedelta(seconds=ago) - datetime.fromisoformat(moment(text))
        assert abs(off) < timedelta(minutes=5)


def test_today_and_yesterday_begin_at_midnight(zone):
    zone("America/New_York")
    today, yesterday = (datetime.fromisoformat(moment(day)).astimezone() for day in ("today", "yesterday"))
    assert (today.hour, today.minute, yesterday.hour) == (0, 0, 0)
    assert (today.date() - yesterday.date()).days == 1


@pytest.mark.parametrize(
    "text", ["", "x", "2026-13", "2026-11-31", "3", "h", "-2h", "9999999d", "2h ago", "٣d", "0000-01"]
)
def test_what_is_no_moment(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is no moment"):
        moment(text)


def test_moments_are_shown_in_the_terminals_zone(zone):
    zone("Asia/Tokyo")
    now = datetime.fromisoformat("2026-11-22T20:00:00Z").astimezone()
    assert shown("2026-11-22T19:18:54.000Z", now) == "Nov 23 04:18:54"
    assert shown("2025-12-31T14:59:59.000Z", now) == "2025-12-31 23:59"
