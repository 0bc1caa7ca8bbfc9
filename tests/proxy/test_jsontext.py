from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.money import MAX_USD, NANO, usd
from proxy.jsontext import JsonError, dumps, loads


@given(st.integers(0, MAX_USD * NANO))
def test_money_is_written_exactly_and_without_an_exponent(nano):
    text = dumps({"cost": usd(nano)})
    assert "e" not in text.removeprefix('{"cost":').lower()
    assert Decimal(json.loads(text, parse_float=str, parse_int=str)["cost"]) * NANO == nano


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("0.05"), "0.05"),
        (Decimal(100), "100"),
        (Decimal("1E+2"), "100"),
        (Decimal("1E-9"), "0.000000001"),
        (Decimal("1E+999999999"), "1E+999999999"),  # written out, it would fill the memory
        ({"a": [1, None, True, "é\ud800"], "b": ()}, '{"a":[1,null,true,"\\u00e9\\ud800"],"b":[]}'),
    ],
)
def test_dumps(value, text):
    assert dumps(value) == text


def test_fractions_are_read_as_written():
    assert loads(b'{"cost": 0.1, "n": 3}') == {"cost": Decimal("0.1"), "n": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": 1, "a": 2}', "a key stands twice"),
        (b'{"x": {"a": 1, "\\u0061": 2}}', "a key stands twice"),
        (b"NaN", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"9" * 5000, "a number is too long"),
        (b"1e9999999999999999999", "a number is too long"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "line 1, column 1"),
        (b'{"secret": alk_x}', "line 1, column 12"),
        (b"", "line 1, column 1"),
    ],
)
def test_what_is_refused_says_why_and_quotes_nothing(text, message):
    with pytest.raises(JsonError, match=message) as raised:
        loads(text)
    assert "alk_x" not in str(raised.value)
