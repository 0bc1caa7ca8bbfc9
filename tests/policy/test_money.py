from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.money import MAX_USD, NANO, MoneyError, format_usd, parse_usd, usd

NANOS = st.integers(0, MAX_USD * NANO)


@pytest.mark.parametrize(
    ("written", "nano"),
    [
        ("0", 0),
        ("25.00", 25_000_000_000),
        ("00012.50", 12_500_000_000),
        ("0.000000001", 1),
        ("1e-9", 1),
        ("2.5E+1", 25_000_000_000),
        ("1000000000", 10**18),
        (0, 0),
        (5, 5_000_000_000),
        (10**9, 10**18),
        (Decimal("0.05"), 50_000_000),
        (Decimal("999999999.999999999"), 10**18 - 1),
        (Decimal("0e999999"), 0),
        (Decimal("-0.0"), 0),
        (Decimal("1.0000000000000000000000000000000000000000"), NANO),
    ],
)
def test_an_amount_is_taken_exactly_as_written(written, nano):
    assert parse_usd(written) == nano


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (True, "a number"),
        (0.05, "a number"),
        (None, "a number"),
        ([], "a number"),
        ("", "plain"),
        ("-1", "plain"),
        ("+1", "plain"),
        (" 1", "plain"),
        ("1\n", "plain"),
        ("1_000", "plain"),
        ("0x10", "plain"),
        (".5", "plain"),
        ("5.", "plain"),
        ("NaN", "plain"),
        ("Infinity", "plain"),
        ("١", "plain"),
        ("1" * 41, "plain"),
        ("5 USD", "plain"),
        (-1, "negative"),
        (Decimal(-1), "negative"),
        (Decimal("-1e-9"), "negative"),
        (Decimal("NaN"), "finite"),
        (Decimal("sNaN"), "finite"),
        (Decimal("Infinity"), "finite"),
        ("1e400", "exceed"),
        ("1000000000.000000001", "exceed"),
        (10**12, "exceed"),
        (10**4000, "exceed"),
        (Decimal("1e999999"), "exceed"),
        ("0.0000000001", "finer"),
        ("1e-400", "finer"),
        (Decimal("1e-999999"), "finer"),
        ("0.0000000010000000000000000000000000000001", "finer"),
        ("100000000.00000000000000000000000000000001", "finer"),
    ],
)
def test_hazard_28_what_is_no_amount_is_refused(written, why):
    with pytest.raises(MoneyError, match=why):
        parse_usd(written)


@pytest.mark.parametrize(
    ("nano", "shown"),
    [
        (0, "$0.00"),
        (1, "$0.000000001"),
        (50_000_000, "$0.05"),
        (12_500_000_000, "$12.50"),
        (10**18, "$1000000000.00"),
        (-1, "-$0.000000001"),
        (-1_500_000_000, "-$1.50"),
    ],
)
def test_shown_to_people_in_at_least_cents_and_never_rounded(nano, shown):
    assert format_usd(nano) == shown


@pytest.mark.parametrize(
    ("nano", "text"), [(0, "0"), (100 * NANO, "100"), (1, "1E-9"), (50_000_000, "0.05"), (-NANO, "-1")]
)
def test_usd_is_the_shortest_decimal(nano, text):
    assert str(usd(nano)) == text


@given(NANOS)
def test_an_amount_comes_back_from_usd_and_from_text(nano):
    assert parse_usd(usd(nano)) == nano
    assert parse_usd(f"{usd(nano):f}") == nano
    assert parse_usd(format_usd(nano).removeprefix("$")) == nano


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_any_decimal_is_stored_as_written_or_not_at_all(value):
    try:
        nano = parse_usd(value)
    except MoneyError:
        return
    assert usd(nano) == value


@given(st.text("0123456789.eE+-_ ", max_size=30))
def test_any_text_is_stored_as_written_or_not_at_all(text):
    try:
        nano = parse_usd(text)
    except MoneyError:
        return
    assert usd(nano) == Decimal(text)
