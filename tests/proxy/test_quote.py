from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from policy.catalog import Catalog
from policy.match import PriceIndex
from policy.parse import parse_policy
from proxy.denials import Refused
from proxy.metering.base import Metered
from proxy.quote import TARGET_MAX, Quote, quote
from proxy.request import ProxyRequest
from proxy.rules import Rules

POLICY = """
version: 1
defaults: {unpriced: %s}
upstreams:
  openai: {url: "https://api.openai.com"}
  gemini: {url: "https://generativelanguage.googleapis.com"}
  bedrock: {url: "https://bedrock-runtime.eu-west-1.amazonaws.com"}
  groq: {url: "https://gateway.example", meter: openai, catalog: groq}
  openrouter: {url: "https://openrouter.ai"}
  any: {url: "https://gateway.example"}
prices:
  - {name: azure, match: {path: "/openai/deployments/ours/**"}, model: gpt-4o-mini, rates: catalog}
  - {name: mini, match: {path: "/v1/**", body: {model: "*-mini"}}, rates: {input_mtok: 1, output_mtok: 2}}
  - {name: tool, match: {path: /rpc, body: {method: tools/call}}, rates: {request: 0.01}}
  - {name: flat, match: {path: /flat}, rates: {request: 0.01}}
  - {name: dated, match: {path: /dated}, rates: [{request: 0.01}, {from: 2030-01-01, request: 0.02}]}
  - {name: list, match: {method: POST}, rates: catalog}
"""
NOW_MS = int(time.time() * 1000)


def rules(unpriced: str = "deny") -> Rules:
    policy = parse_policy(POLICY % unpriced, name="policy.yaml", env={}, read_file=str).policy
    return Rules(policy, PriceIndex(policy), Catalog())


RULES = rules()


def quoted(
    path: str,
    body: Any = None,
    *,
    upstream: str = "any",
    method: str = "POST",
    content_type: str = "",
    at_ms: int = NOW_MS,
    by: Rules = RULES,
) -> Quote:
    raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    request = ProxyRequest(by.policy.upstreams[upstream], method, path, raw, content_type)
    return quote(by, request, by.prices.candidates(upstream, method, path), at_ms)


# -- the price, and its estimate ---------------------------------------------------------------------------------------


def test_the_first_price_that_matches_the_body_gives_rates_and_estimate() -> None:
    body = {"model": "our-mini", "max_tokens": 10}
    found = quoted("/v1/chat/completions", body)
    assert found.price is not None
    assert (found.price.name, found.target, found.model) == ("mini", "any:our-mini", "our-mini")
    assert found.usage["output_tokens"] == 10
    assert found.estimate == int(found.usage["input_tokens"]) * 1_000 + 10 * 2_000
    assert found.body == body


def test_promise_7_no_price_is_no_estimate_and_free_only_where_the_policy_says_so() -> None:
    assert quoted("/else", method="GET").estimate is None
    assert quoted("/else", method="GET", by=rules("free")).estimate == 0
    fallback = quoted("/else", method="GET", by=rules("{request: 0.03}"))
    assert (fallback.estimate, fallback.price, fallback.target) == (30_000_000, None, "any:unpriced")


@pytest.mark.parametrize(("unpriced", "estimate"), [("deny", None), ("free", 0), ("{request: 0.03}", 30_000_000)])
@pytest.mark.parametrize("body", [{"model": "no-such"}, {"model": ""}, {"model": 7}, {}, [], "x", b"no json"])
def test_promise_7_an_unknown_model_is_as_no_price(unpriced: str, estimate: int | None, body: Any) -> None:
    found = quoted("/other", body, upstream="groq", by=rules(unpriced))
    assert (found.estimate, found.price) == (estimate, None)


def test_rates_are_those_of_the_moment() -> None:
    assert quoted("/dated", at_ms=1_893_456_000_000 - 1).estimate == 10_000_000
    assert quoted("/dated", at_ms=1_893_456_000_000).estimate == 20_000_000


