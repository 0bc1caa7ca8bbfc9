from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.cap import Capped, cap_output, rewritten
from policy.ceilings import choices, least_ceiling
from policy.estimate import estimate
from policy.input import RequestFacts
from policy.model import Match, Price, Rates
from policy.money import MAX_USD, NANO
from policy.pricing import charge
from policy.units import make_rate

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"
GEMINI = "/v1beta/models/gemini-2.5-flash:generateContent"
CONVERSE = "/model/amazon.nova-lite/converse"
PRICE = Price("p", Match(), "catalog", cap_output=True)
PLAIN = (make_rate("input_mtok", Decimal(1)), make_rate("output_mtok", Decimal(2)))
UNSTATED = 4096


def cap(
    path: str, body: Any, provider: str | None = None, limit: int | None = None, price: Price = PRICE
) -> Capped | None:
    return cap_output(price, PLAIN, RequestFacts(path, body, 300), provider, limit)


def written(path: str, body: Any, provider: str | None = None, limit: int | None = None) -> Any:
    found = cap(path, body, provider, limit)
    assert found is not None
    return rewritten(body, found.writes)


# path, provider, body, what is written where no ceiling is stated
UNSTATED_AT = [
    (CHAT, "openai", {}, {"max_completion_tokens": 4096}),
    (CHAT, "azure", {}, {"max_completion_tokens": 4096}),
    (CHAT, "groq", {}, {"max_completion_tokens": 4096}),
    (CHAT, "mistral", {}, {"max_tokens": 4096}),
    (CHAT, "deepseek", {}, {"max_tokens": 4096}),
    (CHAT, None, {}, {"max_tokens": 4096}),
    (CHAT, "openai", {"max_tokens": None}, {"max_tokens": None, "max_completion_tokens": 4096}),
    (CHAT, "openai", {"max_completion_tokens": None}, {"max_completion_tokens": 4096}),
    ("/v1/completions", "openai", {}, {"max_tokens": 4096}),
    (MESSAGES, "anthropic", {}, {"max_tokens": 4096}),
    ("/publishers/anthropic/models/claude:streamRawPredict", "google", {}, {"max_tokens": 4096}),
    (RESPONSES, "openai", {}, {"max_output_tokens": 4096}),
    (GEMINI, "google", {}, {"generationConfig": {"maxOutputTokens": 4096}}),
    (GEMINI, "google", {"generationConfig": {"n": 1}}, {"generationConfig": {"n": 1, "maxOutputTokens": 4096}}),
    (GEMINI, "google", {"generationConfig": None}, {"generationConfig": {"maxOutputTokens": 4096}}),
    (GEMINI, "google", {"generation_config": {}}, {"generation_config": {"max_output_tokens": 4096}}),
    (CONVERSE, "aws", {"inferenceConfig": {}}, {"inferenceConfig": {"maxTokens": 4096}}),
    ("/v2/chat", "cohere", {}, {"max_tokens": 4096}),
    ("/model/profile/invoke", "aws", {"anthropic_version": "v"}, {"anthropic_version": "v", "max_tokens": 4096}),
    ("/model/us.amazon.nova-lite-v1/invoke", "aws", {}, {"inferenceConfig": {"maxTokens": 4096}}),
    ("/model/amazon.titan-text-lite/invoke", "aws", {}, {"textGenerationConfig": {"maxTokenCount": 4096}}),
    ("/model/us.meta.llama3/invoke-with-response-stream", "aws", {}, {"max_gen_len": 4096}),
]


@pytest.mark.parametrize(("path", "provider", "body", "expected"), UNSTATED_AT)
def test_an_unstated_ceiling_is_written_where_the_provider_looks_for_it(path, provider, body, expected):
    before = json.dumps(body)
    assert written(path, body, provider) == expected
    assert json.dumps(body) == before


# path, body, what becomes of it where the limit affords 1,000 tokens of output
STATED = [
    (CHAT, {"max_tokens": 5000}, {"max_tokens": 1000}),
    (CHAT, {"max_tokens": 5000, "max_completion_tokens": 10}, {"max_tokens": 1000, "max_completion_tokens": 10}),
    (CHAT, {"max_tokens": 10**30}, {"max_tokens": 1000}),
    (CHAT, {"max_tokens": 4000, "n": 2}, {"max_tokens": 500, "n": 2}),
    (CHAT, {"max_tokens": 0}, {"max_tokens": 1000}),
    (CHAT, {"max_tokens": -1}, {"max_tokens": 1000}),
    (CHAT, {"max_tokens": True}, {"max_tokens": 1000}),
    (CHAT, {"max_tokens": [5]}, {"max_tokens": 1000}),
    (CHAT, {"max_tokens": "5"}, {"max_tokens": 5}),
    (CHAT, {"max_tokens": "5000"}, {"max_tokens": 1000}),
    (CHAT, {"max_tokens": Decimal("1.5")}, {"max_tokens": 2}),
    (RESPONSES, {"max_output_tokens": 5000}, {"max_output_tokens": 1000}),
    (GEMINI, {"generationConfig": {"maxOutputTokens": 5000}}, {"generationConfig": {"maxOutputTokens": 1000}}),
    (GEMINI, {"generationConfig": {"max_output_tokens": 5000}}, {"generationConfig": {"max_output_tokens": 1000}}),
    (
        GEMINI,
        {"generationConfig": {"candidateCount": 4}},
        {"generationConfig": {"candidateCount": 4, "maxOutputTokens": 250}},
    ),
    (
        "/model/amazon.nova/invoke",
        {"inferenceConfig": {"max_new_tokens": 9000}},
        {"inferenceConfig": {"max_new_tokens": 1000}},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "expected"), STATED)
