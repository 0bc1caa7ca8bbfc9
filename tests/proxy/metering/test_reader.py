from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.model import UsageSource
from proxy.metering import reader as module
from proxy.metering import reader_for, streams
from proxy.metering.base import Metered

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
JSON, SSE = "application/json", "text/event-stream; charset=utf-8"


def metered(path, content, *, chunks=None, kind=None, encoding="", status=200, meter=None, **more):
    if not isinstance(content, bytes):
        content = json.dumps(content).encode()
    kind = kind or (SSE if content.startswith((b"data", b"event", b":")) else JSON)
    reader = reader_for(meter, path, status, kind, encoding, **more)
    for chunk in [content] if chunks is None else chunks:
        reader.feed(chunk)
    return reader.finish()


def events(*documents, end=b"\n"):
    lines = (b"data: " + (text if isinstance(text, bytes) else json.dumps(text).encode()) for text in documents)
    return b"".join(line + end * 2 for line in lines)


def chunk(text, **more):
    return {"object": "chat.completion.chunk", "model": "gpt-4o", "choices": [{"delta": {"content": text}}], **more}


USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
CHAT_USED = {"input_tokens": 10, "output_tokens": 20}
CHAT_STREAM = events(
    chunk('the "usage": {1} of', usage=None),
    chunk("words", usage={"prompt_tokens": 10, "completion_tokens": 1}),
    {"model": "gpt-4o-2024", "choices": [], "usage": USAGE},
    b"[DONE]",
)
RESPONSES_STREAM = events(
    {"type": "response.created", "response": {"model": "o4", "error": None, "usage": None}},
    {"type": "response.output_text.delta", "delta": "hi"},
    {"type": "response.incomplete", "response": {"model": "o4", "usage": {"input_tokens": 10, "output_tokens": 20}}},
)
MESSAGES_STREAM = (
    b': ping\n\nevent: message_start\ndata: {"type":"message_start","message":{"model":"claude-x","usage":'
    b'{"input_tokens":10,"cache_read_input_tokens":5,"output_tokens":1}}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"some error"}}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":20}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)
MESSAGES_USED = {"input_tokens": 15, "cache_read_tokens": 5, "output_tokens": 20}

CLAMPED = {"input_tokens": 10**9, "output_tokens": 1}

ANSWERS = [
    (CHAT, CHAT_STREAM, Metered(CHAT_USED, "gpt-4o-2024")),
    (RESPONSES, RESPONSES_STREAM, Metered(CHAT_USED, "o4")),
    (MESSAGES, MESSAGES_STREAM, Metered(MESSAGES_USED, "claude-x")),
    (CHAT, json.dumps({"model": "gpt-4o", "choices": [], "usage": USAGE}).encode(), Metered(CHAT_USED, "gpt-4o")),
    (
        MESSAGES,
        b'\n{"model":"claude-x","usage":{"input_tokens":15,"output_tokens":20}}',
        Metered({"input_tokens": 15, "output_tokens": 20}, "claude-x"),
    ),
    (
        "/v1/embeddings",
        b'{"model":"e","usage":{"prompt_tokens":3,"total_tokens":3}}',
        Metered({"input_tokens": 3}, "e"),
    ),
]


@pytest.mark.parametrize(("path", "content", "expected"), ANSWERS)
def test_split_at_any_byte(path, content, expected):
    for at in range(len(content) + 1):
        assert metered(path, content, chunks=[content[:at], content[at:]]) == expected
    assert metered(path, content, chunks=[content[at : at + 1] for at in range(len(content))]) == expected


@pytest.mark.parametrize(("path", "content", "expected"), ANSWERS)
@pytest.mark.parametrize("encode", [gzip.compress, zlib.compress])
def test_hazard_21_encoded_answers_are_metered_from_a_copy(path, content, expected, encode):
    encoded = encode(content)
    kind = SSE if content.startswith((b"data", b":")) else JSON
    encoding = "gzip" if encode is gzip.compress else "deflate"
    chunks = [encoded[at : at + 3] for at in range(0, len(encoded), 3)]
    assert metered(path, content, chunks=chunks, kind=kind, encoding=encoding) == expected


@settings(deadline=None)
@given(st.sampled_from(ANSWERS), st.booleans(), st.data())
def test_random_splits_give_the_same(answer, crlf, data):
    path, content, expected = answer
    kind = SSE if content.startswith((b"data", b":")) else JSON
    if crlf:
        content = content.replace(b"\n", b"\r\n")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=8)))
    chunks = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    assert metered(path, content, chunks=chunks, kind=kind) == expected


