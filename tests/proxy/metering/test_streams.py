"""Streams of every wire format, in every dress that they come in: split, cut, broken by an error, as a JSON array."""

from __future__ import annotations

import json
import tracemalloc
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.metering import UsageStripper, reader_for, streams
from proxy.metering.base import Metered
from proxy.metering.reader import LARGE
from proxy.metering.sse import EventSplitter

SSE, JSON = "text/event-stream", "application/json; charset=UTF-8"
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
GEMINI = "/v1beta/models/gemini-3-flash:streamGenerateContent"
COHERE = "/v2/chat"
TRICKY = 'so "text": "\\" [{ \u4e16'


def gemini(text, finish=None, **usage):
    candidate = {"content": {"parts": [{"text": text}]}} | ({"finishReason": finish} if finish else {})
    return {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 5, **usage}, "modelVersion": "gemini-x"}


ANSWERS = {
    CHAT: (
        [
            {"model": "gpt-x", "choices": [{"delta": {"content": TRICKY}}], "usage": None},
            {"model": "gpt-x", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}},
        ],
        Metered({"input_tokens": 5, "output_tokens": 7}, "gpt-x"),
    ),
    RESPONSES: (
        [
            {"type": "response.created", "response": {"model": "gpt-x", "usage": None, "error": None}},
            {"type": "response.output_text.delta", "delta": TRICKY},
            {
                "type": "response.completed",
                "response": {"model": "gpt-x", "usage": {"input_tokens": 5, "output_tokens": 7}},
            },
        ],
        Metered({"input_tokens": 5, "output_tokens": 7}, "gpt-x"),
    ),
    MESSAGES: (
        [
            {
                "type": "message_start",
                "message": {"model": "claude-x", "usage": {"input_tokens": 5, "output_tokens": 1}},
            },
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": TRICKY}},
            {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 7}},
        ],
        Metered({"input_tokens": 5, "output_tokens": 7}, "claude-x"),
    ),
    GEMINI: (
        [gemini(TRICKY, totalTokenCount=5), gemini("", "STOP", candidatesTokenCount=7, totalTokenCount=12)],
        Metered({"input_tokens": 5, "output_tokens": 7}, "gemini-x"),
    ),
    COHERE: (
        [
            {"type": "content-delta", "delta": {"message": {"content": {"text": TRICKY}}}},
            {"type": "message-end", "delta": {"usage": {"billed_units": {"input_tokens": 5, "output_tokens": 7}}}},
        ],
        Metered({"input_tokens": 5, "output_tokens": 7}),
    ),
}


def metered(path, *chunks, kind=SSE, status=200):
    reader = reader_for(None, path, status, kind, "")
    for chunk in chunks:
        reader.feed(chunk)
    return reader.finish()


def event(document, *, end=b"\n", space=b" ", lines=False, comment=b""):
    text = json.dumps(document, indent=1 if lines else None).encode()
    return comment + end.join(b"data:" + space + line for line in text.split(b"\n")) + end * 2


def pieces(data, stream):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


