from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from math import ceil

import pytest
from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import ModelInfo, ModelPrice, StartDateConstraint, TimeOfDateConstraint, Usage
from hypothesis import given
from hypothesis import strategies as st

from policy import catalog as catalog_module
from policy.catalog import Catalog, Tariff
from policy.model import Rates
from policy.pricing import charge, dump_rates, load_rates
from policy.units import BELOW, DIMENSIONS, make_rate

CATALOG = Catalog()
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


def standard(provider_id: str, model: str, at_ms: int) -> Rates:
    tariff = CATALOG.tariff(provider_id, model, at_ms)
    assert tariff is not None, (provider_id, model)
    return tariff.standard


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
    at_ms = ms(moment)
    for provider_id, model in LISTED:
        assert charge(standard(provider_id, model, at_ms), usage) == theirs(provider_id, model, usage, at_ms), (
            provider_id,
            model,
        )


@given(
    st.sampled_from(LISTED),
    st.sampled_from(MOMENTS).map(ms),
    st.dictionaries(st.sampled_from(TOKEN_KINDS), st.integers(0, 10**6)),
)
def test_any_valid_usage_costs_what_genai_prices_says_rounded_up(listed, at_ms, cells):
    usage = reported(cells)
    assert charge(standard(*listed, at_ms), usage) == theirs(*listed, usage, at_ms)


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
    rates = standard(provider_id, model, ms(MOMENTS[1]))
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
def test_promise_7_an_unknown_model_or_provider_has_no_tariff(provider_id, model):
    assert CATALOG.tariff(provider_id, model, 0) is None


def test_a_model_listed_as_free_is_known_and_free():
    assert standard("openai", "omni-moderation-latest", 0) == ()


def test_a_dated_price_takes_force_on_its_day_though_the_model_was_looked_up_before():
    changed = 0
    for provider_id, model in LISTED:
        found = SNAPSHOT.find_provider_model(model, None, provider_id, None)[1]
        if isinstance(found.prices, ModelPrice):
            continue
        for entry in found.prices:
            if isinstance(entry.constraint, StartDateConstraint):
                midnight = datetime(*entry.constraint.start_date.timetuple()[:3], tzinfo=UTC).timestamp() * 1000
                before, after = (
                    standard(provider_id, model, int(midnight) - 1),
                    standard(provider_id, model, int(midnight)),
                )
                assert after == catalog_module._compile(entry.prices)
                changed += before != after
    assert changed > 50


def test_a_price_by_the_time_of_day_is_told_at_each_call():
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
        assert standard(provider_id, model.id, at_ms) == expected


# -- variants ----------------------------------------------------------------------------------------------------------

VARIED = [
    (provider, model)
    for provider in providers
    for model in provider.models
    if model.price_variants and (provider.id, model.id) in LISTED
]
TERMS = [  # all that the list knows, what stands for the standard ones, and what it doesn't know
    {"service_tier": "flex"}, {"service_tier": "priority"}, {"service_tier": "fast"}, {"service_tier": "default"},
    {"service_tier": "auto"}, {"service_tier": "standard"}, {"service_tier": "Priority"}, {"speed": "fast"},
    {"speed": "fast", "service_tier": "priority"}, {"route": "mistral/eu"},
    {"search_type": "fast"}, {"search_type": "web"}, {"tier": "flex"}, {},
]  # fmt: skip


def turns(model: ModelInfo) -> list[datetime]:
    """The moments around which this model's prices change, and one of long ago, of now and of far ahead."""
    dated = [] if isinstance(model.prices, ModelPrice) else model.prices
    starts = {
        each.constraint.start_date
        for each in (*dated, *(model.price_variants or ()))
        if isinstance(each.constraint, StartDateConstraint)
    }
    midnights = [datetime(start.year, start.month, start.day, tzinfo=UTC) for start in starts]
    just_before = [midnight - timedelta(milliseconds=1) for midnight in midnights]
    return [*map(datetime.fromisoformat, MOMENTS), *midnights, *just_before]


def test_the_list_knows_no_terms_that_are_not_tried_here():
    known = [
        variant.when for _, model in VARIED for variant in model.price_variants if "processing" not in variant.when
    ]
    assert len(known) > 100
    assert all(when in TERMS for when in known)