def test_a_stated_ceiling_is_lowered_in_its_place_to_what_the_limit_affords(path, body, expected):
    input_tokens = estimate(PRICE, PLAIN, RequestFacts(path, body, 0)).usage["input_tokens"]
    assert written(path, body, limit=int(input_tokens) * 1_000 + 2_001_999) == expected


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"max_tokens": 10, "max_completion_tokens": 10}),
        (RESPONSES, {"max_output_tokens": 10}),  # below OpenAI's least: the upstream's to refuse
        (GEMINI, {"generationConfig": {"maxOutputTokens": 10}}),
    ],
)
def test_a_ceiling_that_is_low_enough_is_left_as_it_is(path, body):
    found = cap(path, body, limit=NANO)
    assert found is not None
    assert (found.writes, found.tokens) == ((), 10)


@pytest.mark.parametrize(
    ("path", "body", "least"),
    [
        (CHAT, {}, 1),
        (RESPONSES, {}, 16),
        (MESSAGES, {}, 1),
        (MESSAGES, {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 9000}, 2001),
        (CONVERSE, {"additionalModelRequestFields": {"thinking": {"budget_tokens": 2000}}}, 2001),
        (CHAT, {"reasoning": {"max_tokens": 2000}}, 2001),
        (MESSAGES, {"thinking": {"budget_tokens": 10**30}}, 10**18),
        (CHAT, {"reasoning": "high", "thinking": None}, 1),
    ],
)
def test_never_below_what_the_provider_takes_and_then_the_estimate_exceeds_the_limit(path, body, least):
    found = cap(path, body, limit=1)
    assert found is not None
    assert (found.tokens, found.estimate.nano > 1) == (least, True)


def test_the_ceiling_that_is_written_has_room_for_thoughts_and_words():
    assert written(MESSAGES, {"thinking": {"budget_tokens": 8000}})["max_tokens"] == 8000 + 4096
    assert written(CHAT, {"reasoning_effort": "high"})["max_tokens"] == 16_384
    huge = {"thinking": {"budget_tokens": 10**30}}
    assert written(MESSAGES, huge)["max_tokens"] == 10**18


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {}),
        ("/v1/images/generations", {}),
        ("/v1/audio/speech", {"input": "hi"}),
        ("/v1/responses/compact", {}),
        ("/somewhere/else", {"max_tokens": 10}),
        ("/model/arn:of-a-profile/invoke", {"max_tokens": 10}),
        ("/model/amazon.titan-embed-text/invoke", {"anthropic_version": "v"}),
        (CHAT, None),
        (CHAT, []),
    ],
)
def test_nothing_to_cap_or_no_known_way(path, body):
    assert cap(path, body) is None


def test_nothing_to_cap_where_output_costs_nothing():
    facts = RequestFacts(CHAT, {}, 2)
    assert cap_output(PRICE, (make_rate("request", Decimal(1)),), facts, None, None) is None
    assert cap_output(PRICE, (make_rate("input_mtok", Decimal(1)),), facts, None, None) is None
    free = (make_rate("output_mtok", Decimal(0)),)
    found = cap_output(PRICE, free, facts, None, 1)
    assert found is not None
    assert found.tokens == UNSTATED


def test_the_rule_says_what_is_written_where_nothing_is_stated():
    rule = Price("p", Match(), "catalog", estimate={"output_tokens": Fraction(2048)}, cap_output=True)
    found = cap(CHAT, {"max_tokens": -1}, price=rule)
    assert found is not None
    assert found.writes == ((("max_tokens",), 2048),)


@pytest.mark.parametrize(
    "text", ["é" * 500, "\ud800" * 500, "ﷺ" * 500, "😀" * 500, "zqxj" * 500, "\x00" * 500, "7" * 500]
)
def test_the_input_is_bounded_by_its_bytes_whatever_it_says(text):
    def tokens(said: str) -> int:
        found = cap(CHAT, {"messages": [{"role": "user", "content": said}]})
        assert found is not None
        return int(found.estimate.usage["input_tokens"])

    assert tokens(text) - tokens("") >= len(text.encode("utf-8", "surrogatepass"))


# -- properties --------------------------------------------------------------------------------------------------------