@settings(deadline=None)
@given(
    st.sampled_from(list(ANSWERS)),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.sampled_from([b" ", b""]),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.sampled_from([b"", b": ping\n\n", b": error\n", b"id: 3\nretry: 10\n"]),
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_every_format_in_every_dress_split_anywhere(path, end, space, bom, comment, lines, unfinished, data):
    documents, expected = ANSWERS[path]
    comment = comment.replace(b"\n", end)
    stream = bom + b"".join(event(each, end=end, space=space, lines=lines, comment=comment) for each in documents)
    if unfinished:
        stream = stream.rstrip(b"\r\n")
    assert metered(path, *pieces(data, stream)) == expected


@settings(deadline=None)
@given(
    st.sampled_from([",", ",\r\n", "\n,\r\n", " , "]),
    st.sampled_from([None, 2]),
    st.sampled_from([b"", b"\xef\xbb\xbf", b"\r\n ", b"\xef\xbb\xbf\n"]),
    st.data(),
)
def test_a_json_array_split_anywhere(between, indent, head, data):
    documents, expected = ANSWERS[GEMINI]
    stream = head + f"[{between.join(json.dumps(each, indent=indent) for each in documents)}\n]\n".encode()
    assert metered(GEMINI, *pieces(data, stream), kind=JSON) == expected


def array(*documents):
    return b"[" + b",\r\n".join(json.dumps(each).encode() for each in documents)


RUNNING = gemini("word " * 6, candidatesTokenCount=2, totalTokenCount=7)
PARTIAL = Metered({"input_tokens": 5, "output_tokens": 2}, "gemini-x", partial=True, seen=10)


def test_promise_7_a_json_array_that_is_cut_tells_its_latest_usage():
    whole = array(RUNNING, gemini("more", "STOP", candidatesTokenCount=9))
    assert metered(GEMINI, array(RUNNING), kind=JSON) == PARTIAL
    assert metered(GEMINI, whole[:-40], kind=JSON).partial


def test_an_array_without_usage_is_unreadable_only_if_it_is_no_whole_one():
    assert metered(GEMINI, b"[]", kind=JSON) == Metered()
    assert metered(GEMINI, b"[[0.5, 0.25], 1]", kind=JSON) == Metered()
    assert metered(GEMINI, b"[{", kind=JSON) == Metered(flags=("unreadable",))
    assert metered(GEMINI, b"", kind=JSON) == metered(GEMINI, b"\xef\xbb", kind=JSON) == Metered()


def test_hazard_26_a_long_array_is_read_as_it_comes_in_bounded_memory():
    block = array(gemini("x" * 1000), *[gemini("x" * 1000)] * 63)[1:] + b","
    reader = reader_for(None, GEMINI, 200, JSON, "")
    tracemalloc.start()
    try:
        reader.feed(b"[")
        for _ in range(200):
            reader.feed(block)
        reader.feed(json.dumps(gemini("", "STOP", candidatesTokenCount=7)).encode() + b"]")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.finish().usage == {"input_tokens": 5, "output_tokens": 7}
    assert peak < 1_000_000


def test_an_element_too_large_to_be_read_is_flagged(monkeypatch):
    monkeypatch.setattr("proxy.metering.jsonarray.ELEMENT_MAX", 300)
    found = metered(GEMINI, array(gemini("x" * 500), gemini("", "STOP", candidatesTokenCount=7)) + b"]", kind=JSON)
    assert found == Metered({"input_tokens": 5, "output_tokens": 7}, "gemini-x", flags=("event_skipped",))


def test_elements_that_cannot_carry_usage_are_not_parsed(monkeypatch):
    parsed = []
    real = streams.document_of
    monkeypatch.setattr(streams, "document_of", lambda data, **more: parsed.append(data) or real(data, **more))
    metered(GEMINI, array(*[{"candidates": [{"text": "an error"}]}] * 9, RUNNING) + b"]", kind=JSON)
    assert len(parsed) == 1


ERROR = {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}


@pytest.mark.parametrize(
    ("kind", "stream"),
    [
        (SSE, event(RUNNING) + event(ERROR)),
        (SSE, event(RUNNING) + json.dumps(ERROR, indent=2).encode() + b"\n"),
        (SSE, event(RUNNING) + event({"error": "overloaded"})),
        (SSE, event(RUNNING) + b"event: error\n" + event({"message": "overloaded"})),
        (JSON, array(RUNNING, ERROR) + b"]"),
        (JSON, array(RUNNING, ERROR)),
    ],
)
def test_an_error_halfway_is_flagged_and_the_usage_partial(kind, stream):
    found = metered(GEMINI, stream, kind=kind)
    assert (found.usage, found.partial, found.flags) == (PARTIAL.usage, True, ("stream_error",))


@pytest.mark.parametrize("path", ANSWERS)
def test_an_error_halfway_in_every_format(path):
    documents, _ = ANSWERS[path]
    error = b"event: error\n" + event({"type": "error", "error": {"type": "overloaded_error"}})
    found = metered(path, b"".join(event(each) for each in documents[:-1]) + error)
    assert found.usage is None or found.partial
    assert "stream_error" in found.flags
    assert found.seen >= 8


def test_an_error_that_the_status_tells_already_is_no_error_halfway():
    assert metered(GEMINI, array(ERROR) + b"]", kind=JSON, status=400) == Metered()
    assert metered(CHAT, event(ERROR), status=400) == Metered()


@pytest.mark.parametrize("path", ANSWERS)
def test_promise_7_a_cut_stream_tells_at_least_what_was_seen(path):
    documents, expected = ANSWERS[path]
    stream = b"".join(event(each) for each in documents[:-1])
    found = metered(path, stream)
    assert found.usage is None or found.partial
    assert found.seen >= len(TRICKY.split())
    assert metered(path, stream + event(documents[-1])) == expected


def test_searches_of_a_large_answer_are_not_lost():
    picture = {"inlineData": {"mimeType": "image/png", "data": "A" * 2 * LARGE}}
    candidate = {"content": {"parts": [picture]}, "groundingMetadata": {"webSearchQueries": ["a", "b"]}}
    answer = {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 5}, "modelVersion": "gemini-3-pro-image"}
    found = metered(GEMINI, json.dumps(answer).encode(), kind=JSON)
    assert found.usage == {"input_tokens": 5, "output_tokens": 0, "web_searches": 2}