@pytest.mark.parametrize(
    ("upstream", "path", "model"),
    [
        ("groq", "/openai/v1/chat/completions", "llama-3.3-70b-versatile"),
        ("openai", "/v1/chat/completions", "gpt-4o-mini"),
        ("gemini", "/v1beta/models/gemini-2.5-flash:generateContent", "gemini-2.5-flash"),
        (
            "bedrock",
            "/model/anthropic.claude-3-haiku-20240307-v1%3A0/converse",
            "anthropic.claude-3-haiku-20240307-v1:0",
        ),
        ("openai", "/openai/deployments/ours/chat/completions", "gpt-4o-mini"),
    ],
)
def test_the_model_comes_from_body_path_or_price_and_its_list_from_the_upstream(
    upstream: str, path: str, model: str
) -> None:
    body = {"model": model} if "/v1/chat" in path else {}
    found = quoted(path, body, upstream=upstream)
    assert (found.model, found.estimate is not None) == (model, True)
    assert found.target == f"{upstream}:{model}"


def test_a_call_keeps_the_rates_it_was_quoted_at() -> None:
    call = quoted("/v1/x", {"model": "a-mini"}).call("worker", "hash")
    assert call.rates == {"input_mtok": "1", "output_mtok": "2"}
    assert (call.upstream, call.price, call.policy_hash, call.agent_id) == ("any", "mini", "hash", "worker")
    assert quoted("/else", method="GET").call("worker", "").estimate is None


# -- the target --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "target"),
    [
        ({"method": "tools/call", "params": {"name": "search"}}, "any:search"),
        ({"method": "tools/call", "params": {"name": ["x"]}}, "any:tool"),
        ({"method": "tools/call", "params": []}, "any:tool"),
        ({"method": "tools/call", "params": {"name": "a b\n"}}, "any:a_b_"),
        ({"model": "x" * 500}, "any:" + "x" * (TARGET_MAX - 4)),
        ({"model": "é\x00\ud800m"}, "any:_m"),
    ],
)
def test_a_target_is_a_model_a_tool_or_a_price_and_never_long_or_unprintable(body: Any, target: str) -> None:
    assert quoted("/rpc", body).target == target


def test_a_target_never_quotes_a_path_or_a_query() -> None:
    assert quoted("/flat", b"").target == "any:flat"
    assert quoted("/some/secret/path", method="GET").target == "any:unpriced"


# -- bodies that can't be read -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b'{"model": 1, "model": 2}', b"{", b"\xff", b"[" * 100_000, b'{"n": NaN}'])
@pytest.mark.parametrize(
    "content_type", ["", "application/json", "application/vnd.x+JSON; charset=utf-8", "text/plain"]
)
def test_hazard_30_a_body_that_a_field_prices_must_be_plain_json_whatever_its_type(
    raw: bytes, content_type: str
) -> None:
    with pytest.raises(Refused) as refused:
        quoted("/v1/x", raw, content_type=content_type)
    assert (refused.value.status, refused.value.code) == (400, "invalid_json")
    assert "model" not in refused.value.message.removeprefix("Agent Ledger: ")


def test_a_body_that_no_field_prices_may_be_anything_but_broken_json() -> None:
    by = rules("free")
    by = Rules(by.policy, PriceIndex(_only(by, "flat")), by.catalog)
    assert quoted("/flat", b"{", by=by).body is None
    with pytest.raises(Refused):
        quoted("/flat", b"{", content_type="application/json", by=by)


@pytest.mark.parametrize(
    "raw", [b' {"max_tokens": 9, "max_tokens": 8}', b'\xef\xbb\xbf{"n": 1}', b"{\0}\0", b"[" * 999]
)
def test_hazard_30_what_looks_like_json_must_be_plain_where_tokens_are_the_price_whatever_its_type(raw: bytes) -> None:
    """A lenient upstream would read the ceiling that we could not, nor write."""
    by = rules("free")
    by = Rules(by.policy, PriceIndex(_only(by, "azure")), by.catalog)
    path = "/openai/deployments/ours/chat/completions"
    with pytest.raises(Refused, match="plain JSON"):
        quoted(path, raw, content_type="text/plain", by=by)
    assert quoted(path, b"prose", content_type="text/plain", by=by).estimate


