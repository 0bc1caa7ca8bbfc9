from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.metering import StreamReader, UsageStripper, ask_for_usage, reader_for, streams
from proxy.metering.base import Metered

CHAT = "/v1/chat/completions"


def ask(raw, path=CHAT):
    return ask_for_usage(path, raw, json.loads(raw))


@pytest.mark.parametrize(
    ("raw", "asked"),
    [
        (b'{"stream":true}', b'{"stream_options":{"include_usage":true},"stream":true}'),
        (
            b'\n { "model" : "m",\n "temperature": 1.50e+0, "seed": 12345678901234567890123, "stream": true }',
            b'\n {"stream_options":{"include_usage":true}, "model" : "m",\n'
            b' "temperature": 1.50e+0, "seed": 12345678901234567890123, "stream": true }',
        ),
        (
            b'{"p": 1.0, "stream_options" : {"include_usage": false, "other":false} , "stream":true,"n":1.10}',
            b'{"p": 1.0, "stream_options" : {"include_usage": true, "other":false} , "stream":true,"n":1.10}',
        ),
        (b'{"stream": true, "stream_options": null}', b'{"stream": true, "stream_options": {"include_usage":true}}'),
        (
            b'{"messages":[{"stream_options":{}}],"user":"\\"stream_options\\"\xc3\xa9","stream":true,"stream\\u005foptions":{}}',
            b'{"messages":[{"stream_options":{}}],"user":"\\"stream_options\\"\xc3\xa9","stream":true,'
            b'"stream\\u005foptions":{"include_usage":true}}',
        ),
    ],
)
def test_a_stream_is_asked_for_its_usage_and_all_else_stays_as_written(raw, asked):
    assert ask(raw) == asked
    assert json.loads(asked)["stream_options"]["include_usage"] is True


@pytest.mark.parametrize(
    "raw",
    [
        b'{"stream": true, "stream_options": {"include_usage": true}}',
        b'{"stream": true, "stream_options": "odd"}',
        b'{"stream": false}',
        b'{"stream": 1}',
        b'{"stream": "true"}',
        b"{}",
        b"[true]",
        b"null",
    ],
)
def test_nothing_to_ask(raw):
    assert ask(raw) is None


def test_only_chat_and_legacy_completions_are_asked():
    raw = b'{"stream":true}'
    assert ask(raw, "/v1/completions") == ask(raw, "/openai/deployments/d/chat/completions") == ask(raw)
    assert ask(raw, "/v1/responses") is None
    assert ask(raw, "/v1/messages") is None
    assert ask_for_usage(CHAT, b"not json", None) is None


VALUES = st.floats(allow_nan=False) | st.text(max_size=3) | st.lists(st.integers(), max_size=2)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=4), st.sampled_from([None, 0, 2]), st.booleans())
def test_asking_changes_nothing_else_in_any_body(body, indent, has_options):
    options = {"include_obfuscation": False} if has_options else {}
    stated = {**body, **({"stream_options": options} if has_options else {}), "stream": True}
    asked = ask(json.dumps(stated, indent=indent).encode())
    assert json.loads(asked) == stated | {"stream_options": options | {"include_usage": True}}


KEPT_BEFORE = (
    b": comment\n\n"
    b'data: {"choices":[],"prompt_filter_results":[{}],"usage":null}\n\n'
    b'data: {"choices":[{"delta":{"content":"\\"choices\\":[],\\"usage\\":{}"}}],"usage":null}\r\n\r\n'
    b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
)
USAGE_ONLY = b'data: {"model":"gpt-4o","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":20}}'
KEPT_AFTER = b"data: [DONE]\n\n"
USED = {"input_tokens": 10, "output_tokens": 20}


def sse_reader():
    reader = reader_for("openai", CHAT, 200, "text/event-stream", "")
    assert isinstance(reader, StreamReader)
    return reader


def strip(*chunks, reader=None):
    stripper = UsageStripper(reader)
    return b"".join([stripper.feed(chunk) for chunk in chunks]) + stripper.flush()


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"])
def test_promise_9_split_anywhere_the_bytes_are_unchanged_but_for_the_usage_only_chunk(end):
    stream = KEPT_BEFORE + USAGE_ONLY + end + KEPT_AFTER
    for at in range(len(stream) + 1):
        reader = sse_reader()
        assert strip(stream[:at], stream[at:], reader=reader) == KEPT_BEFORE + KEPT_AFTER
        assert reader.finish() == Metered(USED, "gpt-4o")
    assert strip(*(stream[at : at + 1] for at in range(len(stream)))) == KEPT_BEFORE + KEPT_AFTER


SCRAPS = [b"data: ", b"\n", b"\r", USAGE_ONLY, b'{"usage":{}}', b"x", b"\xff"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(SCRAPS), max_size=15), st.data())
def test_promise_9_whatever_comes_no_other_byte_is_lost(parts, data):
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    passed = strip(*chunks)
    if USAGE_ONLY not in stream:
        assert passed == stream
    assert passed == strip(stream)


def test_promise_9_a_line_feed_after_what_was_taken_out_is_lost_only_if_it_ended_it():
    assert strip(USAGE_ONLY + b"\r\r", b"\ndata: x\n\n") == b"data: x\n\n"
    assert strip(USAGE_ONLY + b"\r\rda", b"\nta: x\n\n") == b"da\nta: x\n\n"
    assert strip(b"data: x\r\r", b"\n", USAGE_ONLY + b"\n\n") == b"data: x\r\r\n"


def test_hazard_26_an_event_passes_on_with_its_last_byte():
    stripper = UsageStripper(sse_reader())
    assert stripper.feed(b"data: a\n\ndata: b") == b"data: a\n\n"
    assert stripper.feed(b"\n") == b""
    assert stripper.feed(b"\n") == b"data: b\n\n"


def test_hazard_26_an_event_above_the_bound_passes_in_pieces(monkeypatch):
    monkeypatch.setattr("proxy.metering.sse.EVENT_MAX", 100)
    stripper = UsageStripper(sse_reader())
    assert len(stripper.feed(b"data: " + b"x" * 500)) > 400
    assert (
        strip(b"data: " + b"x" * 500, b"\n\n", USAGE_ONLY + b"\n\n" + KEPT_AFTER)
        == b"data: " + b"x" * 500 + b"\n\n" + KEPT_AFTER
    )


def test_a_stream_that_ends_within_an_event():
    assert strip(b"data: [DO") == b"data: [DO"
    reader = sse_reader()
    assert strip(KEPT_BEFORE, USAGE_ONLY, reader=reader) == KEPT_BEFORE
    assert reader.finish().usage == USED


def test_metering_and_stripping_parse_an_event_once(monkeypatch):
    parsed = []
    real = streams.document_of
    monkeypatch.setattr(streams, "document_of", lambda data, **more: parsed.append(data) or real(data, **more))
    reader = sse_reader()
    strip(KEPT_BEFORE + USAGE_ONLY + b"\n\n" + KEPT_AFTER, reader=reader)
    assert reader.finish().usage == USED
    assert len(parsed) == len(set(parsed)) == 2