def test_every_model_on_every_terms_at_every_turn_has_the_rates_that_genai_prices_has():
    differing = 0
    for provider, model in VARIED:
        for at in turns(model):
            tariff = CATALOG.tariff(provider.id, model.id, int(at.timestamp() * 1000))
            assert tariff is not None
            for terms in TERMS:
                expected = catalog_module._compile(model.get_prices(at, terms))
                found = tariff.rates(terms)
                assert sorted(found, key=str) == sorted(expected, key=str), (provider.id, model.id, at, terms)
                differing += found != tariff.standard
    assert differing > 500


def test_every_model_without_variants_costs_the_same_on_any_terms():
    varied = {(provider.id, model.id) for provider, model in VARIED}
    for provider_id, model in LISTED:
        tariff = CATALOG.tariff(provider_id, model, ms(MOMENTS[1]))
        assert tariff is not None
        if (provider_id, model) not in varied and provider_id != "azure":
            assert all(tariff.rates(terms) is tariff.standard for terms in TERMS)


def test_what_is_charged_on_a_variants_terms_is_what_genai_prices_says_rounded_up():
    at = datetime.fromisoformat(MOMENTS[1])
    for provider, model in VARIED:
        tariff = CATALOG.tariff(provider.id, model.id, ms(MOMENTS[1]))
        assert tariff is not None
        for terms in TERMS:
            for usage in (SMALL, LARGE):
                with localcontext(prec=80):
                    usd = SNAPSHOT.calc(Usage(**usage), model.id, provider.id, None, at, terms).total_price
                    assert charge(tariff.rates(terms), usage) == ceil(usd * 10**9), (provider.id, model.id, terms)


def test_batch_prices_are_not_used():
    tariff = CATALOG.tariff("openai", "gpt-5.2", ms(MOMENTS[1]))
    assert tariff is not None
    assert tariff.rates({"processing": "batch"}) is tariff.standard


def test_the_first_variant_that_is_met_counts_for_each_key():
    def rates(**usd: str) -> Rates:
        return tuple(make_rate(key, Decimal(amount)) for key, amount in usd.items())

    tariff = Tariff(
        rates(input_mtok="1", output_mtok="2"),
        (
            ({"service_tier": "priority", "route": "eu"}, rates(input_mtok="9")),
            ({"service_tier": "priority"}, rates(input_mtok="3")),
            ({"route": "eu"}, rates(input_mtok="4", output_mtok="5", cache_read_mtok="1")),
        ),
    )
    assert tariff.rates({"service_tier": "priority"}) == rates(input_mtok="3", output_mtok="2")
    both = {"service_tier": "priority", "route": "eu", "speed": "fast"}
    assert tariff.rates(both) == rates(input_mtok="9", output_mtok="5", cache_read_mtok="1")
    assert tariff.rates({"route": "EU"}) is tariff.standard


def test_azure_has_the_variants_of_the_list_it_falls_back_on():
    azure, openai = (CATALOG.tariff(provider_id, "gpt-5.2", ms(MOMENTS[1])) for provider_id in ("azure", "openai"))
    assert azure is not None
    assert azure == openai
    assert azure.rates({"service_tier": "priority"}) != azure.standard


def test_hazard_44_a_tariff_taken_before_a_price_changes_stays_as_it_was():
    before = CATALOG.tariff("openai", "gpt-5.2", ms("2026-10-11T23:59:59.999Z"))
    priority = {"service_tier": "priority"}
    assert before is not None
    assert before.rates(priority) is before.standard
    after = CATALOG.tariff("openai", "gpt-5.2", ms("2026-10-12T00:00:00Z"))
    assert after is not None
    assert after.rates(priority) != after.standard
    assert before.rates(priority) is before.standard


def test_what_is_compiled_is_held_once_for_each_set_of_prices():
    catalog = Catalog()
    for day in range(1, 29):
        for model in ("gpt-5.2", "gpt-5.2-2025-12-11", "GPT-5.2"):
            assert catalog.tariff("openai", model, ms(f"2026-10-{day:02d}T12:00:00Z"))
    assert len(catalog._compiled) == 2


def test_what_clients_call_their_models_is_held_in_bounded_number(monkeypatch):
    monkeypatch.setattr(catalog_module, "_MODELS_HELD", 3)
    catalog = Catalog()
    for number in range(10):
        assert catalog.tariff("groq", f"nonesuch-{number}", 0) is None
    assert catalog._model.cache_info().currsize == 3
    assert catalog.tariff("groq", "llama-3.3-70b-versatile", 0)
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
