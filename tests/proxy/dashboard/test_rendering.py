from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from markupsafe import Markup

from proxy.dashboard.rendering import _templates, day, days_back, lasted, render, shown, when

NOW = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()) * 1000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, Grüße, שלום, 日本, $1.00", "plain, Grüße, שלום, 日本, $1.00"),
        ("a\r\nb\tc\0", "a\\x0d\\x0ab\\x09c\\x00"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u200f\u2066\ufeff\u200b\u2028", "\\u200f\\u2066\\ufeff\\u200b\\u2028"),
        ("\x7f\x85", "\\x7f\\x85"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("👩\u200d🔬 می\u200cخواهم", "👩\u200d🔬 می\u200cخواهم"),
    ],
)
def test_hazard_32_what_can_not_be_seen_is_shown_as_its_code(text, expected):
    assert shown(text) == expected


def test_only_text_is_touched():
    assert shown(3) == 3
    assert shown(Markup("<b>\n</b>")) == "<b>\n</b>"


def test_hazard_32_markup_in_a_value_is_text_on_the_page():
    page = render("problem.html", status=400, code=400, message="<script>\r\nalert(1)</script>", posted=True)
    assert b"<h1>&lt;script&gt;\\x0d\\x0aalert(1)&lt;/script&gt;</h1>" in page.body


@pytest.mark.parametrize(
    ("nano", "expected"),
    [
        (0, "$0.00"),
        (12_345_600, '$0.01<span class="fine">23456</span>'),
        (-12_345_600, '-$0.01<span class="fine">23456</span>'),
        (345_000, "$0.000345"),
        (1, "$0.000000001"),
    ],
)
def test_money_is_whole_and_what_lies_beyond_the_cents_steps_back(nano, expected):
    assert str(_templates.get_template("parts.html").module.usd(nano)).strip() == f'<span class="usd">{expected}</span>'


@pytest.mark.parametrize(
    ("nano", "expected"),
    [
        (42_123_456_789, "$42.12"),
        (42_125_000_000, "$42.13"),
        (-42_126_000_000, "-$42.13"),
        (9_999_999, "$0.009999999"),
        (0, "$0.00"),
        (999_999_999_999, "$1000.00"),
    ],
)
def test_at_a_glance_money_is_to_the_cent_and_less_than_one_as_it_is(nano, expected):
    assert _templates.filters["cents"](nano) == expected


def test_moments_are_told_in_the_policys_zone():
    zone = ZoneInfo("Asia/Tokyo")
    assert when(NOW, zone, NOW) == "21:00:00"
    assert when(NOW + 4 * 3_600_000, zone, NOW) == "Nov 23 01:00"
    assert day(NOW + 4 * 3_600_000, zone) == "Nov 23"


def test_days_back_begin_at_local_midnight_whatever_their_length():
    days = days_back(NOW, ZoneInfo("America/New_York"), 30)
    assert (days[0][0], days[-1][0]) == ("2026-10-24", "2026-11-22")
    starts = dict(days)
    assert starts["2026-11-02"] - starts["2026-11-01"] == 25 * 3_600_000  # clocks go back
    assert {after - before for (_, before), (_, after) in pairwise(days[10:])} == {24 * 3_600_000}


def test_an_id_is_one_segment_of_a_path():
    assert _templates.filters["segment"]("a/../b?c#d é") == "a%2F..%2Fb%3Fc%23d%20%C3%A9"


@pytest.mark.parametrize(
    ("ms", "expected"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1000, "1 s"),
        (12_499, "12.4 s"),
        (59_999, "59.9 s"),
        (60_000, "1 min"),
        (3_599_999, "59 min"),
        (3_600_000, "1 h"),
        (48 * 3_600_000 - 1, "47 h"),
        (48 * 3_600_000, "2 days"),
    ],
)
def test_a_stretch_of_time_is_told_in_its_largest_unit(ms, expected):
    assert lasted(ms) == expected
