from __future__ import annotations

from typing import Any

import pytest

from policy.terms import asked_terms

PRIORITY = {"service_tier": "priority"}


@pytest.mark.parametrize(
    ("body", "terms"),
    [
        ({"model": "gpt-5.2", "service_tier": "priority"}, PRIORITY),
        ({"model": "gpt-5.2", "service_tier": "flex"}, {"service_tier": "flex"}),
        ({"model": "gpt-5.2", "service_tier": "fast"}, {"service_tier": "fast"}),
        ({"serviceTier": "PRIORITY", "contents": []}, PRIORITY),
        ({"serviceTier": "SERVICE_TIER_FLEX", "contents": []}, {"service_tier": "flex"}),
        ({"generationConfig": {"serviceTier": "priority"}}, PRIORITY),
        ({"serviceTier": {"type": "priority"}, "messages": []}, PRIORITY),
        ({"model": "claude-opus-5", "speed": "fast"}, {"speed": "fast"}),
        (
            {"model": "claude-opus-5", "speed": "fast", "service_tier": "priority"},
            {"service_tier": "priority", "speed": "fast"},
        ),
        # which of two a lenient upstream believes is not known: the one that is not the standard
        ({"service_tier": "default", "serviceTier": "priority"}, PRIORITY),
    ],
)
def test_the_terms_asked_for_by_each_providers_spelling(body: Any, terms: dict[str, str]) -> None:
    assert asked_terms(body) == terms


@pytest.mark.parametrize(
    "tier", ["auto", "default", "standard", "standard_only", "on_demand", "unspecified", "SERVICE_TIER_UNSPECIFIED", ""]
)
def test_what_is_standard_is_left_out(tier: str) -> None:
    assert asked_terms({"service_tier": tier, "serviceTier": {"type": tier}, "speed": tier}) == {}


@pytest.mark.parametrize(
    "body",
    [
        None, [], "priority", 1, {}, {"service_tier": None}, {"service_tier": 1}, {"service_tier": ["priority"]},
        {"serviceTier": {"type": {"type": "priority"}}}, {"serviceTier": {}}, {"speed": {"type": "fast"}},
        {"generationConfig": "priority"}, {"messages": [{"service_tier": "priority"}]},
    ],
)  # fmt: skip
def test_nonsense_and_what_stands_elsewhere_ask_for_nothing(body: Any) -> None:
    assert asked_terms(body) == {}
