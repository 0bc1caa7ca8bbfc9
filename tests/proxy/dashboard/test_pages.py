from __future__ import annotations

import pytest
from markupsafe import Markup

from proxy.dashboard.pages import _templates, render, shown


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
    page = render("problem.html", status=400, code=400, message="<script>\r\nalert(1)</script>")
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
