from __future__ import annotations

import pytest

from proxy.metering.base import Facts
from proxy.metering.gemini import GeminiTally
from proxy.metering.quantities import Unreadable

STREAM = "/v1beta/models/gemini-3-flash-preview:streamGenerateContent"


def tally(*documents, path=STREAM):
    found = GeminiTally(Facts(path))
    for document in documents:
        found.read(document)
    return found


def told(stated, **more):
    return tally({"usageMetadata": stated}, **more).usage()


def chunk(text="hi", finish=None, **usage):
    candidate = {"content": {"parts": [{"text": text}]}} | ({"finishReason": finish} if finish else {})
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-3-flash"}


def details(**tokens):
    return [{"modality": modality, "tokenCount": count} for modality, count in tokens.items()]


FULL = {
    "promptTokenCount": 100,
    "cachedContentTokenCount": 40,
    "toolUsePromptTokenCount": 30,
    "candidatesTokenCount": 20,
    "thoughtsTokenCount": 7,
    "totalTokenCount": 157,
    "promptTokensDetails": details(TEXT=50, AUDIO=20, IMAGE=10, DOCUMENT=5, VIDEO=15),
    "cacheTokensDetails": details(TEXT=30, AUDIO=10),
    "toolUsePromptTokensDetails": details(TEXT=30),
    "candidatesTokensDetails": details(TEXT=8, IMAGE=12, HOLOGRAM=1),
    "trafficType": "ON_DEMAND",
    "serviceTier": "standard",
}


def test_thoughts_and_tools_add_and_cached_tokens_are_included():
    assert told(FULL) == {
        "input_tokens": 130,
        "cache_read_tokens": 40,
        "input_tool_tokens": 30,
        "input_text_tokens": 80,
        "input_text_tool_tokens": 30,
        "input_audio_tokens": 20,
        "input_image_tokens": 15,
        "input_video_tokens": 15,
        "cache_text_read_tokens": 30,
        "cache_audio_read_tokens": 10,
        "output_tokens": 27,
        "output_reasoning_tokens": 7,
        "output_text_tokens": 8,
        "output_image_tokens": 12,
    }


@pytest.mark.parametrize(
    ("stated", "into", "out"),
    [
        ({"promptTokenCount": 7, "totalTokenCount": 7}, 7, 0),
        ({"promptTokenCount": 7}, 7, 0),
        ({"promptTokenCount": 7, "candidatesTokenCount": 2, "totalTokenCount": 30}, 7, 23),
        ({"candidatesTokenCount": 2, "totalTokenCount": 30}, 28, 2),
        ({"totalTokenCount": 30}, 30, 0),
    ],
)
def test_promise_7_what_the_total_has_beyond_the_counts_is_not_free(stated, into, out):
    assert told(stated) == {"input_tokens": into, "output_tokens": out}


def test_embeddings_spell_their_details_otherwise():
    path = "/v1beta/models/gemini-embedding-2:batchEmbedContents"
    stated = {"promptTokenCount": 9, "promptTokenDetails": details(TEXT=4, IMAGE=5)}
    used = {"input_tokens": 9, "output_tokens": 0, "input_text_tokens": 4, "input_image_tokens": 5}
    assert told(stated, path=path) == used


