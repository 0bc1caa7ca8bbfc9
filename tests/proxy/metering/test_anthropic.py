from __future__ import annotations

import pytest

from proxy.metering.anthropic import AnthropicTally
from proxy.metering.base import Facts
from proxy.metering.quantities import Unreadable


def told(*documents):
    tally = AnthropicTally()
    for document in documents:
        tally.read(document)
    return tally.usage()


def start(**usage):
    return {"type": "message_start", "message": {"model": "claude-x", "usage": usage}}


def delta(**usage):
    return {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}


@pytest.mark.parametrize(
    ("stated", "usage"),
    [
        ({"input_tokens": 10, "output_tokens": 5}, {"input_tokens": 10, "output_tokens": 5}),
        ({"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 0, "output_tokens": 0}),
        (
            {
                "input_tokens": 10,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 30,
                "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
                "output_tokens": 5,
                "output_tokens_details": {"thinking_tokens": 3},
                "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 1},
                "service_tier": "standard",
            },
            {
                "input_tokens": 140,
                "cache_read_tokens": 100,
                "cache_write_tokens": 30,
                "cache_write_5m_tokens": 20,
                "cache_write_1h_tokens": 10,
                "output_tokens": 5,
                "output_reasoning_tokens": 3,
                "web_searches": 2,
            },
        ),
        (
            {"input_tokens": 1, "output_tokens": 5, "cache_creation_input_tokens": 30, "cache_creation": None},
            {"input_tokens": 31, "output_tokens": 5, "cache_write_tokens": 30},
        ),
    ],
)
def test_usage(stated, usage):
    assert told({"type": "message", "model": "claude-x", "usage": stated}) == usage


def test_message_delta_overwrites_message_start_and_is_never_added():
    usage = told(
        start(input_tokens=10, output_tokens=3, cache_read_input_tokens=7, server_tool_use=None),
        delta(output_tokens=50, server_tool_use={"web_search_requests": 1}),
        delta(input_tokens=12, output_tokens=60, cache_read_input_tokens=None),
    )
    assert usage == {"input_tokens": 19, "output_tokens": 60, "cache_read_tokens": 7, "web_searches": 1}


def test_only_message_delta_is_final_and_message_start_names_the_model():
    tally = AnthropicTally()
    assert not tally.read(start(input_tokens=10, output_tokens=3))
    assert not tally.read({"type": "ping"})
    assert tally.read(delta(output_tokens=9))
    assert tally.model == "claude-x"


def test_promise_7_compaction_is_billed_beside_the_message():
    iterations = [
        {"type": "compaction", "input_tokens": 1000, "output_tokens": 90, "cache_read_input_tokens": 500},
        {"type": "message", "input_tokens": 20, "output_tokens": 5},
        {"type": ["odd"], "model": None},
        None,
    ]
    usage = told({"usage": {"input_tokens": 20, "output_tokens": 5, "iterations": iterations}})
    assert usage == {"input_tokens": 1520, "output_tokens": 95, "cache_read_tokens": 500}


def test_promise_7_an_advisor_is_billed_beside_the_message_and_is_another_model():
    tally = AnthropicTally()
    tally.read(start(input_tokens=8, output_tokens=1))
    advice = {"type": "advisor_message", "model": "claude-wise", "input_tokens": 70, "output_tokens": 9}
    tally.read(delta(input_tokens=20, output_tokens=5, iterations=[{"type": "message", "input_tokens": 20}, advice]))
    assert tally.usage() == {"input_tokens": 90, "output_tokens": 14}
    assert (tally.model, tally.flags) == ("claude-x", ["other_model"])


def test_a_fallback_s_tokens_are_in_the_message_s_own_counts():
    tally = AnthropicTally()
    served = {"type": "fallback_message", "model": "claude-other", "input_tokens": 20, "output_tokens": 5}
    tally.read({"usage": {"input_tokens": 20, "output_tokens": 5, "iterations": [served]}})
    assert (tally.usage(), tally.flags) == ({"input_tokens": 20, "output_tokens": 5}, [])


@pytest.mark.parametrize(
    ("stated", "terms"),
    [
        ({"service_tier": "standard", "speed": "standard"}, {"service_tier": "standard", "speed": "standard"}),
        ({"service_tier": "priority", "speed": "fast"}, {"service_tier": "priority", "speed": "fast"}),
        ({"service_tier": None}, {}),
        ({"service_tier": ["odd"], "speed": 1}, {}),
    ],
)
def test_the_terms_that_served(stated, terms):
    tally = AnthropicTally()
    tally.read(start(input_tokens=1, **stated))
    tally.read(delta(output_tokens=1))
    assert tally.terms == terms


@pytest.mark.parametrize(
    "path", ["/v1/messages/count_tokens", "/v1/x/publishers/anthropic/models/count-tokens:rawPredict"]
)
def test_counting_tokens_bills_nothing(path):
    tally = AnthropicTally(Facts(path))
    assert not tally.read({"type": "error", "error": {"type": "not_found_error"}})
    assert tally.usage() is None
    assert tally.read({"input_tokens": 4})
    assert (tally.usage(), tally.flags) == ({}, [])


@pytest.mark.parametrize(
    "stated",
    [
        {},
        "12",
        {"input_tokens": 5},
        {"output_tokens": 5},
        {"input_tokens": -5, "output_tokens": 5},
        {"input_tokens": 5, "output_tokens": True},
        {"input_tokens": 5, "output_tokens": 5, "cache_creation": 3},
        {"input_tokens": 5, "output_tokens": 5, "cache_read_input_tokens": "3"},
    ],
)
def test_promise_7_usage_that_makes_no_sense_is_unreadable(stated):
    with pytest.raises(Unreadable):
        told({"usage": stated})


def test_a_last_word_that_makes_no_sense_takes_back_the_first():
    with pytest.raises(Unreadable):
        told(start(input_tokens=10, output_tokens=3), {"type": "message_delta", "usage": 7})


def test_no_usage_is_none():
    assert told({"type": "ping"}, {"input_tokens": 4}) is None
