from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from policy.model import DatedRates, Match, Price, Scope, Upstream, UsageSource, Webhook
from policy.units import make_rate
from policy.words import RateWords, conditions_of, host_of, place_of, rates_of, remarks_of, scope_of


def test_rates_are_dollars_for_what_their_keys_say():
    rates = (
        make_rate("input_mtok", Decimal("2.5"), [(200_000, Decimal(5))]),
        make_rate("request", Decimal("0.001")),
        make_rate("seconds", Decimal("0")),
        make_rate("web_searches_kcount", Decimal(10)),
    )
    assert rates_of(rates) == [
        RateWords("input_tokens", "$2.50", "million", (("200,000", "$5.00"),)),
        RateWords("request", "$0.001", ""),
        RateWords("seconds", "$0.00", ""),
        RateWords("web_searches", "$10.00", "1,000"),
    ]


def test_a_match_says_what_is_looked_at():
    match = Match(("openai", "groq"), ("POST",), ("/v1/*",), (("model", ("gpt-4o*",)), ("stream", (True, None, 1))))
    assert conditions_of(match) == [
        ("upstream", ("openai", "groq")),
        ("method", ("POST",)),
        ("path", ("/v1/*",)),
        ("body model", ["gpt-4o*"]),
        ("body stream", ["true", "null", "1"]),
    ]
    assert conditions_of(Match(websocket=True)) == [("protocol", ["websocket"])]
    assert conditions_of(Match()) == []


def test_a_scope_says_what_it_counts_in_the_policys_own_keys():
    assert scope_of(Scope(agents=("a",), owner_ids=("o", "p"))) == [("agent", ("a",)), ("owner_id", ("o", "p"))]
    assert scope_of(Scope(each="agent")) == []


def test_what_a_price_says_beside_its_rates():
    price = Price(
        "video",
        Match(),
        (DatedRates(0, ()),),
        (UsageSource("seconds", "response", "result.seconds"), UsageSource("pages", "header", "x-pages")),
        {"seconds": Fraction(5, 2), "output_tokens": Fraction(2048)},
        cap_output=True,
        model="gpt-4o",
    )
    assert remarks_of(price) == [
        "seconds: the answer's result.seconds",
        "pages: the answer's header x-pages",
        "estimated where not stated: 2.5 seconds, 2,048 output_tokens",
        "output held to what the per-action limit affords",
        "model: gpt-4o",
    ]
    assert remarks_of(Price("plain", Match(), "catalog")) == []


def test_promise_10_urls_keep_their_secrets():
    assert host_of(Webhook("https://hooks.example:8443/services/secret?key=secret")) == "hooks.example"
    assert place_of(Upstream("a", "https://user:secret@api.example/v1?key=secret#secret")) == "https://api.example/v1"
    assert place_of(Upstream("demo", "builtin:demo")) == "builtin:demo"
