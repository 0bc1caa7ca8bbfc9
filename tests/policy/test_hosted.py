from __future__ import annotations

from decimal import Decimal

import pytest

from policy.estimate import estimate
from policy.hosted import hosted_uses, names_more
from policy.input import RequestFacts
from policy.model import Match, Price
from policy.units import make_rate

FUNCTION = {"type": "function", "function": {"name": "web_search"}}


@pytest.mark.parametrize(
    ("body", "models", "uses"),
    [
        ({"tools": [{"type": "web_search"}]}, "", {"web_searches": 5}),
        ({"tools": [{"type": "web_search_preview"}, {"type": "web_search"}]}, "", {"web_searches": 10}),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}, "", {"storage_searches": 5}),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]}, "", {"web_searches": 2}),
        ({"tools": [{"type": "web_search", "max_uses": 0}]}, "", {"web_searches": 5}),
        ({"tools": [{"googleSearch": {}, "codeExecution": {}}]}, "", {"web_searches": 5, "code_executions": 5}),
        ({"tools": [{"functionDeclarations": [], "google_search": {}}]}, "", {"web_searches": 5}),
        ({"tools": [{"type": "x_search"}]}, "", {"social_searches": 5}),
        ({"tools": [{"type": "code_interpreter"}]}, "", {"code_executions": 5}),
        ({"web_search_options": {"search_context_size": "low"}}, "", {"web_searches": 5}),
        ({"plugins": [{"id": "web"}], "tools": [FUNCTION]}, "", {"web_searches": 5}),
        ({}, "sonar-deep-research", {"web_searches": 5}),
        ({}, "gpt-4o-search-preview", {"web_searches": 5}),
        ({"tools": [{"type": "mcp", "server_url": "https://example.com"}]}, "", {}),
        ({"tools": [FUNCTION, {"name": "web_search", "input_schema": {}}]}, "", {}),
        ({"tools": [{"functionDeclarations": [{"name": "google_search"}]}]}, "", {}),
        ({"web_search_options": None, "tools": None}, "", {}),
        ({"tools": "web_search"}, "", {}),
        ({"tools": ["web_search"], "toolConfig": []}, "compounding", {}),
    ],
)  # fmt: skip
def test_how_often_hosted_tools_are_taken_to_be_used(body, models, uses):
    assert hosted_uses(body, models) == uses
    assert names_more(body, models) is bool(uses or "mcp" in str(body))


@pytest.mark.parametrize(
    ("body", "models", "more"),
    [
        ({"agent_id": "ag_1"}, "mistral-large", True),  # its instructions are stored with it
        ({"inputs": "go on"}, "/v1/conversations/conv_1", True),
        ({"inputs": "hi"}, "/v1/conversations", False),
        ({"connectors": [{"id": "web-search"}]}, "command-r", True),
        ({"enable_search": True}, "qwen-plus", True),
        ({"enable_search": False}, "qwen-plus", False),
        ({"tools": [{"computerUse": {}}]}, "gemini-2.5-computer-use", False),
        ({"toolConfig": {"tools": [{"toolSpec": {"name": "f"}}, {"cachePoint": {"type": "default"}}]}}, "nova", False),
        ({"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}}, "nova", True),
    ],
)
def test_what_is_stored_or_brought_in_at_the_provider(body, models, more):
    assert names_more(body, models) is more


def test_only_what_has_a_rate_is_estimated_and_the_rule_may_say_otherwise():
    searched = RequestFacts("/v1/responses", {"tools": [{"type": "web_search"}, {"type": "file_search"}]}, 60)
    rates = (make_rate("web_searches_kcount", Decimal(10)),)
    found = estimate(Price("p", Match(), "catalog"), rates, searched)
    assert (found.usage, found.nano) == ({"request": 1, "web_searches": 5}, 50_000_000)
    rule = Price("p", Match(), "catalog", estimate={"web_searches": 2})  # type: ignore[dict-item]
    assert estimate(rule, rates, searched).nano == 20_000_000
