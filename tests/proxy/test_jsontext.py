from __future__ import annotations

import json
from decimal import Decimal
from types import MappingProxyType

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from policy.money import MAX_USD, NANO, usd
from proxy import jsontext
from proxy.jsontext import DEPTH_MAX, DIGITS_MAX, VALUES_MAX, JsonError, dumps, encode, loads, values_most


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
        (b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1), "nested too deep"),
        (b'{"a":' * (DEPTH_MAX + 1) + b"1" + b"}" * (DEPTH_MAX + 1), "nested too deep"),
        (b"0." + b"9" * DIGITS_MAX, "a number is too long"),
        (b"[" + b"[]," * VALUES_MAX + b"1]", "more than 500000 values"),
        (b"{" + b'"":1,' * VALUES_MAX + b"}", "more than 500000 values"),
        (b"[" + b'"",' * 2 * VALUES_MAX + b"1]", "more than 500000 values"),
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


def test_hazard_29_nesting_is_bounded_the_same_however_deep_the_stack_is():
    def deep(frames):
        return deep(frames - 1) if frames else loads(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX)

    assert deep(500) is not None


def test_hazard_29_what_stands_in_strings_is_no_value():
    prose = b'{"a": "' + rb"[{,\\\"," * 200_000 + b'"}'
    assert values_most(prose) > VALUES_MAX
    assert len(loads(prose)["a"]) == 200_000 * 6


@settings(max_examples=50)
@given(st.recursive(st.none() | st.text(max_size=3), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_values_are_never_more_than_counted(value):
    def values(value):
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return 1 + sum(map(values, inner))

    assert values(value) <= values_most(json.dumps(value).encode())


# -- the quick way is the careful one ----------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
PIECES = (
    b'{"a":', b'{"', b"}", b"[", b"]", b",", b":", b'"', b'"a"', rb'"\u0061"', rb'"\ud800"', rb'"\""', rb'"\/"', b"\\",
    b"0", b"-0", b"1", b"1.0", b"1.50", b"1E5", b"1e5", b"1e400", b"1e9999999999999999999", b"-", b".", b"e", b"9" * 19,
    b"9" * 40, b"true", b"null", b"NaN", b"-Infinity", b" ", b"\n", b"\t", b"\x0c", b"\0", b"\x7f", b"\xef\xbb\xbf",
    "é\u2028😀".encode(), b"\xff", b"\xed\xa0\x80", b"\xc0\x80",
)  # fmt: skip


def carefully(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsontext, "_canonical", jsontext._checked)
        return outcome(text)


def outcome(text):
    """The value with the types of all that is in it, or why there is none."""
    try:
        return typed(loads(text))
    except JsonError as error:
        return str(error)


def typed(value):
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}, list(value)
    return list(map(typed, value)) if isinstance(value, list) else (type(value), str(value))


@settings(max_examples=300)
@given(
    VALUES, st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", "\r: ")]), st.booleans(), st.sampled_from([None, 0, 3])
)
def test_json_is_read_the_same_however_it_is_written(value, separators, escaped, indent):
    text = json.dumps(value, separators=separators, ensure_ascii=escaped, indent=indent).encode("utf-8", "replace")
    assert outcome(text) == carefully(text)
    assert not isinstance(outcome(text), str)


@settings(max_examples=1000)
@given(
    st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join),
    st.sampled_from([b"%s", b"[%s]", b'{"a":%s}', b'["%s"]']),
)
def test_what_is_nearly_json_is_read_or_refused_the_same(text, around):
    assert outcome(around % text) == carefully(around % text)


@pytest.mark.parametrize("text", [b'{"a": [1, {"b": "c"}], "d": 0.50}', b'{"a":[1,{"b":"c"}],"d":0.50}'])
def test_what_most_clients_write_is_read_the_quick_way(text, monkeypatch):
    monkeypatch.delattr(jsontext, "_checked")
    assert loads(text) == {"a": [1, {"b": "c"}], "d": Decimal("0.50")}


@pytest.mark.parametrize(
    "text", [b'{"a":1,"a":1}', b'{"a":1,"\\u0061":2}', b'[{"a":{"b":1,"b":1}}]', b'{"a":1, "a" :2}']
)
def test_no_key_stands_twice_by_the_quick_way_either(text):
    with pytest.raises(JsonError, match="a key stands twice"):
        loads(text)


AMOUNTS = st.integers(-(10**18), 10**18).map(usd)
ANSWERS = st.recursive(
    st.sampled_from([None, True, False]) | st.integers() | st.text(max_size=8) | st.decimals(allow_nan=False) | AMOUNTS,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3).map(MappingProxyType)
    ),
    max_leaves=6,
)


@settings(max_examples=500)
@given(ANSWERS)
@example("\x7f")
@example(Decimal("2E-8"))
@example("\ud800")
@example(10**40)
@example({"1e5": Decimal("0.05")})
def test_what_is_encoded_the_quick_way_is_what_dumps_writes(value):
    assert encode(value) == dumps(value).encode()


def test_what_the_api_answers_is_encoded_the_quick_way(monkeypatch):
    monkeypatch.delattr(jsontext, "dumps")
    assert encode({"cost": Decimal("0.05"), "id": "act_01e5", "E": None}) == b'{"cost":0.05,"id":"act_01e5","E":null}'
