from __future__ import annotations

from datetime import UTC, datetime
from decimal import localcontext
from math import ceil

import pytest
from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import ModelPrice, StartDateConstraint, TimeOfDateConstraint, Usage
from hypothesis import given
from hypothesis import strategies as st

from policy import catalog as catalog_module
from policy.catalog import Catalog
from policy.pricing import charge, dump_rates, load_rates
from policy.units import BELOW, DIMENSIONS

SNAPSHOT = DataSnapshot(providers, from_auto_update=False)
LISTED = [  # a few ids name a group of models, and not one of them
    (provider.id, model.id)
    for provider in providers
    for model in provider.models
    if provider.find_model(model.id, all_providers=providers)
]
MOMENTS = ["2024-06-01T12:00:00Z", "2026-11-22T03:30:00Z", "2026-11-22T17:00:00Z", "2035-01-01T00:00:00Z"]
TOKEN_KINDS = [kind for kind, its in DIMENSIONS.items() if its["family"] == "tokens"]
OTHER_KINDS = [kind for kind, its in DIMENSIONS.items() if its["family"] not in ("tokens", "durations")]


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def reported(cells: dict[str, int]) -> dict[str, int]:
    """Usage that tells every kind, consistently, from disjoint groups: what genai-prices accepts for any model."""
    tokens = {
        kind: sum(count for cell, count in cells.items() if cell == kind or cell in BELOW[kind]) for kind in TOKEN_KINDS
    }
    others = {kind: cells.get(kind, 0) for kind in OTHER_KINDS}
    # genai-prices counts whole hours exactly; it bills groq's shortest clips as 10 seconds
    hours = dict.fromkeys(("audio_seconds", "input_audio_seconds"), cells.get("audio_seconds", 0))
    return tokens | others | hours


def theirs(provider_id: str, model: str, usage: dict[str, int], at_ms: int) -> int:
    with localcontext(prec=80):
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
        found = SNAPSHOT.calc(Usage(**usage), model, provider_id, None, at)
        return ceil(found.total_price * 10**9)


SMALL = reported(
    {
        "input_tokens": 1003, "cache_read_tokens": 301, "cache_write_tokens": 53, "cache_write_1h_tokens": 21,
        "input_audio_tokens": 70, "cache_audio_read_tokens": 11, "input_image_tokens": 31, "input_tool_tokens": 3,
        "output_tokens": 205, "output_reasoning_tokens": 41, "output_audio_tokens": 25, "output_image_tokens": 7,
        "web_searches": 3, "storage_searches": 2, "input_characters": 997, "input_document_pages": 5,
        "input_annotated_document_pages": 2, "audio_seconds": 7200,
    }
)  # fmt: skip
LARGE = {kind: count * 1009 for kind, count in SMALL.items()}  # past every tier


@pytest.mark.parametrize(
    ("moment", "usage"),
    [(MOMENTS[0], SMALL), (MOMENTS[1], LARGE), (MOMENTS[2], SMALL), (MOMENTS[3], LARGE)],
    ids=["2024-small", "2026-night-large", "2026-day-small", "2035-large"],
)
def test_every_model_costs_what_genai_prices_says_rounded_up(moment, usage):
    catalog = Catalog()
    at_ms = ms(moment)
    for provider_id, model in LISTED:
        rates = catalog.rates(provider_id, model, at_ms)
        assert rates is not None, (provider_id, model)
        assert charge(rates, usage) == theirs(provider_id, model, usage, at_ms), (provider_id, model)


@given(
    st.sampled_from(LISTED),
    st.sampled_from(MOMENTS).map(ms),
    st.dictionaries(st.sampled_from(TOKEN_KINDS), st.integers(0, 10**6)),
)
def test_any_valid_usage_costs_what_genai_prices_says_rounded_up(listed, at_ms, cells):
    usage = reported(cells)
    rates = Catalog().rates(*listed, at_ms)
    assert rates is not None
    assert charge(rates, usage) == theirs(*listed, usage, at_ms)


def test_every_price_of_the_list_compiles_and_comes_back_from_the_ledger():
    for provider in providers:
        for model in provider.models:
            prices = [model.prices] if isinstance(model.prices, ModelPrice) else [each.prices for each in model.prices]
            for price in prices:
                rates = catalog_module._compile(price)
                assert {rate.key for rate in rates} == {key for key, value in vars(price).items() if value is not None}
                assert load_rates(dump_rates(rates)) == rates


