from __future__ import annotations

import json

import pytest

from proxy.metering import reader_for
from proxy.metering.base import Facts, Metered
from proxy.metering.bedrock import BedrockTally
from proxy.metering.quantities import Unreadable

CONVERSE = "/model/us.anthropic.claude-x-v1%3A0/converse"
INVOKE = "/model/some.model-v1%3A0/invoke"
JSON = "application/json"


def told(document, path=INVOKE, **headers):
    tally = BedrockTally(
        Facts(path, None, [(name.replace("_", "-").encode(), value) for name, value in headers.items()])
    )
    tally.read(document)
    return tally.usage()


def metered(path, content, kind=JSON, status=200, **headers):
    headers = [(b"content-type", kind.encode())] + [
        (f"X-Amzn-Bedrock-{name.replace('_', '-')}".encode(), value.encode()) for name, value in headers.items()
    ]
    reader = reader_for("bedrock", path, status, kind, "", headers=headers)
    reader.feed(content if isinstance(content, bytes) else json.dumps(content).encode())
    return reader.finish()


@pytest.mark.parametrize(
    ("stated", "usage"),
    [
        (
            {"inputTokens": 25, "outputTokens": 4, "totalTokens": 29, "serverToolUsage": {}},
            {"input_tokens": 25, "output_tokens": 4},
        ),
        (
            {"inputTokens": 400, "outputTokens": 16, "totalTokens": 3168, "cacheReadInputTokens": 2752},
            {"input_tokens": 3152, "output_tokens": 16, "cache_read_tokens": 2752},
        ),
        (
            {
                "inputTokens": 10,
                "outputTokens": 2,
                "cacheReadInputTokens": 5,
                "cacheReadInputTokenCount": 5,
                "cacheWriteInputTokens": 100,
                "cacheDetails": [{"ttl": "1h", "inputTokens": 70}, {"ttl": "5m", "inputTokens": 30}, None],
            },
            {
                "input_tokens": 115,
                "output_tokens": 2,
                "cache_read_tokens": 5,
                "cache_write_tokens": 100,
                "cache_write_1h_tokens": 70,
                "cache_write_5m_tokens": 30,
            },
        ),
        (
            {"inputTokens": 1, "outputTokens": 2, "cacheDetails": [{"ttl": "5m", "inputTokens": 30}]},
            {"input_tokens": 31, "output_tokens": 2, "cache_write_tokens": 30, "cache_write_5m_tokens": 30},
        ),
    ],
)
def test_converse_leaves_the_cache_out_of_its_input_and_ours_has_it_in(stated, usage):
    assert told({"output": {}, "usage": stated}, CONVERSE) == usage


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        (
            {"type": "message", "usage": {"input_tokens": 3, "cache_read_input_tokens": 9, "output_tokens": 7}},
            {"input_tokens": 12, "output_tokens": 7, "cache_read_tokens": 9},
        ),
        (
            {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 7}},
            {"input_tokens": 3, "output_tokens": 7},
        ),
        (  # Nova
            {
                "usage": {
                    "inputTokens": 3,
                    "outputTokens": 7,
                    "cacheReadInputTokenCount": 2,
                    "cacheWriteInputTokenCount": 1,
                }
            },
            {"input_tokens": 6, "output_tokens": 7, "cache_read_tokens": 2, "cache_write_tokens": 1},
        ),
        ({"embedding": [0.5], "inputTextTokenCount": 5}, {"input_tokens": 5, "output_tokens": 0}),
        (
            {"inputTextTokenCount": 5, "results": [{"tokenCount": 7, "outputText": "a"}, {"tokenCount": 2}]},
            {"input_tokens": 5, "output_tokens": 9},
        ),
        (
            {"generation": "hi", "prompt_token_count": 5, "generation_token_count": 7},
            {"input_tokens": 5, "output_tokens": 7},
        ),
        ({"embeddings": [[0.5]], "texts": ["a"]}, None),
        ({"usage": {"contentPolicyUnits": 1}}, None),
        ({"usage": None}, None),
    ],
)
def test_the_answer_of_each_family_of_models(answer, usage):
    assert told(answer) == usage


def test_promise_7_what_a_body_leaves_out_its_headers_say():
    body = {"embeddings": [[0.5]]}
    assert metered(INVOKE, body, Input_Token_Count="12").usage == {"input_tokens": 12, "output_tokens": 0}
    full = {"Input_Token_Count": "2", "Output_Token_Count": "3", "Cache_Read_Input_Token_Count": "5"}
    assert metered(INVOKE, body, **full, Cache_Write_Input_Token_Count="7") == Metered(
        {"input_tokens": 14, "output_tokens": 3, "cache_read_tokens": 5, "cache_write_tokens": 7}
    )
    assert metered(INVOKE, {"inputTextTokenCount": 5}, Input_Token_Count="12").usage["input_tokens"] == 5


@pytest.mark.parametrize("stated", ["many", "-1", "1.5", ""])
def test_promise_7_a_header_that_makes_no_sense_is_unreadable(stated):
    assert metered(INVOKE, {}, Input_Token_Count=stated).usage is None
    assert metered(INVOKE, {"embeddings": []}, Input_Token_Count=stated) == Metered(flags=("unreadable",))


@pytest.mark.parametrize(
    "document",
    [
        {"usage": {"inputTokens": -1, "outputTokens": 1}},
        {"usage": {"inputTokens": None, "outputTokens": 1}},
        {"usage": {"inputTokens": 1, "outputTokens": "1"}},
        {"usage": {"inputTokens": 1, "cacheDetails": [{"ttl": "5m", "inputTokens": True}]}},
        {"usage": {"input_tokens": 1}},
        {"inputTextTokenCount": 1.5},
        {"inputTextTokenCount": 1, "results": ["x"]},
        {"prompt_token_count": None},
    ],
)
def test_promise_7_usage_that_makes_no_sense_is_unreadable(document):
    with pytest.raises(Unreadable):
        told(document)


def test_the_model_stands_in_the_path_and_not_in_the_answer():
    answer = {"type": "message", "model": "claude-x", "usage": {"input_tokens": 3, "output_tokens": 7}}
    assert metered(INVOKE, answer).model is None


def test_the_tier_that_served():
    usage = {"inputTokens": 1, "outputTokens": 1}
    assert metered(CONVERSE, {"usage": usage, "serviceTier": {"type": "flex"}}).terms == {"service_tier": "flex"}
    assert metered(CONVERSE, {"usage": usage, "serviceTier": {"type": "default"}}).terms == {"service_tier": "default"}
    assert metered(CONVERSE, {"usage": usage, "serviceTier": {"type": ["flex"]}}).terms == {}
    assert metered(INVOKE, {"usage": usage}, Service_Tier="priority").terms == {"service_tier": "priority"}


def test_counting_tokens_bills_nothing_and_is_no_oddity():
    assert metered("/model/x/count-tokens", {"inputTokens": 375}) == Metered({})
    assert metered("/model/x/count-tokens", {"message": "no such model"}, status=400) == Metered()


@pytest.mark.parametrize("path", ["/model/x/converse-stream", "/model/x/invoke-with-response-stream"])
def test_promise_7_a_binary_stream_is_not_metered_and_says_so(path):
    found = metered(path, b"\0\0\0\x9f\0\0\0W...", "application/vnd.amazon.eventstream", Input_Token_Count="5")
    assert found == Metered(flags=("binary_stream",))
    assert metered(path, {"message": "no such model"}, status=400) == Metered()
