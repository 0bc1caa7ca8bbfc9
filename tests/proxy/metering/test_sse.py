from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.metering import sse
from proxy.metering.sse import Event, EventSplitter


def split(*chunks):
    splitter = EventSplitter()
    return [event for chunk in chunks for event in splitter.feed(chunk)], splitter.rest()


def fields(events):
    """What a client sees: the fields of the events that have data."""
    return [found for event in events if (found := event.fields())[1]]


STREAM = (
    b"\xef\xbb\xbf: hello, a comment\n\n"
    b"event: start\ndata: {\ndata:  1}\nid: 7\n\n"
    b"data: two\r\n\r\n"
    b"event:three\rdata:3\r\r"
    b"data: four\n\n\n"
    b"data: five\n\r\n"
    b"data\n\n"
    b"data: unfinished"
)
SEEN = [(b"start", b"{\n 1}"), (b"", b"two"), (b"three", b"3"), (b"", b"four"), (b"", b"five")]


def test_line_ends_comments_bom_and_data_of_many_lines():
    events, rest = split(STREAM)
    assert fields(events) == SEEN
    assert rest == b"data: unfinished"


@pytest.mark.parametrize("at", range(len(STREAM)))
def test_split_at_any_byte(at):
    events, rest = split(STREAM[:at], STREAM[at:])
    assert fields(events) == SEEN
    assert b"".join(event.raw for event in events) + rest == STREAM


def test_one_byte_at_a_time():
    events, rest = split(*(STREAM[at : at + 1] for at in range(len(STREAM))))
    assert fields(events) == SEEN
    assert b"".join(event.raw for event in events) + rest == STREAM


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_an_event_comes_out_with_the_last_byte_that_it_needs(end):
    splitter = EventSplitter()
    assert splitter.feed(b"data: x" + end) == []
    (event,) = splitter.feed(end[:1])
    assert event.fields() == (b"", b"x")


def test_crlf_alone_ends_no_event():
    assert split(b"data: a\r", b"\ndata: b\r", b"\n") == ([], b"data: a\r\ndata: b\r\n")


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"data: x", b"event: e", b":"]), max_size=30), st.data())
def test_any_split_gives_the_same_events(parts, data):
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole, _ = split(stream)
    events, rest = split(*chunks)
    assert fields(events) == fields(whole)
    assert b"".join(event.raw for event in events) + rest == stream


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_hazard_26_an_event_above_the_bound_is_passed_in_pieces_and_never_held(monkeypatch, size):
    monkeypatch.setattr(sse, "EVENT_MAX", 50)
    stream = b"data: a\n\ndata: " + b"x" * 500 + b"\r\n\r\ndata: b\n\n"
    splitter = EventSplitter()
    events = []
    for at in range(0, len(stream), size):
        events += splitter.feed(stream[at : at + size])
        assert len(splitter.rest()) <= 50
    assert b"".join(event.raw for event in events) == stream
    assert [event.fields()[1] for event in events if event.whole and event.fields()[1]] == [b"a", b"b"]
    assert not all(event.whole for event in events)


def test_an_event_of_exactly_the_bound_is_whole(monkeypatch):
    monkeypatch.setattr(sse, "EVENT_MAX", 9)
    assert split(b"data: a", b"\n\n") == ([Event(b"data: a\n\n")], b"")
    assert split(b"data: ab", b"\n\n") == ([Event(b"data: ab\n\n", whole=False)], b"")


RUNS = st.lists(
    st.sampled_from([b"\n\n", b"\n", b"\r", b"data: x", b"x", b"data: a\n\ndata: b\n\n", b"\n\n\n"]), max_size=12
)


@settings(deadline=None)
@given(RUNS, st.data())
def test_a_run_is_the_events_that_feed_tells_apart(parts, data):
    """Whatever the chunks, and whether or not each of them is tried as a run."""
    slow, fast = EventSplitter(), EventSplitter()
    for chunk in parts:
        run = fast.run(chunk) if data.draw(st.booleans()) else None
        expected = [event.raw for event in slow.feed(chunk)]
        if run is None:
            assert [event.raw for event in fast.feed(chunk)] == expected
        else:
            assert [event + sse.BLANK for event in run.split(sse.BLANK)[:-1]] == expected
        assert fast.rest() == slow.rest()


def test_whole_events_in_plain_lines_are_a_run_uncopied_and_what_is_held_joins_it():
    splitter = EventSplitter()
    chunk = b"data: a\n\ndata: b\n\n"
    assert splitter.run(chunk) is chunk
    assert splitter.run(b"data: c\n\ndata: ") == b"data: c\n\n"
    assert splitter.run(b"d") is None
    assert splitter.feed(b"d") == []
    assert splitter.run(b"\n\n") == b"data: d\n\n"
    assert splitter.run(b"data: e\r\n\r\n") is None
    assert splitter.run(b"\n\n\n") is None


def test_hazard_26_a_run_above_the_bound_is_left_to_be_split(monkeypatch):
    monkeypatch.setattr(sse, "EVENT_MAX", 10)
    splitter = EventSplitter()
    assert splitter.run(b"data: 3\n\n") == b"data: 3\n\n"
    assert splitter.run(b"data: 123\n\n") is None