@pytest.mark.parametrize(
    ("provider_id", "model"),
    [
        ("openai", "gpt-4o"),
        ("openai", "gpt-4o-2024-08-06"),
        ("openai", "GPT-4o"),
        ("azure", "gpt-4o"),
        ("azure", "claude-3-5-sonnet-latest"),  # by its fallback to anthropic's list
        ("anthropic", "claude-sonnet-4-5-20250929"),
        ("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("google", "gemini-2.5-flash"),
        ("groq", "llama-3.3-70b-versatile"),
        ("openrouter", "anthropic/claude-sonnet-4.5"),
        ("litellm", "anthropic/claude-sonnet-4-5"),
    ],
)
def test_a_model_is_found_by_any_of_its_names(provider_id, model):
    rates = Catalog().rates(provider_id, model, ms(MOMENTS[1]))
    assert rates
    assert {"input_tokens", "output_tokens"} <= {rate.usage for rate in rates}


@pytest.mark.parametrize(
    ("provider_id", "model"),
    [
        ("openai", "gpt-nonesuch"),
        ("openai", ""),
        ("anthropic", "claude-sonnet-4-5-" + "x" * 200),  # its beginning is known: but no model is called so
        ("openai", "\x00\ud800"),
        ("nonesuch", "gpt-4o"),
        ("", "gpt-4o"),
        ("litellm", "nonesuch/gpt-nonesuch"),
    ],
)
def test_promise_7_an_unknown_model_or_provider_has_no_rates(provider_id, model):
    assert Catalog().rates(provider_id, model, 0) is None


def test_a_model_listed_as_free_is_known_and_free():
    assert Catalog().rates("openai", "omni-moderation-latest", 0) == ()


def test_a_dated_price_takes_force_on_its_day_though_the_model_was_looked_up_before():
    catalog = Catalog()
    changed = 0
    for provider_id, model in LISTED:
        found = SNAPSHOT.find_provider_model(model, None, provider_id, None)[1]
        if isinstance(found.prices, ModelPrice):
            continue
        for entry in found.prices:
            if isinstance(entry.constraint, StartDateConstraint):
                midnight = datetime(*entry.constraint.start_date.timetuple()[:3], tzinfo=UTC).timestamp() * 1000
                before, after = (
                    catalog.rates(provider_id, model, int(midnight) - 1),
                    catalog.rates(provider_id, model, int(midnight)),
                )
                assert after == catalog_module._compile(entry.prices)
                changed += before != after
    assert changed > 50


def test_a_price_by_the_time_of_day_is_told_at_each_call():
    catalog = Catalog()
    listed = next(
        (provider.id, model)
        for provider in providers
        for model in provider.models
        if not isinstance(model.prices, ModelPrice)
        and any(isinstance(entry.constraint, TimeOfDateConstraint) for entry in model.prices)
    )
    provider_id, model = listed
    for at_ms in range(ms("2026-11-22T00:00:00Z"), ms("2026-11-23T00:00:00Z"), 15 * 60_000):
        expected = catalog_module._compile(model.get_prices(datetime.fromtimestamp(at_ms / 1000, UTC)))
        assert catalog.rates(provider_id, model.id, at_ms) == expected


def test_what_clients_call_their_models_is_held_in_bounded_number(monkeypatch):
    monkeypatch.setattr(catalog_module, "_MODELS_HELD", 3)
    catalog = Catalog()
    for number in range(10):
        assert catalog.rates("groq", f"nonesuch-{number}", 0) is None
    assert catalog._model.cache_info().currsize == 3
    assert catalog.rates("groq", "llama-3.3-70b-versatile", 0)
    assert catalog._model.cache_info().currsize == 3


@pytest.mark.parametrize(
    ("url", "provider_id"),
    [
        ("https://api.openai.com", "openai"),
        ("https://api.openai.com/v1", "openai"),
        ("https://api.anthropic.com", "anthropic"),
        ("https://generativelanguage.googleapis.com/v1beta", "google"),
        ("https://my-team.openai.azure.com/openai", "azure"),
        ("https://api.groq.com/openai/v1", "groq"),
        ("https://bedrock-runtime.us-east-1.amazonaws.com", "aws"),
        ("http://127.0.0.1:9000/api", None),
        ("builtin:demo", None),
        ("", None),
    ],
)
def test_a_provider_is_told_by_its_url(url, provider_id):
    assert Catalog().provider_for_url(url) == provider_id


@pytest.mark.parametrize(
    ("provider_id", "known"), [("openai", True), ("groq", True), ("litellm", True), ("nonesuch", False), ("", False)]
)
def test_which_price_lists_there_are(provider_id, known):
    assert Catalog().knows(provider_id) is known
