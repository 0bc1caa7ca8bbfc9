from __future__ import annotations

from decimal import Decimal

import pytest

from proxy.metering.quantities import QUANTITY_MAX, Unreadable, amount, count, document_of

OVER = QUANTITY_MAX + 1


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (b"0", 0),
        (b"12", 12),
        (b"12.0", 12),
        (b"1e3", 1000),
        (b"-0.0", 0),
        (b"null", None),
        (b"1000000000", QUANTITY_MAX),
        (b"1000000000000000", OVER),
        (b"1e400", OVER),
        (b"9" * 5000, OVER),
    ],
)
@pytest.mark.parametrize("exact", [False, True])
def test_hazard_41_tokens(text, tokens, exact):
    assert count(document_of(b'{"n": %s}' % text, exact=exact), "n") == tokens


@pytest.mark.parametrize(
    "text", [b"-1", b"true", b'"12"', b"1.5", b"NaN", b"-Infinity", b"[]", b"{}", b"-" + b"9" * 5000]
)
@pytest.mark.parametrize("exact", [False, True])
def test_what_is_no_count_of_tokens_is_unreadable(text, exact):
    with pytest.raises(Unreadable):
        count(document_of(b'{"n": %s}' % text, exact=exact), "n")


def test_a_path_that_ends_early_has_no_tokens_and_one_through_no_object_is_unreadable():
    assert count({"details": None}, "details", "cached") is None
    assert count({}, "details", "cached") is None
    with pytest.raises(Unreadable):
        count({"details": [1]}, "details", "cached")


@pytest.mark.parametrize(
    ("value", "quantity"),
    [
        ("12.50", Decimal("12.5")),
        ("3", 3),
        ("1e2", 100),
        (0.1, Decimal("0.1")),
        (Decimal("0.1234567890123456789012345678901234567890"), Decimal("0.1234567890123456789012345678901234567890")),
        (Decimal("5.000"), 5),
        (Decimal("1e999999"), OVER),
        ("9" * 40, OVER),
    ],
)
def test_amounts_are_exact(value, quantity):
    assert amount(value) == quantity
    assert isinstance(amount(value), int) == isinstance(quantity, int)


@pytest.mark.parametrize(
    "value",
    ["", " 1", "1s", "-1", "+1", "0x5", "1_0", "NaN", "٣", "9" * 41, True, None, [], Decimal("NaN"), Decimal("1e-41")],
)
def test_what_is_no_amount_is_unreadable(value):
    with pytest.raises(Unreadable):
        amount(value)


@pytest.mark.parametrize("text", [b"", b"{", b'{"a": }', b"[" * 100_000, b"\x00\xff", "{}".encode("utf-16")])
def test_hazard_29_what_is_no_document_is_none(text):
    assert document_of(text) is None


def test_bytes_that_are_not_utf8_do_not_hide_the_rest():
    assert document_of(b'\xef\xbb\xbf{"prose": "\xff\xfe", "n": 1}')["n"] == 1


def test_exact_documents_keep_the_digits():
    assert document_of(b'{"n": 0.10000000000000000001}', exact=True)["n"] == Decimal("0.10000000000000000001")
