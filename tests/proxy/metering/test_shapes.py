"""Parsing fast and parsing little must tell the same as parsing all with Python's own parser."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.metering import quantities
from proxy.metering.base import Facts
from proxy.metering.formats import FORMATS
from proxy.metering.quantities import Unreadable, document_of

WORDS = [
    *("usage", "meta", "message", "model", "choices", "response", "delta", "output", "type", "action", "service_tier"),
    *("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens", "billed_units", "text"),
    *("x_groq", "usage_info", "pages_processed", "tool_usage", "web_search", "num_requests", "duration", "cost"),
    *("usageMetadata", "modelVersion", "candidates", "finishReason", "groundingMetadata", "webSearchQueries"),
    *("promptTokenCount", "candidatesTokenCount", "totalTokenCount", "promptFeedback", "blockReason", "totalTokens"),
    *("predictions", "embeddings", "statistics", "token_count", "web_search_call", "search", "priority", "flex"),
]
LEAVES = st.one_of(
    st.sampled_from([json.dumps(word) for word in WORDS]),
    st.sampled_from(["0", "7", "-1", "1.5", "1e3", "true", "null", "NaN", "1e400", '"\\ud800"', "9" * 30, "[]", "{}"]),
)


def objects(inner):
    member = st.tuples(st.sampled_from(WORDS), inner)
    return st.lists(member, max_size=5).map(lambda them: "{" + ",".join(f'"{key}":{item}' for key, item in them) + "}")


DOCUMENTS = objects(
    st.recursive(
        LEAVES,
        lambda inner: objects(inner) | st.lists(inner, max_size=2).map(lambda items: f"[{','.join(items)}]"),
        max_leaves=8,
    )
)
PATHS = ["/v1/chat/completions", "/v1/responses", "/v1/audio/transcriptions", "/v1/messages/count_tokens", "/tokenize"]


def told(made, path, document):
    """All that a tally says of a document; None where it is no object."""
    if not isinstance(document, dict):
        return None
    tally = made(Facts(path))
    final = tally.read(document)
    try:
        usage = tally.usage()
    except Unreadable:
        usage = "unreadable"
    return final, usage, tally.model, tally.terms, tally.flags


@settings(deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.sampled_from(PATHS), DOCUMENTS)
def test_what_a_shape_leaves_out_nobody_reads(name, path, text):
    made = FORMATS[name]
    exact = made(Facts(path)).exact
    whole = quantities._odd_document(text.encode(), exact)
    shaped = document_of(text.encode(), exact=exact, shape=made.shape)
    assert told(made, path, shaped) == told(made, path, whole)


ODD = [
    "{",
    "[1,]",
    "\ufeff1",
    "01",
    "1.",
    '"\\x"',
    '"\n"',
    "1 2",
    "-0.0",
    "1e-400",
    "Infinity",
    "0.1e1",
    '"\x7f"',
    "[" * 2000,
]


@settings(deadline=None)
@given(DOCUMENTS | st.sampled_from(ODD) | st.floats().map(repr) | st.integers().map(str) | st.text().map(json.dumps))
@pytest.mark.parametrize("exact", [False, True])
def test_both_parsers_agree(exact, text):
    fast, slow = document_of(text.encode(), exact=exact), quantities._odd_document(text.encode(), exact)
    assert repr(fast) == repr(slow)
    if isinstance(slow, float) and not math.isnan(slow):
        assert fast == slow


def test_vectors_that_nobody_reads_are_not_built():
    answer = b'{"data":[{"embedding":[0.1,0.2]}],"model":"m","usage":{"prompt_tokens":1}}'
    assert document_of(answer, shape=FORMATS["openai"].shape) == {"model": "m", "usage": {"prompt_tokens": 1}}
    assert document_of(answer.replace(b"0.2", b"0."), shape=FORMATS["openai"].shape) is None
