"""What the harnesses share: the cutting of bytes, small bounds, and the strategies that the inputs are drawn from."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from hypothesis import strategies as st

from proxy.metering import jsonarray, reader, sse

BOUND = 200


def pieces(data: bytes) -> Iterator[bytes]:
    """The same bytes, cut at places that they themselves decide."""
    cut = random.Random(zlib.crc32(data))
    most = cut.choice((1, 3, 17, 400))
    while data:
        size = cut.randint(1, most)
        yield data[:size]
        data = data[size:]


@contextmanager
def small_bounds() -> Iterator[None]:
    """What production bounds by megabytes, by bytes: within a fuzzer's reach."""
    bounds = [(sse, "EVENT_MAX", BOUND), (jsonarray, "ELEMENT_MAX", BOUND)]
    bounds += [(reader, "BODY_MAX", 8 * BOUND), (reader, "LARGE", 4 * BOUND), (reader, "TAIL", BOUND)]
    with ExitStack() as patches:
        for module, name, value in bounds:
            patches.enter_context(patch.object(module, name, value))
        yield


# What wire formats call things, as keys and as values; and numbers that are none, or too many.
_VOCABULARY = """
    usage usageMetadata meta error type message response model choices delta content text x_groq billed_units result
    isError id prompt_tokens completion_tokens total_tokens input_tokens output_tokens cached_tokens reasoning_tokens
    prompt_tokens_details completion_tokens_details input_tokens_details cache_creation cache_read_input_tokens
    cache_creation_input_tokens ephemeral_5m_input_tokens iterations server_tool_use web_search_requests speed
    promptTokenCount candidatesTokenCount totalTokenCount thoughtsTokenCount cachedContentTokenCount modality
    promptTokensDetails tokenCount webSearchQueries groundingMetadata candidates inputTokens outputTokens cacheDetails
    serviceTier service_tier output web_search_call tool_usage web_search num_requests duration seconds cost is_byok
    search_units inputTextTokenCount results prompt_token_count method params name tools max_tokens n stream prompt
    max_completion_tokens max_output_tokens stream_options include_usage messages input generationConfig
    maxOutputTokens inferenceConfig maxTokens thinking budget_tokens role user image_url url
    data:image/png;base64,AAAA gpt-4o-mini gpt-4o-search-preview claude-opus-5 gemini-2.5-pro text-embedding-3-small
    priority flex completed
"""
WORDS = tuple(_VOCABULARY.split())
NUMBERS = (
    *("0", "-0", "1", "17", "-1", "0.5", "1e3", "1e-7", "1E400", "-1e999999999999", "1e-999999", "NaN", "-Infinity"),
    *("1000000000000000", "9" * 4400, "0." + "3" * 60),
)


def json_text(words: Sequence[str] = WORDS) -> st.SearchStrategy[bytes]:
    """JSON documents of these words, in any nesting; some of their numbers no reader should take."""
    word = st.sampled_from(words).map(json.dumps) | st.text(max_size=6).map(json.dumps)
    leaf = word | st.sampled_from((*NUMBERS, "true", "false", "null"))
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]"),
            st.lists(st.tuples(word, inner), max_size=5).map(
                lambda members: "{" + ", ".join(f"{key}:{value}" for key, value in members) + "}"
            ),
        ),
        max_leaves=12,
    ).map(lambda text: text.encode("utf-8", "surrogatepass"))


def stream_of(document: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Server-sent events of such documents, with line ends, comments and slips of every kind."""
    end = st.sampled_from((b"\n\n", b"\r\n\r\n", b"\r\r", b"\n", b"\r\n", b"\r", b"\n\r\n", b""))
    lead = st.sampled_from(
        (b"data: ", b"data:", b"event: error\ndata: ", b": ", b"id: 7\r\ndata: ", b"\xef\xbb\xbfdata:")
    )
    done = st.just(b"data: [DONE]\n\n")
    event = st.tuples(lead, document, end).map(b"".join)
    return st.lists(event | done | st.binary(max_size=4), max_size=6).map(b"".join)


def array_of(document: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """JSON arrays of such documents, whole or cut."""
    whole = st.lists(document, max_size=5).map(lambda items: b"[" + b",\r\n ".join(items) + b"]")
    return st.tuples(whole, st.integers(0, 12)).map(
        lambda made: made[0][: len(made[0]) - made[1]] if made[1] < 4 else made[0]
    )


def chosen(rest: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """A first byte, by which a harness takes one of its cases, before the rest."""
    return st.tuples(st.integers(0, 255), rest).map(lambda made: bytes(made[:1]) + made[1])