@pytest.mark.parametrize(
    "stated",
    [
        "12",
        [],
        {"promptTokenCount": -1},
        {"promptTokenCount": True},
        {"promptTokenCount": "5"},
        {"promptTokenCount": 5, "thoughtsTokenCount": 1.5},
        {"promptTokenCount": 5, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": -5}]},
    ],
)
def test_promise_7_usage_that_makes_no_sense_is_unreadable(stated):
    with pytest.raises(Unreadable):
        told(stated)


def test_promise_7_usage_without_a_count_is_none():
    assert told({"trafficType": "ON_DEMAND"}) is None
    assert tally({"candidates": []}, {"usageMetadata": None}).usage() is None


def test_a_prompt_that_was_kept_from_the_model_used_nothing():
    found = GeminiTally()
    assert found.read({"promptFeedback": {"blockReason": "MODEL_ARMOR"}, "usageMetadata": {"trafficType": "ON_DEMAND"}})
    assert found.usage() == {"input_tokens": 0, "output_tokens": 0}


def test_a_prompt_that_was_blocked_by_the_model_is_billed():
    stated = {"promptTokenCount": 9, "totalTokenCount": 9}
    assert tally({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": stated}).usage()["input_tokens"] == 9


def test_the_chunk_that_ends_the_answer_is_its_last_word():
    found = GeminiTally(Facts(STREAM))
    assert not found.read(chunk(promptTokenCount=169, totalTokenCount=169))
    assert not found.read(chunk(promptTokenCount=169, candidatesTokenCount=5, totalTokenCount=174))
    assert found.read(chunk(finish="STOP", promptTokenCount=79, candidatesTokenCount=12, totalTokenCount=91))
    assert found.usage() == {"input_tokens": 79, "output_tokens": 12}
    assert found.model == "gemini-3-flash"


def test_promise_7_of_a_stream_that_is_cut_the_largest_usage_counts():
    first = chunk(promptTokenCount=8, candidatesTokenCount=20, thoughtsTokenCount=419, totalTokenCount=447)
    after_a_tool = chunk(promptTokenCount=8, totalTokenCount=8)
    served = chunk(trafficType="ON_DEMAND")
    assert tally(first, after_a_tool, served).usage()["output_tokens"] == 439


def test_usage_inside_of_a_response():
    found = tally({"response": chunk(finish="STOP", promptTokenCount=3), "traceId": "x"})
    assert (found.usage(), found.model) == ({"input_tokens": 3, "output_tokens": 0}, "gemini-3-flash")


@pytest.mark.parametrize(
    ("stated", "terms"),
    [
        ({"serviceTier": "standard"}, {"service_tier": "standard"}),
        ({"serviceTier": "flex"}, {"service_tier": "flex"}),
        ({"serviceTier": "SERVICE_TIER_PRIORITY"}, {"service_tier": "priority"}),
        ({"serviceTier": "SERVICE_TIER_UNSPECIFIED"}, {}),
        ({"trafficType": "ON_DEMAND"}, {"service_tier": "standard"}),
        ({"trafficType": "ON_DEMAND_FLEX"}, {"service_tier": "flex"}),
        ({"trafficType": "ON_DEMAND_PRIORITY"}, {"service_tier": "priority"}),
        ({"trafficType": "PROVISIONED_THROUGHPUT"}, {}),
        ({"serviceTier": None, "trafficType": 7}, {}),
    ],
)
def test_the_tier_that_served(stated, terms):
    assert tally({"usageMetadata": {"promptTokenCount": 1, **stated}}).terms == terms


def grounded(*queries, model="gemini-3-flash", **usage):
    candidate = {"groundingMetadata": {"webSearchQueries": list(queries)}}
    return {"candidates": [candidate], "modelVersion": model, "usageMetadata": {"promptTokenCount": 1, **usage}}


def billed(count, tool="GOOGLE_SEARCH_RETRIEVAL"):
    return {"billedToolCalls": [{"tool": tool, "successfulToolCallCount": count}]}


@pytest.mark.parametrize(
    ("documents", "searches"),
    [
        ([grounded("a", "", "b", "a")], 2),
        ([grounded("a"), grounded("a", "b")], 2),
        ([grounded("a", "b", model="gemini-2.5-pro")], 1),
        ([grounded("", model="gemini-2.5-pro")], None),
        ([grounded()], None),
        ([grounded(**billed(3))], 3),
        ([grounded("a", "b", **billed(1))], 1),
        ([grounded("a", "b", **billed(5, "FILE_SEARCH"))], 2),
        ([grounded(model="gemini-2.0-flash", **billed(4))], 1),
        ([{"candidates": [{"groundingMetadata": {"webSearchQueries": "a"}}], **grounded(7)}], None),
    ],
)
def test_searches_are_billed_by_query_and_before_gemini_3_by_prompt(documents, searches):
    assert tally(*documents).usage().get("web_searches") == searches


def test_counting_tokens_bills_nothing():
    counted = {"totalTokens": 31, "promptTokensDetails": details(TEXT=31)}
    assert tally(counted, path="/v1beta/models/gemini-3-flash:countTokens").usage() == {}
    assert tally(counted).usage() is None


@pytest.mark.parametrize("odd", [None, 7, "x", [], [7], {"a": 1}])
def test_hazard_29_odd_documents_never_raise(odd):
    keys = ("response", "candidates", "promptFeedback", "modelVersion", "totalTokens")
    assert tally(*({key: odd} for key in keys)).usage() is None
    assert tally({"candidates": [{"groundingMetadata": odd, "finishReason": odd}]}).usage() is None
    more = {"billedToolCalls": odd, "promptTokensDetails": odd, "serviceTier": "", "trafficType": odd}
    assert told({"promptTokenCount": 1, **more}) == {"input_tokens": 1, "output_tokens": 0}


def embedded(*counts):
    statistics = ({"embeddings": {"values": [0.5], "statistics": {"token_count": each}}} for each in counts)
    return {"predictions": [*statistics], "metadata": {"billableCharacterCount": 12}}


def test_embeddings_of_vertex_ai_count_each_text_by_itself():
    assert tally(embedded(6, 4.0)).usage() == {"input_tokens": 10}
    assert tally(embedded(0)).usage() == {"input_tokens": 0}


def test_promise_7_predictions_that_do_not_count_tokens_are_none():
    assert tally(embedded()).usage() is None
    assert tally(embedded(6, None)).usage() is None
    assert tally({"predictions": [{"bytesBase64Encoded": "AA"}]}).usage() is None
    with pytest.raises(Unreadable):
        tally(embedded("6")).usage()
