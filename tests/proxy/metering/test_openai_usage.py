from __future__ import annotations

import pytest

from proxy.metering.openai_usage import quantities
from proxy.metering.quantities import Unreadable

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
    assert quantities(stated, "m") == usage


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
    assert quantities(stated, "m") == usage


@pytest.mark.parametrize(
    "stated",
    [
        {},
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
        quantities(stated, "m")


@pytest.mark.parametrize(
    ("stated", "kind", "quantity"),
    [
        ({"prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36}, "cache_read_tokens", 64),  # DeepSeek
        ({"num_cached_tokens": 32}, "cache_read_tokens", 32),  # Mistral
        ({"cached_tokens": 9}, "cache_read_tokens", 9),  # Together
        ({"cached_tokens": 9, "prompt_tokens_details": {"cached_tokens": 9}}, "cache_read_tokens", 9),
        ({"cached_tokens": 0, "prompt_tokens_details": {"cached_tokens": 5}}, "cache_read_tokens", 5),
        ({"cache_creation_input_tokens": 7}, "cache_write_tokens", 7),  # LiteLLM
        ({"prompt_tokens_details": {"cache_creation_input_tokens": 7}}, "cache_write_tokens", 7),  # Alibaba
        ({"total_tokens": 105, "connector_tokens": 40}, "input_tool_tokens", 40),  # counted with the input already
        ({"prompt_audio_seconds": 12}, "input_audio_seconds", 12),  # Mistral
    ],
)
def test_what_stands_beside_the_two_sides_is_no_addition_to_them(stated, kind, quantity):
    usage = {"prompt_tokens": 100, "completion_tokens": 5, **stated}
    assert quantities(usage, "m") == {"input_tokens": 100, "output_tokens": 5, kind: quantity}


@pytest.mark.parametrize(
    ("total", "reasoning", "output"),
    [
        (135, 94, 103),  # xAI: 32 + 9 + 94
        (41, 5, 9),  # OpenAI: the completion includes them
        (140, 94, 103),  # what is unexplained beside them stays so
        (100, 94, 9),  # the total has no room for them
        (41, 94, 9),  # seen of OpenRouter: more reasoning than completion
        (140, 0, 9),
        (None, 94, 9),
    ],
)
def test_promise_7_reasoning_is_charged_where_the_completion_leaves_it_out(total, reasoning, output):
    stated = {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": total}
    found = quantities({**stated, "completion_tokens_details": {"reasoning_tokens": reasoning}}, "grok-4")
    assert (found["output_tokens"], found.get("output_reasoning_tokens", 0)) == (output, reasoning)


def test_promise_7_geminis_thoughts_stand_in_the_total_alone():
    stated = {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109}
    thinking = {"input_tokens": 35, "output_tokens": 74, "output_reasoning_tokens": 62}
    assert quantities(stated, "models/gemini-2.5-pro") == thinking
    assert quantities(stated, "voxtral-mini") == {"input_tokens": 35, "output_tokens": 12}


def test_perplexitys_deep_research_is_charged_for_reasoning_and_citations():
    stated = {
        "prompt_tokens": 33,
        "completion_tokens": 7_163,
        "total_tokens": 7_196,
        "citation_tokens": 20_016,
        "num_search_queries": 18,
        "reasoning_tokens": 73_997,
    }
    assert quantities(stated, "sonar-deep-research") == {
        "input_tokens": 33,
        "output_tokens": 7_163 + 20_016 + 73_997,
        "output_reasoning_tokens": 73_997,
        "output_citation_tokens": 20_016,
        "web_searches": 18,
    }


def test_pictures():
    stated = {
        "input_tokens": 50,
        "output_tokens": 1_056,
        "total_tokens": 1_106,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
    }
    read = {"input_tokens": 50, "input_text_tokens": 10, "input_image_tokens": 40, "output_tokens": 1_056}
    assert quantities(stated, "gpt-image-1", image=True) == {**read, "output_image_tokens": 1_056}
    details = {"output_tokens_details": {"image_tokens": 1_000, "text_tokens": 56}}
    assert quantities({**stated, **details}, "gpt-image-1.5", image=True) == {
        **read,
        "output_image_tokens": 1_000,
        "output_text_tokens": 56,
    }


def test_a_transcript_states_its_details_in_the_singular():
    stated = {"type": "tokens", "input_tokens": 14, "input_token_details": {"text_tokens": 0, "audio_tokens": 14}}
    assert quantities({**stated, "output_tokens": 45, "total_tokens": 59}, "gpt-4o-transcribe") == {
        "input_tokens": 14,
        "input_audio_tokens": 14,
        "output_tokens": 45,
    }
