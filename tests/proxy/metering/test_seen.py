from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.metering import reader_for
from proxy.metering.seen import Seen

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
GEMINI = "/v1beta/models/gemini-3-flash:streamGenerateContent"


def tokens(*documents, path=CHAT):
    seen = Seen(path)
    for document in documents:
        seen.add(b"data: " + json.dumps(document).encode() + b"\n\n")
    return seen.tokens


def choice(**delta):
    return {"id": "chatcmpl-1", "model": "gpt-4o", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


TEXT = "x" * 30


@pytest.mark.parametrize(
    ("path", "document"),
    [
        (CHAT, choice(content=TEXT)),
        (CHAT, choice(content=[{"type": "text", "text": TEXT}])),
        (CHAT, choice(reasoning_content=TEXT)),
        (CHAT, choice(refusal=TEXT)),
        (CHAT, choice(tool_calls=[{"index": 0, "function": {"arguments": TEXT}}])),
        (CHAT, choice(audio={"transcript": TEXT})),
        (CHAT, choice(content=TEXT, annotations=[{"type": "url_citation", "url_citation": {"content": TEXT}}])),
        (CHAT, choice(reasoning=TEXT, reasoning_details=[{"type": "reasoning.text", "text": TEXT}])),
        ("/v1/completions", {"choices": [{"text": TEXT}]}),
        (RESPONSES, {"type": "response.output_text.delta", "delta": TEXT}),
        (MESSAGES, {"type": "content_block_delta", "delta": {"type": "text_delta", "text": TEXT}}),
        (MESSAGES, {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": TEXT}}),
        (MESSAGES, {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": TEXT}}),
        (GEMINI, {"candidates": [{"content": {"role": "model", "parts": [{"text": TEXT}]}}]}),
        ("/v2/chat", {"type": "content-delta", "delta": {"message": {"content": {"text": TEXT}}}}),
        ("/v2/chat", {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": TEXT}}}),
    ],
)
def test_text_counts_a_token_for_three_bytes(path, document):
    assert 10 <= tokens(document, path=path) <= 12


@pytest.mark.parametrize(
    ("path", "document"),
    [
        (CHAT, choice(content="a")),
        (CHAT, choice(audio={"id": "a", "data": "UklGR" * 100})),
        (CHAT, choice(images=[{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 500}}])),
        ("/v1/images/generations", {"type": "image_generation.partial_image", "b64_json": "A" * 500}),
        ("/v1/audio/speech", {"type": "speech.audio.delta", "audio": "A" * 500}),
        (RESPONSES, {"type": "response.audio.delta", "delta": "A" * 500}),
        (GEMINI, {"candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "i", "data": "A" * 500}}]}}]}),
        (GEMINI, {"candidates": [{"content": {"parts": [{"functionCall": {"args": {"a": [1]}}}]}}]}),
    ],
)
def test_output_that_is_no_text_counts_as_some_and_its_base64_not_at_all(path, document):
    assert 1 <= tokens(document, path=path) <= 3
    assert tokens(document, document, document, path=path) >= 3


@pytest.mark.parametrize(
    ("path", "document"),
    [
        (CHAT, choice(role="assistant")),
        (CHAT, {"choices": [], "usage": {"prompt_tokens": 1}}),
        (CHAT, choice(content=None)),
        (MESSAGES, {"type": "message_start", "message": {"id": "m", "model": "claude", "content": []}}),
        (MESSAGES, {"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "A" * 500}}),
        (RESPONSES, {"type": "response.output_text.done", "text": TEXT}),
        (RESPONSES, {"type": "response.output_item.done", "item": {"content": [{"text": TEXT}]}}),
        (GEMINI, {"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 1}}),
    ],
)
def test_what_is_no_output_counts_nothing(path, document):
    assert tokens(document, path=path) == 0


def test_text_that_looks_like_json_counts_as_text():
    text = json.dumps({"content": 'a "text": "b', "delta": "c\\"}) * 3
    assert tokens(choice(content=text)) == -(-len(json.dumps(text)[1:-1]) // 3)


def test_each_event_with_output_is_a_token_at_least():
    assert tokens(*[choice(content="a")] * 7) == 7


PIECES = st.lists(st.text(alphabet='ab"\\{}[]:, \n\u00e9\u4e16', max_size=20), max_size=12)


@settings(deadline=None)
@given(PIECES, st.sampled_from([CHAT, RESPONSES, MESSAGES, GEMINI]), st.booleans(), st.data())
def test_any_split_gives_the_same_and_more_never_less(texts, path, array, data):
    documents = {
        CHAT: [choice(content=text) for text in texts],
        RESPONSES: [{"type": "response.output_text.delta", "delta": text} for text in texts],
        MESSAGES: [{"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}} for text in texts],
        GEMINI: [{"candidates": [{"content": {"parts": [{"text": text}]}}]} for text in texts],
    }[path]
    lines = [json.dumps(document).encode() for document in documents]
    stream = b"[" + b",\r\n".join(lines) if array else b"".join(b"data: %s\r\n\r\n" % line for line in lines)
    kind = "application/json" if array else "text/event-stream"

    def seen(*chunks):
        reader = reader_for(None, path, 200, kind, "")
        for chunk in chunks:
            reader.feed(chunk)
        return reader.finish().seen

    at = data.draw(st.integers(0, len(stream)))
    cut = data.draw(st.integers(0, at))
    assert seen(stream[:at], stream[at:]) == seen(stream)
    assert seen(stream[:cut]) <= seen(stream[:at]) <= seen(stream)
    assert seen(stream) >= sum(1 for text in texts if text)
