from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.metering import jsonarray, reader_for
from proxy.metering.base import Metered
from proxy.metering.jsonlines import LINES, LineSplitter

END = {"event_type": "stream-end", "response": {"meta": {"billed_units": {"input_tokens": 7, "output_tokens": 9}}}}
STREAM = [{"event_type": "text-generation", "text": "Ahoy\n"}, END]


def split(*chunks):
    splitter = LineSplitter()
    return [line for chunk in chunks for line in splitter.feed(chunk)], splitter


@settings(deadline=None)
@given(st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b"")), max_size=6), st.data())
def test_lines_split_anywhere(lines, data):
    text = b"\n".join(lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    found, splitter = split(*(text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)))
    assert [*found, splitter.rest()] == (lines or [b""])


def test_a_line_too_large_to_hold_is_told_once_and_the_next_is_whole(monkeypatch):
    monkeypatch.setattr(jsonarray, "ELEMENT_MAX", 8)
    found, splitter = split(b"1234567", b"89", b"0123456789", b"0\nabc\nd")
    assert (found, splitter.rest()) == ([None, b"abc"], b"d")


def metered(*lines, end=b"\n", step=3):
    body = b"".join(json.dumps(line).encode() + end for line in lines)
    reader = reader_for("cohere", "/v1/chat", 200, "application/stream+json", "")
    for at in range(0, len(body), step):
        reader.feed(body[at : at + step])
    return reader.finish()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n"])
def test_a_stream_of_coheres_first_version(end):
    assert metered(*STREAM, end=end) == Metered({"input_tokens": 7, "output_tokens": 9})


def test_a_last_line_without_its_end_counts():
    assert metered(END, end=b"").usage == {"input_tokens": 7, "output_tokens": 9}


def test_promise_7_a_stream_that_is_cut_has_what_was_seen():
    found = metered(STREAM[0])
    assert (found.usage, found.seen) == (None, 2)


@pytest.mark.parametrize(
    ("kind", "lines"),
    [
        ("application/stream+json", True),
        ("application/x-ndjson", True),
        ("application/jsonl", True),
        ("application/json", False),
    ],
)
def test_told_by_the_content_type(kind, lines):
    assert bool(LINES.search(kind)) is lines