def test_one_document_is_its_own_last_word():
    answer = json.dumps(gemini("hi", totalTokenCount=5)).encode()
    assert metered(GEMINI.replace("streamG", "g"), answer, kind=JSON) == Metered(
        {"input_tokens": 5, "output_tokens": 0}, "gemini-x"
    )


SCRAPS = [
    *(b"data: ", b"event: error\n", b"\n\n", b"\n\n", b"\n\n", b"\n", b"\r\n\r\n", b": c\n\n", b"\xff", b"{", b"}"),
    *(event(each) for documents, _ in ANSWERS.values() for each in documents),
    *(event({"usage": None, "choices": [{"delta": {"content": "a word"}}]}), event({"type": "error", "error": "x"})),
    *(b'{"error":{}}', b'"usage":null', b'"usage": null', b'"usage"', b':{"prompt_tokens":1}', b'"meta"', b"error"),
    *(b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}', b'"delta":"', b'"text":"a'),
]


def event_by_event(reader, chunks):
    """The slow way: each event told apart, counted and looked into by itself."""
    for chunk in chunks:
        for each in reader.splitter.feed(chunk):
            reader.read(each)
    return reader.finish()


@settings(deadline=None)
@given(st.lists(st.sampled_from(SCRAPS), max_size=20), st.sampled_from([CHAT, RESPONSES, MESSAGES, COHERE]), st.data())
def test_batches_are_read_as_each_event_would_be(parts, path, data):
    stream = b"".join(parts)
    slow = event_by_event(reader_for(None, path, 200, SSE, ""), [stream])
    for batch in (0, 40, streams.BATCH):
        with patch.object(streams, "BATCH", batch):
            assert metered(path, *pieces(data, stream)) == slow
            assert metered(path, *parts) == slow


@settings(deadline=None)
@given(st.lists(st.sampled_from(SCRAPS), max_size=20), st.data())
def test_promise_9_a_run_is_stripped_as_its_events_would_be(parts, data):
    def stripped(chunks):
        reader = reader_for("openai", CHAT, 200, SSE, "")
        stripper = UsageStripper(reader)
        return [*map(stripper.feed, chunks), stripper.flush()], reader.finish()

    chunks = data.draw(st.sampled_from([parts, pieces(data, b"".join(parts))]))
    with patch.object(EventSplitter, "run", lambda self, chunk: None):
        slow = stripped(chunks)
    assert stripped(chunks) == slow


def test_a_long_stream_is_counted_as_it_comes_in_bounded_memory():
    words = b"".join([event({"choices": [{"delta": {"content": "a word"}}]})] * 100)
    reader = reader_for(None, CHAT, 200, SSE, "")
    tracemalloc.start()
    try:
        for _ in range(100):
            reader.feed(words)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.finish().seen == 20_000
    assert peak < 10 * streams.BATCH
