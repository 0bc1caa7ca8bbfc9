from __future__ import annotations

import pytest

from proxy.metering.openai import OpenAITally
from proxy.metering.quantities import Unreadable


def told(*documents):
    tally = OpenAITally()
    for document in documents:
        tally.read(document)
    return tally.usage()


CHAT = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 20, "cache_write_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 5, "accepted_prediction_tokens": 1},
}
RESPONSES = {
    "input_tokens": 40,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 49,
}


@pytest.mark.parametrize(
    ("stated", "usage"),
    [
        (
            CHAT,
            {
                "input_tokens": 100,
                "cache_read_tokens": 64,
                "cache_write_tokens": 8,
                "input_audio_tokens": 20,
                "output_tokens": 50,
                "output_reasoning_tokens": 30,
                "output_audio_tokens": 5,
            },
        ),
        (RESPONSES, {"input_tokens": 40, "output_tokens": 9, "output_reasoning_tokens": 4}),
        ({"prompt_tokens": 8, "total_tokens": 8}, {"input_tokens": 8}),
        ({"prompt_tokens": 0, "completion_tokens": 0}, {"input_tokens": 0, "output_tokens": 0}),
        ({"prompt_tokens": 5, "prompt_tokens_details": None}, {"input_tokens": 5}),
        (
            {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens_details": {"audio_tokens": 3}}},
            {"input_tokens": 5, "cache_audio_read_tokens": 3},
        ),
        (
            {
                "input_tokens": 5,
                "output_tokens": 7,
                "input_tokens_details": {"image_tokens": 3},
                "output_tokens_details": {"image_tokens": 6},
            },
            {"input_tokens": 5, "output_tokens": 7, "input_image_tokens": 3, "output_image_tokens": 6},
        ),
    ],
)
def test_usage(stated, usage):
    assert told({"model": "m", "usage": stated}) == usage


@pytest.mark.parametrize(
    ("stated", "usage"),
    [
        ({"total_tokens": 12}, {"input_tokens": 12}),
        ({"prompt_tokens": 5, "total_tokens": 12}, {"input_tokens": 5, "output_tokens": 7}),
        ({"completion_tokens": 5, "total_tokens": 12}, {"input_tokens": 7, "output_tokens": 5}),
        ({"completion_tokens": 5, "total_tokens": 3}, {"input_tokens": 0, "output_tokens": 5}),
    ],
)
def test_promise_7_a_side_that_is_not_stated_is_what_the_total_leaves(stated, usage):
    assert told({"usage": stated}) == usage


@pytest.mark.parametrize(
    "stated",
    [
        {},
        "12",
        {"completion_tokens": 5},
        {"prompt_tokens": -1, "completion_tokens": 5},
        {"prompt_tokens": True, "completion_tokens": 5},
        {"prompt_tokens": 5, "completion_tokens": "5"},
        {"prompt_tokens": 5, "completion_tokens": 1.5},
        {"prompt_tokens": 5, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": -3}},
        {"prompt_tokens": 5, "completion_tokens": 5, "prompt_tokens_details": [3]},
    ],
)
def test_promise_7_usage_that_makes_no_sense_is_unreadable(stated):
    with pytest.raises(Unreadable):
        told({"usage": stated})


def test_no_usage_is_none():
    assert told() is None
    assert told({"usage": None}, {"choices": []}, {"response": {"usage": None}}) is None


def test_the_last_usage_of_a_stream_counts_and_a_null_does_not_undo_it():
    running = {"prompt_tokens": 5, "completion_tokens": 1}
    final = {"prompt_tokens": 5, "completion_tokens": 9}
    assert told({"usage": running}, {"usage": final}, {"usage": None}) == {"input_tokens": 5, "output_tokens": 9}


@pytest.mark.parametrize("ending", ["completed", "incomplete", "failed"])
def test_the_terminal_event_of_a_response_carries_usage_and_the_model_served(ending):
    tally = OpenAITally()
    assert not tally.read({"type": "response.created", "response": {"model": "o4-mini", "usage": None}})
    assert tally.read({"type": f"response.{ending}", "response": {"model": "o4-mini-2025", "usage": RESPONSES}})
    assert tally.usage() == {"input_tokens": 40, "output_tokens": 9, "output_reasoning_tokens": 4}
    assert tally.model == "o4-mini-2025"
