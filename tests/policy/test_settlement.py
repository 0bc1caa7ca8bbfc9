"""The outcomes of hazards 41 and 42, and promise 7, as one table."""

from __future__ import annotations

from decimal import Decimal

import pytest

from policy.settlement import Conclusion, at_least, conclude
from policy.units import make_rate

TOKENS = (make_rate("input_mtok", Decimal("2.5")), make_rate("output_mtok", Decimal(10)))
FLAT = (make_rate("request", Decimal("0.01")),)
FREE = (make_rate("request", Decimal(0)),)
USED = {"input_tokens": 1000, "output_tokens": 100}  # 1000 × 2.5 + 100 × 10 = 3,500 USD per million = 3,500,000 nano
CENT = 10_000_000
RESERVED = 9_000_000

# name, rates, usage, status, complete, charge_errors, expected
TABLE = [
    ("metered answer", TOKENS, USED, 200, True, False, Conclusion(False, 3_500_000)),
    ("explicit zero is zero", TOKENS, {"input_tokens": 0, "output_tokens": 0}, 200, True, False, Conclusion(False, 0)),
    ("200 without usage", TOKENS, None, 200, True, False, Conclusion(False, RESERVED, True)),
    ("200 that nothing used", TOKENS, {}, 200, True, False, Conclusion(False, 0)),
    (
        "200 with usage of another kind",
        TOKENS,
        {"audio_seconds": 9},
        200,
        True,
        False,
        Conclusion(False, RESERVED, True),
    ),
    ("200 with cached tokens alone", TOKENS, {"cache_read_tokens": 4}, 200, True, False, Conclusion(False, 10_000)),
    ("302 without usage", TOKENS, None, 302, True, False, Conclusion(False, RESERVED, True)),
    ("400 without usage", TOKENS, None, 400, True, False, Conclusion(True, 0)),
    ("500 without usage", TOKENS, None, 500, True, False, Conclusion(True, 0)),
    ("500 with usage", TOKENS, USED, 500, True, False, Conclusion(False, 3_500_000)),
    ("500 of an upstream that bills errors", TOKENS, None, 500, True, True, Conclusion(False, RESERVED, True)),
    ("no answer after sending", TOKENS, None, None, False, False, Conclusion(False, RESERVED, True)),
    ("no answer, flat rate", FLAT, None, None, False, False, Conclusion(False, RESERVED, True)),
    ("broken off without usage", TOKENS, None, 200, False, False, Conclusion(False, RESERVED, True)),
    ("broken off with usage below", TOKENS, USED, 200, False, False, Conclusion(False, RESERVED, True)),
    ("flat rate", FLAT, None, 200, True, False, Conclusion(False, CENT)),
    ("flat rate, broken off", FLAT, None, 200, False, False, Conclusion(False, CENT)),
    ("flat rate, 404", FLAT, None, 404, True, False, Conclusion(True, 0)),
    ("flat rate, 404 billed", FLAT, None, 404, True, True, Conclusion(False, CENT)),
    ("free", FREE, None, 200, True, False, Conclusion(False, 0)),
    ("passed by unpriced: free", (), None, 200, True, False, Conclusion(False, 0)),
]


@pytest.mark.parametrize(
    ("rates", "usage", "status", "complete", "errors", "expected"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_promise_7_every_ending_has_a_stated_outcome(rates, usage, status, complete, errors, expected):
    found = conclude(
        rates=rates, usage=usage, status=status, complete=complete, charge_errors=errors, reserved=RESERVED
    )
    assert found == expected


def test_a_charge_above_the_reservation_is_not_cut_when_the_answer_broke_off():
    found = conclude(rates=TOKENS, usage=USED, status=200, complete=False, charge_errors=False, reserved=1)
    assert found == Conclusion(False, 3_500_000, True)


INPUT = {"request": 1, "input_tokens": 900, "cache_write_tokens": 900, "seconds": 60}
ESTIMATED = INPUT | {"output_tokens": 4096, "output_image_tokens": 4096}


@pytest.mark.parametrize(
    ("told", "seen", "expected"),
    [
        (None, 7, {"request": 1, "input_tokens": 900, "cache_write_tokens": 900, "seconds": 60, "output_tokens": 7}),
        (
            None,
            5000,
            {"request": 1, "input_tokens": 900, "cache_write_tokens": 900, "seconds": 60, "output_tokens": 5000},
        ),
        ({"input_tokens": 50, "output_tokens": 1}, 7, {"input_tokens": 50, "output_tokens": 7}),
        (
            {"input_tokens": 50, "output_tokens": 90, "output_reasoning_tokens": 80},
            7,
            {"input_tokens": 50, "output_tokens": 90, "output_reasoning_tokens": 80},
        ),
        ({"output_tokens": 9}, 7, INPUT | {"output_tokens": 9}),
    ],
)
def test_a_stream_that_broke_off_used_at_least_its_input_and_what_was_seen(told, seen, expected):
    assert at_least(ESTIMATED, told, seen) == expected