def _only(by: Rules, name: str) -> Any:
    return replace(by.policy, prices=tuple(price for price in by.policy.prices if price.name == name))


def test_a_batch_is_refused_with_its_requests_so_that_each_can_be_answered() -> None:
    batch = [{"id": 1, "method": "tools/call"}]
    with pytest.raises(Refused) as refused:
        quoted("/rpc", batch)
    assert (refused.value.code, refused.value.request) == ("batch_refused", batch)


# -- the terms of a catalog price --------------------------------------------------------------------------------------
TIERED = "gpt-5"


def test_a_tier_that_is_asked_for_is_charged_as_it_was_served() -> None:
    tariff = RULES.catalog.tariff("openai", TIERED, NOW_MS)
    assert tariff is not None
    priority, flex = (tariff.rates({"service_tier": tier}) for tier in ("priority", "flex"))
    assert len({priority, flex, tariff.standard}) == 3
    asked = {"service_tier": "priority"}
    dear, plain = quoted_tier(asked), quoted_tier({})
    assert dear.rates == priority
    assert (dear.estimate or 0) > (plain.estimate or 0)
    assert dear.charged(Metered(terms={"service_tier": "priority"})) == priority
    assert dear.charged(Metered(terms={"service_tier": "default"})) == tariff.standard
    assert dear.charged(Metered()) == priority
    assert plain.charged(Metered(terms={"service_tier": "priority"})) == priority


def test_a_cheaper_tier_is_estimated_at_the_standard_rates_which_may_serve_it() -> None:
    tariff = RULES.catalog.tariff("openai", TIERED, NOW_MS)
    assert tariff is not None
    asked = quoted_tier({"service_tier": "flex"})
    assert asked.rates == tariff.standard
    assert asked.estimate == quoted_tier({}).estimate
    assert asked.charged(Metered(terms={"service_tier": "flex"})) == tariff.rates({"service_tier": "flex"})


def quoted_tier(asked: dict[str, str]) -> Quote:
    # The same number of bytes, whatever the tier.
    body = json.dumps({"model": TIERED, "input": "hi", "max_output_tokens": 1000} | asked).ljust(200)
    return quoted("/v1/responses", body.encode(), upstream="openai")


def test_promise_7_a_fallback_that_may_serve_is_estimated_too() -> None:
    """OpenRouter's `models`: naming a cheap or free model first doesn't let a dear one through."""
    cheap, dear = "openai/gpt-4o-mini", "openai/gpt-4o"
    body = {"model": cheap, "models": [dear], "max_tokens": 1000, "messages": []}
    found = quoted("/api/v1/chat/completions", body, upstream="openrouter")
    tariff = RULES.catalog.tariff("openrouter", dear, NOW_MS)
    assert tariff is not None
    assert (found.rates, found.target) == (tariff.standard, f"openrouter:{cheap}")
    unknown = quoted("/api/v1/chat/completions", body | {"models": [dear, "no/such"]}, upstream="openrouter")
    assert unknown.estimate is None


def test_a_capped_call_is_reserved_at_the_dearest_of_its_models() -> None:
    """One is dear by its output, and so sets the ceiling; the other by its input."""
    policy = parse_policy(
        "version: 1\nupstreams: {r: {url: 'https://openrouter.ai'}}\n"
        "prices: [{name: p, rates: catalog, cap_output: true}]",
        name="p", env={}, read_file=str,
    ).policy  # fmt: skip
    names = ("openai/gpt-4o-mini", "openai/gpt-4o")
    body = {"model": names[0], "models": [names[1]], "max_tokens": 10**6, "messages": []}
    by = Rules(policy, PriceIndex(policy), Catalog())
    request = ProxyRequest(policy.upstreams["r"], "POST", "/api/v1/chat/completions", json.dumps(body).encode())
    found = quote(by, request, by.prices.candidates("r", "POST", request.path), NOW_MS, limit=10**7)
    assert found.output_cap is not None
    assert found.output_cap < 1_000
    assert 9_900_000 < (found.estimate or 0) <= 10**7
    dear = Catalog().tariff("openrouter", names[1], NOW_MS)
    assert dear is not None
    assert found.rates == dear.standard
