from __future__ import annotations

import json

import pytest

from proxy.metering import reader_for
from proxy.metering.base import Facts, Metered
from proxy.metering.cohere import CohereTally
from proxy.metering.quantities import Unreadable

TOKENS = {"input_tokens": 542, "output_tokens": 63}
BILLED = {"input_tokens": 13.0, "output_tokens": 61}
CHAT_USED = {"input_tokens": 13, "output_tokens": 61}


def told(*documents, path="/v2/chat"):
    tally = CohereTally(Facts(path))
    finals = [tally.read(document) for document in documents]
    return tally.usage(), finals


def metered(path, content, *, kind="application/json", status=200):
    reader = reader_for("cohere", path, status, kind, "")
    reader.feed(content if isinstance(content, bytes) else json.dumps(content).encode())
    return reader.finish()


@pytest.mark.parametrize(
    "answer",
    [
        {"message": {}, "usage": {"billed_units": BILLED, "tokens": TOKENS, "cached_tokens": 500}},
        {"text": "hi", "meta": {"billed_units": BILLED, "tokens": TOKENS}},
        {"type": "message-end", "delta": {"usage": {"billed_units": BILLED, "tokens": TOKENS}}},
        {"event_type": "stream-end", "response": {"text": "hi", "meta": {"billed_units": BILLED, "tokens": TOKENS}}},
    ],
)
def test_what_bills_is_billed_units_and_not_tokens(answer):
    assert told(answer) == (CHAT_USED, [True])


@pytest.mark.parametrize(
    ("billed", "usage"),
    [
        ({"input_tokens": 4, "image_tokens": 0}, {"input_tokens": 4, "input_image_tokens": 0}),
        ({"input_tokens": 4, "image_tokens": 90}, {"input_tokens": 94, "input_image_tokens": 90}),
        ({"image_tokens": 90}, {"input_tokens": 90, "input_image_tokens": 90}),
        (
            {"input_tokens": 94, "text_tokens": 4, "image_tokens": 90},
            {"input_tokens": 94, "input_image_tokens": 90},
        ),
        ({"images": 2}, {"images": 2}),
        ({"search_units": 3}, {"rerank_searches": 3}),
        ({"classifications": 5}, {"classifications": 5}),
        ({"pages": 5}, {"input_document_pages": 5}),
    ],
)
def test_embed_rerank_classify(billed, usage):
    assert told({"meta": {"api_version": {"version": "2"}, "billed_units": billed}})[0] == usage


def test_a_v2_stream_states_its_usage_at_its_end():
    events = [
        {"type": "message-start", "delta": {"message": {"role": "assistant"}}},
        {"type": "content-delta", "delta": {"message": {"content": {"text": 'its "usage": {"billed_units"'}}}},
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {"billed_units": BILLED}}},
    ]
    stream = b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)
    assert metered("/v2/chat", stream, kind="text/event-stream") == Metered(CHAT_USED)
    cut = stream[: stream.index(b"message-end") - 7]
    assert metered("/v2/chat", cut, kind="text/event-stream").usage is None


def test_tokenizing_bills_nothing_and_is_no_oddity():
    meta = {"api_version": {"version": "1"}}
    assert metered("/v1/tokenize", {"tokens": [1], "token_strings": ["a"], "meta": meta}) == Metered({})
    assert metered("/v1/detokenize", {"text": "a", "meta": meta}) == Metered({})
    assert metered("/v1/tokenize", {"id": "1", "message": "no such model"}, status=404) == Metered()


def test_an_answer_that_bills_but_doesn_t_say_what_is_not_metered():
    assert told({"id": "x", "meta": {"api_version": {}}}, path="/v2/embed") == (None, [False])
    assert told({"usage": {"tokens": TOKENS}}, {"usage": None}) == (None, [False, False])


@pytest.mark.parametrize(
    "stated",
    [
        7,
        {"billed_units": "many"},
        {"billed_units": {}},
        {"billed_units": {"tokens": 1}},
        {"billed_units": {"input_tokens": -1}},
        {"billed_units": {"input_tokens": 1, "image_tokens": True}},
        {"billed_units": {"search_units": 0.5}},
    ],
)
def test_promise_7_usage_that_makes_no_sense_is_unreadable(stated):
    with pytest.raises(Unreadable):
        told({"usage": stated})
