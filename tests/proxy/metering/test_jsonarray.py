from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.metering import jsonarray
from proxy.metering.jsonarray import ArraySplitter

TRICKY = st.text(alphabet='ab"\\[]{},: \n\u00e9\u20ac', max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TRICKY,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TRICKY, inner, max_size=4),
    max_leaves=20,
)


def split(*chunks):
    splitter = ArraySplitter()
    found = [element for chunk in chunks for element in splitter.feed(chunk)]
    return found, splitter


def pieces(text, cuts):
    cuts = sorted(cuts)
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@settings(deadline=None)
@given(st.lists(VALUES, max_size=6), st.booleans(), st.booleans(), st.data())
def test_any_array_split_anywhere_gives_what_json_says(values, pretty, ascii_only, data):
    text = json.dumps(values, indent=2 if pretty else None, ensure_ascii=ascii_only).encode()
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8))
    found, splitter = split(*pieces(text, cuts))
    assert [json.loads(element) for element in found] == [each for each in values if isinstance(each, (dict, list))]
    assert (splitter.closed, splitter.rest()) == (True, b"")


STREAM = b' [{"a": "}]\\\\\\"{", "b": [1, {"c": "\\\\"}]}\r\n,\r\n{"d": []}, 7, "x,]", null,\n[{}, [2]]\n] after ["x"]'
ELEMENTS = [{"a": '}]\\"{', "b": [1, {"c": "\\"}]}, {"d": []}, [{}, [2]]]


@pytest.mark.parametrize("at", range(len(STREAM) + 1))
def test_the_state_survives_every_split_point(at):
    found, splitter = split(STREAM[:at], STREAM[at:])
    assert [json.loads(element) for element in found] == ELEMENTS
    assert splitter.closed


def test_one_byte_at_a_time():
    found, _ = split(*pieces(STREAM, range(len(STREAM))))
    assert [json.loads(element) for element in found] == ELEMENTS


def test_an_element_comes_out_with_its_last_byte():
    splitter = ArraySplitter()
    assert splitter.feed(b'[{"a": 1') == []
    assert splitter.feed(b"}") == [b'{"a": 1}']
    assert (splitter.closed, splitter.rest()) == (False, b"")


def test_what_came_of_an_element_that_is_cut():
    found, splitter = split(b'[{"a": 1}, {"b"', b': "x\\')
    assert found == [b'{"a": 1}']
    assert (splitter.closed, splitter.rest()) == (False, b'{"b": "x')


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_hazard_26_an_element_above_the_bound_is_skipped_and_never_held(monkeypatch, size):
    monkeypatch.setattr(jsonarray, "ELEMENT_MAX", 50)
    stream = b'[{"a": 1}, {"b": "' + b"x]" * 300 + b'"}, {"c": 2}, {"d": "' + b"y" * 41 + b'"}]'
    splitter = ArraySplitter()
    found = []
    for at in range(0, len(stream), size):
        found += splitter.feed(stream[at : at + size])
        assert len(splitter.rest()) <= 50
    assert found == [b'{"a": 1}', None, b'{"c": 2}', b'{"d": "' + b"y" * 41 + b'"}']


def test_hazard_26_a_string_that_never_ends_costs_no_memory():
    splitter = ArraySplitter()
    tracemalloc.start()
    try:
        splitter.feed(b'["')
        for _ in range(300):
            splitter.feed(b"x" * 100_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20) | st.sampled_from([b"[", b"{", b"]", b"}", b'"', b"\\"]), max_size=20))
def test_hazard_29_hostile_bytes_never_raise(chunks):
    found, splitter = split(*chunks)
    assert all(isinstance(element, bytes) for element in found)
    assert len(splitter.rest()) <= sum(map(len, chunks))