@pytest.mark.parametrize(
    ("stated", "usage", "flags"),
    [
        (b'{"prompt_tokens": 0, "completion_tokens": 0}', {"input_tokens": 0, "output_tokens": 0}, ("usage_zero",)),
        (b'{"prompt_tokens": 1000000000000000, "completion_tokens": 1}', CLAMPED, ("usage_clamped",)),
        (b'{"prompt_tokens": ' + b"9" * 5000 + b', "completion_tokens": 1}', CLAMPED, ("usage_clamped",)),
        (b'{"prompt_tokens": -1, "completion_tokens": 1}', None, ("unreadable",)),
        (b'{"prompt_tokens": true, "completion_tokens": 1}', None, ("unreadable",)),
        (b'{"prompt_tokens": "7", "completion_tokens": 1}', None, ("unreadable",)),
        (b'{"prompt_tokens": 1.5, "completion_tokens": 1}', None, ("unreadable",)),
        (b'{"prompt_tokens": NaN, "completion_tokens": 1}', None, ("unreadable",)),
        (b'{"prompt_tokens": 7', None, ("unreadable",)),
        (b'"much"', None, ("unreadable",)),
        (b"null", None, ()),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_hazard_41_odd_usage(stated, usage, flags, stream):
    content = b'{"choices": [], "usage": ' + stated + (b"" if stated.endswith(b"7") else b"}")
    found = metered(CHAT, events(content) if stream else content)
    assert (found.usage, found.flags) == (usage, flags)


def test_hazard_41_absent_usage_is_none_without_a_flag():
    assert metered(CHAT, {"choices": []}) == Metered()
    assert metered(CHAT, events(chunk("hi"), b"[DONE]")) == Metered(seen=1)
    assert metered(CHAT, b"") == Metered()


@pytest.mark.parametrize("content", [b"<html>bad gateway</html>", b"[" * 100_000, b'{"usage": {"prompt_tokens": 1, '])
def test_what_is_no_json_is_flagged_unless_the_call_failed_anyway(content):
    assert metered(CHAT, content) == Metered(flags=("unreadable",))
    assert metered(CHAT, content, status=502) == Metered()


def test_hazard_42_a_failed_answer_with_usage_is_metered():
    assert metered(CHAT, {"error": {"message": "x"}, "usage": USAGE}, status=500).usage == CHAT_USED


def test_duplicate_keys_and_bytes_that_are_not_utf8_do_not_hide_usage():
    assert metered(CHAT, b'{"choices": "\xff\xfe", "usage": {}, "usage": {"prompt_tokens": 1}}').usage == {
        "input_tokens": 1
    }


def test_usage_behind_what_is_nested_too_deep_is_found():
    deep = b'{"output": ' + b"[" * 50_000 + b"]" * 50_000 + b', "usage": {"prompt_tokens": 1}, "usage_note": "usage"}'
    assert metered(CHAT, deep) == Metered({"input_tokens": 1})


def test_a_large_answer_whose_tools_cost_is_read_whole():
    answer = {
        "model": "gpt-5",
        "service_tier": "priority",
        "output": [{"type": "web_search_call", "action": {"type": "search"}}, {"text": "x" * 2 * module.LARGE}],
        "usage": {"input_tokens": 9, "output_tokens": 2},
    }
    used = {"input_tokens": 9, "output_tokens": 2, "web_searches": 1}
    assert metered(RESPONSES, answer) == Metered(used, "gpt-5", terms={"service_tier": "priority"})


def test_only_the_outermost_usage_of_such_a_document_counts():
    deep = b'{"output": ' + b"[" * 50_000 + b"]" * 50_000 + b', "tool": {"usage": {"prompt_tokens": 1}}}'
    assert metered(CHAT, deep) == Metered(flags=("unreadable",))


def test_text_of_the_answer_never_passes_for_usage():
    lie = '"usage": {"prompt_tokens": 1}'
    assert metered(CHAT, events(chunk(lie), chunk("x", tool={"usage": {"prompt_tokens": 1}}))).usage is None


@pytest.mark.parametrize("size", [2 * module.LARGE, module.BODY_MAX + module.LARGE])
def test_hazard_26_a_large_answer_is_metered_by_its_end_in_bounded_memory(size):
    reader = reader_for(None, "/v1/embeddings", 200, JSON, "")
    block = b"0.125," * 10_000
    tracemalloc.start()
    try:
        reader.feed(b'{"data": [')
        for _ in range(size // len(block)):
            reader.feed(block)
        reader.feed(b'0], "model": "e", "usage": {"prompt_tokens": 3, "total_tokens": 3}}\n')
        found = reader.finish()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == Metered({"input_tokens": 3})
    assert peak < 2.5 * module.BODY_MAX


def test_a_large_answer_whose_usage_stands_first_is_still_metered():
    content = b'{"usage": {"prompt_tokens": 3}, "data": "' + b"x" * (2 * module.LARGE) + b'"}'
    assert metered(CHAT, content).usage == {"input_tokens": 3}


def test_hazard_21_a_200_mb_gzip_bomb_is_metered_in_bounded_memory():
    compressor = zlib.compressobj(1, wbits=31)
    packed = compressor.compress(b'{"padding": "')
    for _ in range(200):
        packed += compressor.compress(b"x" * 1024 * 1024)
    packed += compressor.compress(b'", "usage": {"prompt_tokens": 3}}') + compressor.flush()
    tracemalloc.start()
    try:
        found = metered(CHAT, packed, kind=JSON, encoding="gzip")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.usage == {"input_tokens": 3}
    assert peak < 2.5 * module.BODY_MAX


def test_hazard_21_encodings_that_cannot_be_read_leave_usage_unknown():
    assert metered(CHAT, b"\x00\x01", encoding="compress") == Metered(flags=("unreadable",))
    assert metered(CHAT, b"not gzip at all", encoding="gzip") == Metered(flags=("unreadable",))


def test_a_stream_whose_encoding_breaks_keeps_what_it_said_as_partial():
    compressor = zlib.compressobj(wbits=31)
    good = compressor.compress(CHAT_STREAM) + compressor.flush(zlib.Z_FULL_FLUSH)
    found = metered(CHAT, b"", chunks=[good, b"\xff" * 50, b"more"], kind=SSE, encoding="gzip")
    assert found == Metered(CHAT_USED, "gpt-4o-2024", partial=True, seen=9)


def test_promise_7_a_message_stream_without_its_last_word_is_partial():
    cut = MESSAGES_STREAM[: MESSAGES_STREAM.index(b"event: message_delta")]
    used = {"input_tokens": 15, "cache_read_tokens": 5, "output_tokens": 1}
    assert metered(MESSAGES, cut) == Metered(used, "claude-x", partial=True, seen=4)
    error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
    assert metered(MESSAGES, cut + error) == Metered(used, "claude-x", True, ("stream_error",), seen=4)


@pytest.mark.parametrize(
    "error",
    [
        b'data: {"error":{"message":"oops"}}\n\n',
        b'event: error\ndata: {"type":"error","code":"x"}\n\n',
        b"event: error\ndata: no json\n\n",
    ],
)
def test_an_error_halfway_is_flagged_and_makes_earlier_usage_partial(error):
    running = events(chunk("x", usage={"prompt_tokens": 10, "completion_tokens": 1}))
    assert metered(CHAT, error) == Metered(flags=("stream_error",))
    found = metered(CHAT, running + error + error)
    assert (found.usage, found.partial, found.flags) == (
        {"input_tokens": 10, "output_tokens": 1},
        True,
        ("stream_error",),
    )


def test_a_response_that_failed_with_usage_is_its_last_word():
    response = {"model": "o4", "error": {"code": "server_error"}, "usage": {"input_tokens": 1, "output_tokens": 2}}
    found = metered(RESPONSES, events({"type": "response.failed", "response": response}))
    assert found == Metered({"input_tokens": 1, "output_tokens": 2}, "o4")


def test_a_last_event_without_its_blank_line_counts():
    assert metered(CHAT, CHAT_STREAM.removesuffix(b"\n\ndata: [DONE]\n\n")).usage == CHAT_USED


def test_an_event_too_large_to_be_read_is_flagged(monkeypatch):
    monkeypatch.setattr("proxy.metering.sse.EVENT_MAX", 300)
    found = metered(CHAT, events(chunk("x" * 500)) + CHAT_STREAM, chunks=[events(chunk("x" * 500)), CHAT_STREAM])
    assert found == Metered(CHAT_USED, "gpt-4o-2024", flags=("event_skipped",))


def test_events_that_cannot_carry_usage_are_not_parsed(monkeypatch):
    parsed = []
    real = streams.document_of
    monkeypatch.setattr(streams, "document_of", lambda data, **more: parsed.append(data) or real(data, **more))
    metered(CHAT, events(*(chunk(f"word {n} error", usage=None) for n in range(50))) + CHAT_STREAM)
    assert len(parsed) == 2


def test_a_meter_named_by_the_policy_reads_any_path_and_an_unknown_one_none():
    assert metered("/any", {"usage": USAGE}, meter="openai").usage == CHAT_USED
    assert metered("/any", {"usage": USAGE}).usage is None
    assert metered("/any", {"usage": USAGE}, meter="mcp") == Metered()


@pytest.mark.parametrize("kind", ["", JSON, "text/plain"])
@pytest.mark.parametrize("stream", [MESSAGES_STREAM, MESSAGES_STREAM.removeprefix(b": ping\n\n")])
def test_events_are_read_whatever_the_server_calls_them(kind, stream):
    assert metered(MESSAGES, stream, kind=kind or " ") == Metered(MESSAGES_USED, "claude-x")


def test_an_answer_that_is_no_text_is_not_kept():
    reader = reader_for("openai", "/v1/audio/speech", 200, "audio/mpeg", "")
    tracemalloc.start()
    try:
        for _ in range(100):
            reader.feed(bytes(100_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.finish() == Metered()
    assert peak < 1_000_000


SECONDS = UsageSource("seconds", "response", "result.billed_seconds")
PAGES = UsageSource("pages", "header", "x-pages")
IMAGES = UsageSource("images", "request", "n")


def test_a_rules_own_units_alone():
    content = b'{"result": {"billed_seconds": 12.50}}'
    assert metered("/video/x", content, sources=(SECONDS,)) == Metered({"seconds": Decimal("12.5")})
    assert metered("/video/x", b"\x00", kind="video/mp4", sources=(PAGES,), headers=[(b"X-Pages", b"3")]).usage == {
        "pages": 3
    }
    assert metered("/images", b"{}", sources=(IMAGES,), request_body={"n": 2}).usage == {"images": 2}


def test_a_rules_own_units_in_a_stream():
    content = events({"result": {"billed_seconds": 1}}, {"other": 1}, {"result": {"billed_seconds": 2.25}})
    assert metered("/video/x", content, sources=(SECONDS,)).usage == {"seconds": Decimal("2.25")}


def test_a_rules_own_units_beside_the_wire_format():
    answer = {"usage": USAGE, "result": {"billed_seconds": 2}}
    both = {"input_tokens": 10, "output_tokens": 20, "seconds": 2, "pages": 3}
    assert metered(CHAT, answer, sources=(SECONDS, PAGES), headers=[(b"x-pages", b"3")]).usage == both


def test_promise_7_no_quantity_of_several_may_be_missing():
    assert metered(CHAT, {"usage": USAGE}, sources=(SECONDS,)).usage is None
    assert metered(CHAT, {"result": {"billed_seconds": 2}}, sources=(SECONDS,)).usage is None
    assert metered("/video/x", {"result": {"billed_seconds": -2}}, sources=(SECONDS,)) == Metered(flags=("unreadable",))


def test_a_wire_format_that_promises_no_usage_on_this_path_may_be_silent():
    answer = {"result": {"billed_seconds": 2}}
    assert metered("/v1/audio/transcriptions", answer, meter="openai", sources=(SECONDS,)) == Metered({"seconds": 2})


def test_hazard_42_what_the_request_says_is_not_what_a_failed_answer_used():
    assert metered("/images", b"{}", status=500, sources=(IMAGES,), request_body={"n": 2}).usage is None
    answer = {"result": {"billed_seconds": 2}}
    found = metered("/images", answer, status=500, sources=(IMAGES, SECONDS), request_body={"n": 2})
    assert found.usage == {"images": 2, "seconds": 2}


SCRAPS = [
    b"data: ",
    b"\n\n",
    b"\r\n",
    b'"usage"',
    b":",
    b"{",
    b"}",
    b"[",
    b"error",
    b"NaN",
    b"-1",
    b"\xff",
    b"9" * 5000,
]
KEYS = ["usage", "message", "response", "error", "type", "prompt_tokens", "input_tokens", "output_tokens", "result"]
KEYS += ["prompt_tokens_details", "cached_tokens", "cache_creation", "iterations"]
HOSTILE = st.lists(st.binary(max_size=60) | st.sampled_from(SCRAPS), max_size=12)
JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.dictionaries(st.sampled_from(KEYS), inner, max_size=5) | st.lists(inner, max_size=3),
    max_leaves=15,
)


def check(found):
    assert found.usage is None or all(0 <= quantity <= 10**9 for quantity in found.usage.values())


@settings(deadline=None)
@given(
    HOSTILE,
    st.sampled_from([CHAT, MESSAGES, "/x"]),
    st.sampled_from([JSON, SSE]),
    st.sampled_from(["", "gzip", "deflate", "br"]),
)
def test_hazard_29_hostile_bytes_never_raise(chunks, path, kind, encoding):
    check(metered(path, b"", chunks=chunks, kind=kind, encoding=encoding, sources=(SECONDS,)))


@settings(deadline=None)
@given(JSONISH, st.sampled_from([CHAT, MESSAGES]), st.booleans(), st.booleans())
def test_hazard_29_hostile_documents_never_raise(document, path, stream, sourced):
    text = json.dumps(document).encode()
    check(metered(path, events(text) if stream else text, sources=(SECONDS,) if sourced else ()))
