from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.rewriting import written


@pytest.mark.parametrize(
    ("raw", "path", "expected"),
    [
        (b"{}", ("n",), b'{"n":7}'),
        (b" {\n} ", ("n",), b' {"n":7\n} '),
        (b'{"a": 1.50, "n" : 12 , "b": [ ]}', ("n",), b'{"a": 1.50, "n" : 7 , "b": [ ]}'),
        (b'{"a":{"n":1},"b":2}', ("n",), b'{"n":7,"a":{"n":1},"b":2}'),
        (b'{"a":{"n":1},"b":2}', ("a", "n"), b'{"a":{"n":7},"b":2}'),
        (b'{"b":2,"a":{ "m":1}}', ("a", "n"), b'{"b":2,"a":{"n":7, "m":1}}'),
        (b'{"b":2}', ("a", "n"), b'{"a":{"n":7},"b":2}'),
        (b'{"a":null}', ("a", "n"), b'{"a":{"n":7}}'),
        (b'{"a":[1]}', ("a", "n"), b'{"a":{"n":7}}'),
        (b'{"\\u006e":"x"}', ("n",), b'{"\\u006e":7}'),
        ('{"é":"n\\"}","n":-1e5}'.encode(), ("n",), '{"é":"n\\"}","n":7}'.encode()),
    ],
)
def test_a_value_is_set_and_all_else_stays_as_written(raw, path, expected):
    assert written(raw, [(path, 7)]) == expected
    assert json.loads(expected)


NAMES = st.sampled_from(["n", "a", "b\n", "é", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def put(body, path, value):
    *outer, last = path
    for key in outer:
        inner = body.get(key)
        body[key] = body = inner if isinstance(inner, dict) else {}
    body[last] = value


@settings(deadline=None)
@given(
    st.dictionaries(NAMES, VALUES, max_size=4),
    st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=3).map(tuple), st.integers()), max_size=3),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
)
def test_any_writes_into_any_object_change_that_and_nothing_else(body, writes, indent, escaped):
    raw = json.dumps(body, indent=indent, ensure_ascii=escaped).encode()
    expected = json.loads(raw)
    for path, value in writes:
        put(expected, path, value)
    assert json.loads(written(raw, writes)) == expected
