from __future__ import annotations

import json
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.metering import UsageStripper, reader_for, seen
from proxy.metering.mold import mold_of
from proxy.metering.seen import _OUTPUT, Seen
from proxy.metering.sse import EventSplitter

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"


def event(document, compact=True, head=b""):
    text = json.dumps(document, separators=(",", ":") if compact else None).encode()
    return head + b"data: " + text + b"\n\n"


def chunk(text, *, compact=True, **beside):
    return event({"id": "c", "choices": [{"index": 0, "delta": {"content": text}}], **beside}, compact)


def words(learned, other):
    return mold_of(learned, _OUTPUT).words(other)


def test_an_event_that_is_the_same_but_for_its_words_fits():
    assert words(chunk("a"), chunk("two words")) == 9
    assert words(chunk("two words"), chunk("")) == 0
    assert words(chunk("a", compact=False), chunk('"q"\n', compact=False)) == len(r"\"q\"\n")
    assert words(chunk("a", obfuscation="Xy1"), chunk("be", obfuscation="")) == 2


@pytest.mark.parametrize(
    "other",
    [
        chunk("b", usage={}),
        chunk("b", error="x"),
        chunk("b").replace(b'"c"', b'"d"'),
        chunk("b") + b"\n",
        chunk("b") * 2,
        chunk("b")[:-1],
        chunk("b").replace(b"\n", b"\r\n"),
        chunk('"').replace(b"\\", b""),
        chunk("\n").replace(b"\\n", b"\n"),
        chunk("x").replace(b"x", b"x\nevent: error\ndata: "),
        chunk("\\").replace(b"\\\\", b"\\"),
        chunk("b").replace(b'"b"', b"null"),
        b"",
    ],
)
def test_any_other_event_does_not(other):
    assert words(chunk("a"), other) == -1


@pytest.mark.parametrize("padding", ['x"y', "x y", None, 7])
def test_padding_is_letters_and_digits_or_none_at_all(padding):
    assert words(chunk("a", obfuscation="Xy1"), chunk("a", obfuscation=padding)) == -1


@pytest.mark.parametrize(
    "learned",
    [
        b"data: [DONE]\n\n",
        b": text\n\n",
        chunk("a") * 2,
        chunk("a")[:-1],
        chunk("a").replace(b"\n", b"\r\n"),
        event({"content": "a", "text": "b"}),
        event({"audio": {"id": "a"}}),
        b'data: {"annotations":[" "],"",}\n\n',
        b'data: {"text":"a" :1}\n\n',
        b'data: {"text":"a\n\n',
        chunk("a", obfuscation='x"y'),
    ],
)
def test_an_event_that_is_no_mold(learned):
    assert mold_of(learned, _OUTPUT) is None


TEXTS = st.text(alphabet='ab"\\{}[]:, \n\u00e9', max_size=12) | st.sampled_from(
    ["error", "usage", '"error": "', '"usage":{', '\n\n"usage":1', "audio.delta", '"content":"']
)
EVENTS = st.one_of(
    TEXTS.map(chunk),
    st.builds(lambda text, pad: chunk(text, obfuscation=pad), TEXTS, st.sampled_from(["", "aB3", "x", 'a"b', "error"])),
    st.builds(lambda text, usage: chunk(text, usage=usage), TEXTS, st.sampled_from([None, {"prompt_tokens": 1}])),
    TEXTS.map(lambda text: event({"type": "content_block_delta", "delta": {"text": text}}, head=b"event: x\n")),
    TEXTS.map(lambda text: event({"delta": text, "type": "x"})),
    TEXTS.map(lambda text: event({"delta": text, "type": "error"}, head=b"event: error\n")),
    TEXTS.map(lambda text: event({"audio": {"data": text}, "text": "a"})),
    TEXTS.map(lambda text: event({"text": "a", "annotations": [text]})),
    TEXTS.map(lambda text: chunk("x").replace(b"x", text.encode())),
    st.just(event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}})),
    st.sampled_from([b"data: [DONE]\n\n", b"\n\n", b"data: a\r\n\r\n", b"data: x", b"\n", b'"', b"\r\n"]),
)


@settings(deadline=None)
@given(st.lists(EVENTS, max_size=30), st.sampled_from([CHAT, RESPONSES, MESSAGES]))
def test_molds_count_what_was_seen_as_looking_at_each_event_does(events, path):
    with patch.object(seen, "MOLDS_MAX", 0):
        slow = Seen(path)
    fast = Seen(path)
    for each in events:
        slow.add(each)
        fast.add(each)
        assert fast.tokens == slow.tokens


@settings(deadline=None)
@given(st.lists(EVENTS, max_size=30))
def test_promise_9_molds_strip_and_meter_as_looking_at_each_event_does(chunks):
    def stripped():
        reader = reader_for("openai", CHAT, 200, "text/event-stream", "")
        stripper = UsageStripper(reader)
        return [*map(stripper.feed, chunks), stripper.flush()], reader.finish()

    with patch.object(EventSplitter, "run", lambda self, chunk: None), patch.object(seen, "MOLDS_MAX", 0):
        slow = stripped()
    assert stripped() == slow


def test_most_events_of_a_stream_are_told_by_their_mold(monkeypatch):
    reader = reader_for("openai", CHAT, 200, "text/event-stream", "")
    stripper = UsageStripper(reader)
    chunks = [chunk(f"word {n}", usage=None, obfuscation="x" * (n % 7)) for n in range(50)]
    assert stripper.feed(chunks[0]) is chunks[0]
    monkeypatch.setattr(EventSplitter, "run", None)
    for each in chunks[1:]:
        assert stripper.feed(each) is each
    assert reader.finish().seen == -(-sum(len(f"word {n}") for n in range(50)) // 3)