ODD = st.sampled_from([None, 0, -1, True, "5", "x", [], {}, Decimal("1.5"), 10**30])
CEILING = st.integers(1, 10**6) | ODD
TEXT = st.text(max_size=40)
CALLS = st.one_of(
    st.tuples(
        st.just(CHAT),
        st.fixed_dictionaries(
            {"messages": st.lists(st.fixed_dictionaries({"role": TEXT, "content": TEXT}), max_size=3)},
            optional={
                "max_tokens": CEILING, "max_completion_tokens": CEILING, "n": st.integers(1, 5) | ODD,
                "tools": st.just([{"type": "function", "function": {"name": "f"}}]), "reasoning": ODD,
            },
        ),
    ),
    st.tuples(
        st.just(RESPONSES), st.fixed_dictionaries({"input": TEXT}, optional={"max_output_tokens": CEILING})
    ),
    st.tuples(
        st.just(MESSAGES),
        st.fixed_dictionaries(
            {"system": TEXT},
            optional={"max_tokens": CEILING, "thinking": st.fixed_dictionaries({"budget_tokens": CEILING})},
        ),
    ),
    st.tuples(
        st.just(GEMINI),
        st.fixed_dictionaries(
            {"contents": st.lists(st.fixed_dictionaries({"parts": TEXT}), max_size=2)},
            optional={
                name: ODD | st.fixed_dictionaries(
                    {}, optional={"maxOutputTokens": CEILING, "max_output_tokens": CEILING, "candidateCount": ODD}
                )
                for name in ("generationConfig", "generation_config")
            },
        ),
    ),
)  # fmt: skip
USD = st.decimals(0, 100, places=3)


@st.composite
def priced(draw: st.DrawFn) -> Rates:
    keys = ["cache_read_mtok", "cache_write_mtok", "output_reasoning_mtok", "request", "web_searches_kcount"]
    keys = ["input_mtok", "output_mtok", *draw(st.lists(st.sampled_from(keys), unique=True))]
    tiered = draw(st.booleans())
    found = []
    for key in keys:
        base = draw(USD)
        found.append(make_rate(key, base, [(450, base + draw(USD))] if tiered and key.endswith("_mtok") else []))
    return tuple(found)


LIMITS = st.none() | st.integers(0, 10**9) | st.integers(10**9, 10**18)
PROVIDERS = st.sampled_from([None, "openai", "mistral", "google"])


@given(CALLS, priced(), LIMITS, PROVIDERS)
def test_a_capped_estimate_is_within_the_limit_unless_the_least_is_not(call, rates, limit, provider):
    path, body = call
    found = cap_output(PRICE, rates, RequestFacts(path, body, 300), provider, limit)
    assert found is not None
    if limit is not None and found.estimate.nano > limit:
        without = {unit: count for unit, count in found.estimate.usage.items() if not unit.startswith("output_")}
        assert found.tokens <= least_ceiling(path, body) or charge(rates, without) == found.estimate.nano
    assert found.estimate.nano <= MAX_USD * NANO


@given(CALLS, priced(), LIMITS, PROVIDERS)
def test_the_rewritten_request_has_that_estimate_and_nothing_more_to_write(call, rates, limit, provider):
    path, body = call
    found = cap_output(PRICE, rates, RequestFacts(path, body, 300), provider, limit)
    assert found is not None
    again = RequestFacts(path, rewritten(body, found.writes), 400)
    assert estimate(PRICE, rates, again) == found.estimate
    assert cap_output(PRICE, rates, again, provider, limit) == Capped(found.estimate, found.tokens, ())


@given(CALLS, priced(), st.integers(0, 10**9), st.integers(0, 10**9), PROVIDERS)
def test_a_higher_limit_never_lowers_a_ceiling(call, rates, limit, more, provider):
    path, body = call
    facts = RequestFacts(path, body, 300)
    found = [cap_output(PRICE, rates, facts, provider, each) for each in (limit, limit + more, None)]
    ceilings = [each.tokens for each in found if each is not None]
    assert ceilings == sorted(ceilings)
    assert len(ceilings) == 3


@given(CALLS, priced(), LIMITS, st.data())
def test_hazard_41_no_charge_for_what_the_ceilings_allow_is_above_the_estimate(call, rates, limit, data):
    path, body = call
    found = cap_output(PRICE, rates, RequestFacts(path, body, 300), None, limit)
    assert found is not None
    input_max = int(found.estimate.usage["input_tokens"])
    output_max = min(found.tokens * choices(path, body), 10**18)
    used = {
        "input_tokens": data.draw(st.integers(0, input_max)),
        "output_tokens": data.draw(st.integers(0, output_max)),
    }
    used["cache_read_tokens"] = data.draw(st.integers(0, used["input_tokens"]))
    used["output_reasoning_tokens"] = data.draw(st.integers(0, used["output_tokens"]))
    if path in (CHAT, RESPONSES, GEMINI):
        used["cache_write_tokens"] = data.draw(st.integers(0, used["input_tokens"] - used["cache_read_tokens"]))
    assert charge(rates, used) <= found.estimate.nano or found.estimate.nano == MAX_USD * NANO
