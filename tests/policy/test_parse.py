from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.model import (
    AgentSpec,
    Budget,
    DatedRates,
    Limit,
    Match,
    Rate,
    Scope,
    Upstream,
    UsageSource,
    Webhook,
)
from policy.parse import PolicyError, parse_policy

EXAMPLE = (Path(__file__).parents[2] / "config" / "example.yaml").read_text("utf-8")
UTC_ZONE = ZoneInfo("UTC")
USD = 1_000_000_000


def read_file(name):
    return {"/run/key": "alk_from_file", "/run/two-lines": "one\ntwo"}[name]


def parse(text, **env):
    return parse_policy(text, name="policy.yaml", env=env, read_file=read_file)


def policy(text, **env):
    return parse("version: 1\n" + text, **env).policy


def codes(text, **env):
    with pytest.raises(PolicyError) as raised:
        parse("version: 1\n" + text, **env)
    return [problem.code for problem in raised.value.problems]


def per_mtok(key, usage, usd):
    return Rate(key, usage, int(Decimal(usd) * USD), 1_000_000)


# -- the example, field by field -----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def example():
    return parse(EXAMPLE).policy


def test_the_example_has_no_warning():
    assert parse(EXAMPLE).warnings == ()


def test_the_examples_defaults(example):
    assert (example.unpriced, example.mode, example.zone, example.durability) == ("deny", "enforce", UTC_ZONE, "normal")
    assert example.hash == hashlib.sha256(EXAMPLE.encode()).hexdigest()[:16]


def test_the_examples_upstreams(example):
    assert example.upstreams == {
        "openai": Upstream(
            name="openai",
            url="https://api.openai.com",
            meter="openai",
            catalog="openai",
            set_headers=(("authorization", "Bearer unset"),),
        ),
        "anthropic": Upstream("anthropic", "https://api.anthropic.com", "anthropic", "anthropic"),
        "tools": Upstream("tools", "http://127.0.0.1:8931", "mcp"),
        "render": Upstream("render", "http://127.0.0.1:9000/api", timeout_s=120.0),
    }
    sidecars_own = parse(EXAMPLE, OPENAI_API_KEY="sk-own").policy.upstreams["openai"]
    assert sidecars_own.set_headers == (("authorization", "Bearer sk-own"),)


def test_the_examples_agents(example):
    stated = frozenset({"name", "role", "owner_id", "monthly_budget", "per_action_limit"})
    assert example.agents == {
        "researcher": AgentSpec(
            id="researcher",
            name="Research bot",
            role="Market research",
            owner_id="growth-team",
            monthly_budget=100 * USD,
            per_action_limit=5 * USD,
            managed=stated,
        ),
        "painter": AgentSpec(
            id="painter",
            name="Painter",
            role="Pictures",
            owner_id="design-team",
            monthly_budget=20 * USD,
            per_action_limit=USD // 2,
            key="alk_painter_example_key",
            managed=stated | {"key"},
        ),
    }
    assert parse(EXAMPLE, PAINTER_KEY="alk_other").policy.agents["painter"].key == "alk_other"


def test_the_examples_prices_in_their_order(example):
    assert {price.name: price.match for price in example.prices} == {
        "own-deal-gpt-4o": Match(("openai",), ("POST",), ("/v1/chat/completions",), body=(("model", ("gpt-4o*",)),)),
        "counting-tokens": Match(("anthropic",), paths=("/v1/messages/count_tokens",)),
        "catalog": Match(("openai", "anthropic"), ("POST",)),
        "listing-models": Match(("openai", "anthropic"), ("GET",)),
        "web-search": Match(("tools",), body=(("method", ("tools/call",)), ("params.name", ("web_search",)))),
        "other-tools": Match(("tools",), body=(("method", ("tools/call",)),)),
        "mcp-talk": Match(("tools",)),
        "video": Match(("render",), paths=("/video/**",)),
    }
    assert [price.name for price in example.prices] == [
        "own-deal-gpt-4o",
        "counting-tokens",
        "catalog",
        "listing-models",
        "web-search",
        "other-tools",
        "mcp-talk",
        "video",
    ]


def test_the_examples_rates(example):
    rates = {price.name: price.rates for price in example.prices}
    new_year_ms = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp()) * 1000
    assert rates["own-deal-gpt-4o"] == (
        DatedRates(
            0,
            (
                per_mtok("input_mtok", "input_tokens", "2.50"),
                per_mtok("cache_read_mtok", "cache_read_tokens", "1.25"),
                per_mtok("output_mtok", "output_tokens", "10.00"),
            ),
        ),
        DatedRates(
            new_year_ms,
            (
                per_mtok("input_mtok", "input_tokens", "2.00"),
                per_mtok("cache_read_mtok", "cache_read_tokens", "1.00"),
                per_mtok("output_mtok", "output_tokens", "8.00"),
            ),
        ),
    )
    assert rates["catalog"] == "catalog"
    free = (DatedRates(0, (Rate("request", "request", 0),)),)
    assert rates["counting-tokens"] == rates["listing-models"] == rates["mcp-talk"] == free
    assert rates["web-search"] == (DatedRates(0, (Rate("request", "request", USD // 100),)),)
    assert rates["other-tools"] == (DatedRates(0, (Rate("request", "request", USD // 1000),)),)
    own_units = (Rate("request", "request", USD // 20), Rate("seconds", "seconds", USD // 500))
    assert rates["video"] == (DatedRates(0, own_units),)


def test_the_examples_estimates_and_usage(example):
    prices = {price.name: price for price in example.prices}
    assert prices["own-deal-gpt-4o"].estimate == {"output_tokens": Fraction(2048)}
    assert [price.name for price in example.prices if price.cap_output] == ["own-deal-gpt-4o"]
    assert prices["video"].usage == (UsageSource("seconds", "response", "result.billed_seconds"),)
    assert prices["video"].estimate == {"seconds": Fraction(60)}
    assert not any(
        price.estimate or price.usage for name, price in prices.items() if name not in ("own-deal-gpt-4o", "video")
    )


def test_the_examples_budgets_limits_and_alerts(example):
    assert example.budgets == (
        Budget("agent-day", 25 * USD, "day", UTC_ZONE, Scope(each="agent")),
        Budget("design-month", 15 * USD, "month", ZoneInfo("Europe/Berlin"), Scope(owner_ids=("design-team",))),
        Budget("search-trial", 5 * USD, "day", UTC_ZONE, Scope(prices=("web-search",)), mode="shadow"),
    )
    assert example.limits == (
        Limit("burst", requests=120, period="minute", scope=Scope(each="agent")),
        Limit("parallel", concurrent=16, scope=Scope(each="agent")),
    )
    assert example.thresholds == (50, 80, 100)
    types = ("budget_threshold", "budget_exceeded")
    hook = Webhook("http://127.0.0.1:9999/hook", "slack", types, "127.0.0.1:9999")
    assert example.webhooks == (hook,)
    assert parse(EXAMPLE, ALERT_WEBHOOK="https://h.example/T?k=1").policy.webhooks[0].url == "https://h.example/T?k=1"


def test_promise_10_no_credential_in_the_repr_of_a_policy():
    shown = repr(parse(EXAMPLE, OPENAI_API_KEY="sk-own", PAINTER_KEY="alk_own", ALERT_WEBHOOK="https://h/T0own"))
    assert not [secret for secret in ("sk-own", "alk_own", "T0own") if secret in shown]


# -- the grammar ---------------------------------------------------------------------------------------------------
def test_the_least_policy():
    least = policy("")
    assert (least.unpriced, least.upstreams, least.agents, least.prices) == ("deny", {}, {}, ())


def test_a_section_whose_entries_are_commented_out_is_empty():
    assert policy("agents:\n  # - id: a\nbudgets:\ndefaults:\n").agents == {}


@pytest.mark.parametrize(
    ("written", "meant"),
    [("deny", "deny"), ("free", "free"), ("{request: 0.01}", (Rate("request", "request", USD // 100),))],
)
def test_unpriced(written, meant):
    assert policy(f"defaults: {{unpriced: {written}}}").unpriced == meant


def test_defaults_are_those_of_the_whole_policy():
    found = policy(
        "defaults: {mode: shadow, timezone: Asia/Tokyo, durability: strict, ledger_unavailable: allow}\n"
        "budgets: [{name: b, amount: 1, period: week}]\n"
        "prices: [{name: p, rates: [{request: 1}, {from: 2027-01-01, request: 2}]}]\n"
    )
    assert (found.mode, found.durability, found.zone.key) == ("shadow", "strict", "Asia/Tokyo")
    assert (found.ledger_unavailable, policy("").ledger_unavailable) == ("allow", "deny")
    assert (found.budgets[0].zone.key, found.budgets[0].mode) == ("Asia/Tokyo", "enforce")
    tokyo_ms = int(datetime(2026, 12, 31, 15, tzinfo=UTC).timestamp()) * 1000
    assert [dated.from_ms for dated in found.prices[0].rates] == [0, tokyo_ms]


def test_rates_that_begin_on_a_day():
    (price,) = policy("prices: [{name: p, rates: {from: 2027-01-01, request: 2}}]").prices
    assert [dated.from_ms for dated in price.rates] == [1798761600000]
    assert [rate.key for rate in price.rates[0].rates] == ["request"]


@pytest.mark.parametrize(
    ("url", "meter", "catalog"),
    [
        ("https://api.openai.com/v1", "openai", "openai"),
        ("https://api.anthropic.com", "anthropic", "anthropic"),
        ("https://generativelanguage.googleapis.com", "gemini", "google"),
        ("https://api.mistral.ai", "mistral", "mistral"),
        ("https://api.cohere.com", "cohere", "cohere"),
        ("https://api.deepseek.com", "deepseek", "deepseek"),
        ("https://api.groq.com/openai", "groq", "groq"),
        ("https://aiplatform.googleapis.com", "gemini", "google"),
        ("https://europe-west4-aiplatform.googleapis.com", "gemini", "google"),
        ("https://ours.cognitiveservices.azure.com", "openai", "azure"),
        ("https://openrouter.ai/api", "openrouter", "openrouter"),
        ("https://mine.openai.azure.com", "openai", "azure"),
        ("https://bedrock-runtime.eu-central-1.amazonaws.com", "bedrock", "aws"),
        ("https://api.x.ai", None, "x-ai"),
        ("https://API.openai.com:443", "openai", None),
        ("http://example.com/api.openai.com", None, None),
        ("https://api.openai.com.example.com", None, "openai"),
        ("http://[::1]:8080", None, None),
        ("builtin:demo", None, None),
    ],
)
def test_meter_and_catalog_are_told_by_the_url(url, meter, catalog):
    upstream = policy(f"upstreams: {{u: {{url: '{url}'}}}}").upstreams["u"]
    assert (upstream.url, upstream.meter, upstream.catalog) == (url, meter, catalog)
    said = policy(f"upstreams: {{u: {{url: '{url}', meter: mcp, catalog: groq}}}}").upstreams["u"]
    assert (said.meter, said.catalog) == ("mcp", "groq")


def test_an_upstreams_other_fields():
    text = """
upstreams:
  u:
    url: http://host:9/base/
    timeout: 2m
    ask_usage: false
    charge_errors: true
    max_in_flight: 8
    circuit_breaker: false
    set_headers:
      X-Org: ""
      Authorization: "Bearer ${file:/run/key}"
      x-account: ${env:ACCOUNT}
      x-flag: ${env:FLAG}
"""
    found = policy(text, ACCOUNT="123", FLAG="true").upstreams["u"]
    assert (found.url, found.timeout_s, found.ask_usage, found.charge_errors) == (
        "http://host:9/base",
        120.0,
        False,
        True,
    )
    assert (found.max_in_flight, found.circuit_breaker) == (8, False)
    assert found.set_headers == (
        ("x-org", ""),
        ("authorization", "Bearer alk_from_file"),
        ("x-account", "123"),
        ("x-flag", "true"),
    )


@pytest.mark.parametrize(("written", "seconds"), [("1s", 1), ("90s", 90), ("2m", 120), ("24h", 86400)])
def test_durations(written, seconds):
    assert policy(f"upstreams: {{u: {{url: 'http://x', timeout: {written}}}}}").upstreams["u"].timeout_s == seconds


def test_an_agent_that_states_the_least_manages_the_least():
    found = policy("agents: [{id: 007, monthly_budget: 0}]").agents["007"]
    assert found == AgentSpec("007", "007", managed=frozenset({"monthly_budget"}))


def test_an_agent_that_states_everything():
    found = policy(
        "agents: [{id: a, name: no, role: r, owner_id: 42, monthly_budget: '1', per_action_limit: 0, "
        "auto_resume: true, key: alk_x}]"
    ).agents["a"]
    managed = frozenset({"name", "role", "owner_id", "monthly_budget", "per_action_limit", "auto_resume", "key"})
    assert found == AgentSpec("a", "no", "r", "42", USD, 0, True, "alk_x", managed)


def test_amounts_are_exact():
    found = policy("agents: [{id: a, monthly_budget: 0.100000001, per_action_limit: 1e-9}]").agents["a"]
    assert (found.monthly_budget, found.per_action_limit) == (100_000_001, 1)


def test_rates_may_be_finer_than_money():
    (price,) = policy("prices: [{name: p, rates: {input_mtok: 0.0000000025, pages: 0.0000000000005}}]").prices
    assert [Fraction(rate.nano, rate.per) for rate in price.rates[0].rates] == [
        Fraction(25, 10 * 10**6),
        Fraction(5, 10_000),
    ]


def test_a_number_in_a_body_condition_has_a_bounded_length():
    assert codes(f"prices: [{{name: p, rates: catalog, match: {{body: {{a: {'9' * 41}}}}}}}]") == ["number"]


def test_matches_take_one_or_many():
    found = policy(
        "upstreams: {a: {url: 'http://a'}, b: {url: 'http://b'}}\n"
        "prices:\n"
        "  - name: p\n"
        "    match:\n"
        "      upstream: [a, b]\n"
        "      method: [GET, POST]\n"
        "      path: [/x, '/y/**']\n"
        "      protocol: websocket\n"
        "      body: {s: [a, 'b*'], n: 1, d: 0.50, e: 1e2, t: true, z: null, q: '1', no: no}\n"
        "    rates: {input_mtok: 1, output_mtok: 1, clips: 2, bytes: 1}\n"
        "    usage: {clips: {request: /a~1b/n}, input_tokens: {header: X-In}, bytes: {measured: response_bytes}}\n"
        "    estimate: {clips: 2.5, input_tokens: 10, output_tokens: 20}\n"
        "    model: gpt-4o\n"
    ).prices[0]
    assert found.match.upstreams == ("a", "b")
    assert found.match.methods == ("GET", "POST")
    assert found.match.paths == ("/x", "/y/**")
    assert found.match.websocket
    values = dict(found.match.body)
    assert values == {
        "s": ("a", "b*"),
        "n": (1,),
        "d": (Decimal("0.5"),),
        "e": (100,),
        "t": (True,),
        "z": (None,),
        "q": ("1",),
        "no": ("no",),
    }
    assert values["t"][0] is True
    assert type(values["n"][0]) is int
    assert found.usage == (
        UsageSource("clips", "request", "/a~1b/n"),
        UsageSource("input_tokens", "header", "x-in"),
        UsageSource("bytes", "measured", "response_bytes"),
    )
    assert found.estimate == {"clips": Fraction(5, 2), "input_tokens": 10, "output_tokens": 20}
    assert found.model == "gpt-4o"


def test_scopes_take_one_or_many():
    found = policy(
        "upstreams: {u: {url: 'http://u'}}\n"
        "agents: [{id: a, monthly_budget: 1}, {id: b, monthly_budget: 1}]\n"
        "prices: [{name: p, rates: {request: 1}}]\n"
        "limits:\n"
        "  - {name: l, requests: 1, period: total, each: price, mode: shadow,\n"
        "     match: {agent: [a, b], owner_id: o, role: [r, s], upstream: u, price: [p]}}\n"
    ).limits[0]
    assert found.scope == Scope(("a", "b"), ("o",), ("r", "s"), ("u",), ("p",), "price")
    assert (found.mode, found.period) == ("shadow", "total")


def test_thresholds_ascend():
    assert policy("alerts: {thresholds: [100%, 50%, 50%]}").thresholds == (50, 100)


# -- substitution --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("written", "env", "meant"),
    [
        ("${env:A}", {"A": "x"}, "x"),
        ("${env:A}", {"A": "${env:B}"}, "${env:B}"),
        ("${env:A:-d}", {}, "d"),
        ("${env:A:-d}", {"A": ""}, "d"),
        ("${env:A:-}", {}, ""),
        ("${env:A:-a:-b $c}", {}, "a:-b $c"),
        ("<${env:A}${env:A}>", {"A": "x"}, "<xx>"),
        ("$5 {x} $", {}, "$5 {x} $"),
        ("${file:/run/key}", {}, "alk_from_file"),
    ],
)
def test_substitutions(written, env, meant):
    assert policy(f'agents: [{{id: a, monthly_budget: 1, role: "{written}"}}]', **env).agents["a"].role == meant


@pytest.mark.parametrize(
    "written", ["${A}", "${env:}", "${env:1A}", "${env:A", "${ENV:A}", "${file:relative}", "${env:A:-${env:B}}", "${}"]
)
def test_no_other_substitution_is_known(written):
    assert codes(f'agents: [{{id: a, monthly_budget: 1, role: "{written}"}}]', A="x") == ["substitution"]


def test_a_substitution_may_be_a_number_or_a_flag():
    found = policy(
        "agents:\n  - id: a\n    monthly_budget: ${env:BUDGET:-2.50}\n    auto_resume: ${env:RESUME}\n", RESUME="true"
    ).agents["a"]
    assert (found.monthly_budget, found.auto_resume) == (2_500_000_000, True)


def test_an_empty_variable_counts_as_missing():
    assert codes("agents: [{id: a, monthly_budget: 1, key: '${env:A}'}]", A="") == ["missing-env"]


def test_a_missing_secret_is_one_problem_not_two():
    assert codes("agents:\n  - id: a\n    monthly_budget: ${env:NOT}\n    key: ${env:NOT}\n") == ["missing-env"] * 2


@pytest.mark.parametrize(
    "text",
    [
        "defaults: {mode: X, timezone: X, durability: X, ledger_unavailable: X, unpriced: X}",
        "upstreams: {u: {url: X, meter: X, catalog: X, timeout: X, ask_usage: X, set_headers: {a: X}}}",
        "agents: [{id: X, name: X, monthly_budget: X, auto_resume: X, key: X}]",
        "prices: [{name: X, rates: {request: X}, match: {method: X, path: X, upstream: X, body: {a: X}, protocol: X}}]",
        "prices: [{name: p, rates: [{request: 1}, {from: X, request: X}]}]",
        "prices: [{name: p, rates: {clips: 1}, estimate: {clips: X}, usage: {clips: {header: X}}, model: X}]",
        "budgets: [{name: X, amount: X, period: X, each: X, match: {agent: X, role: [X]}}]",
        "limits: [{name: l, concurrent: X}]",
        "alerts: {thresholds: [X], webhooks: [{url: X, name: X, format: X, types: [X], secret: X}]}",
    ],
)
def test_a_missing_value_is_one_problem_wherever_it_stands(text):
    assert codes(text.replace("X", '"${env:NOT}"')) == ["missing-env"] * text.count("X")


def test_a_secret_of_two_lines_is_no_header():
    assert codes("upstreams: {u: {url: 'http://x', set_headers: {a: '${file:/run/two-lines}'}}}") == ["header"]


def test_the_hash_is_of_the_text_before_substitution():
    text = "version: 1\nagents: [{id: a, monthly_budget: 1, key: '${env:A}'}]\n"
    assert parse(text, A="alk_1").policy.hash == parse(text, A="alk_2").policy.hash
    assert parse(text, A="alk_1").policy.hash != parse(text + "\n", A="alk_1").policy.hash


# -- webhooks ------------------------------------------------------------------------------------------------------
def hooks(*webhooks, **env):
    listed = "".join(f"    - {webhook}\n" for webhook in webhooks)
    return parse(f"version: 1\nalerts:\n  webhooks:\n{listed}", **env).policy.webhooks


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://hooks.example/services/T0?key=1", "hooks.example"),
        ("https://Hooks.Example:443/T0", "hooks.example"),
        ("http://hooks.example:80", "hooks.example"),
        ("http://hooks.example:443/a:80", "hooks.example:443"),
        ("https://hooks.example:8443/T0", "hooks.example:8443"),
        ("http://127.0.0.1:9999/hook", "127.0.0.1:9999"),
        ("http://[::1]/hook", "[::1]"),
        ("http://[::1]:9999/hook", "[::1]:9999"),
    ],
)
def test_promise_10_a_webhook_without_a_name_has_its_hosts(url, name):
    (hook,) = hooks(f'{{url: "{url}"}}')
    assert (hook.url, hook.name, hook.secret) == (url, name, None)


def test_webhooks_of_one_host_are_told_apart_and_a_name_that_is_stated_stays():
    found = hooks(
        "{url: 'http://h/1'}",
        "{url: 'http://h/2', name: ops}",
        "{url: 'http://h/3'}",
        "{url: 'http://i/4', name: h}",
        "{url: 'http://h/5', name: h-3}",
        "{url: 'http://h/6'}",
    )
    assert [hook.name for hook in found] == ["h-2", "ops", "h-4", "h", "h-3", "h-5"]


def test_promise_10_a_webhooks_secret_is_substituted_and_never_shown():
    (hook,) = hooks("{url: 'http://h/1', secret: '${env:SIGN}'}", SIGN="whsec_0123456789")
    assert hook.secret == "whsec_0123456789"
    assert "whsec" not in repr(hook)


# -- all at once, and nothing else ---------------------------------------------------------------------------------
def test_every_problem_is_told_at_once():
    text = "agents: [{id: a b, monthly_budget: x, kye: 1}]\nbudgets: [{name: b}]\nlimits: 1\n"
    assert codes(text) == ["name", "amount", "unknown-key", "missing-key", "missing-key", "wrong-type"]


def test_a_thousand_slips_among_a_thousand_agents_are_told_quickly():
    agents = "".join(f"  - {{id: agent-{n}, monthly_budget: 1}}\n" for n in range(1000))
    budgets = "".join(f"  - {{name: b{n}, amount: 1, period: day, match: {{agent: agnet-{n}}}}}\n" for n in range(1000))
    assert codes(f"agents:\n{agents}budgets:\n{budgets}") == ["unknown-name"] * 1000


ENV = {"OPENAI_API_KEY": "sk-planted-1", "PAINTER_KEY": "alk_planted-2", "ALERT_WEBHOOK": "http://hooks/planted-3"}
PLANTED = EXAMPLE.replace("alk_painter_example_key", "alk_planted-4")
SLIPS = [*" \n\t:-{}[]\"'#&*!|>%@,0a~$", "${", "- ", ": ", "\n  ", ""]


def told(text):
    """All that is said of the text, whether it is a policy or a PolicyError; any other exception fails the test."""
    try:
        parsed = parse(text, **ENV)
    except PolicyError as error:
        assert error.problems  # noqa: PT017 (either outcome is right)
        return f"{error.render()}{error!r}{error}"
    return f"{parsed.render()}{parsed!r}"


@st.composite
def mutated(draw, text=PLANTED):
    """The example after a few slips of the hand."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text) - 1))
        end = min(len(text), at + draw(st.integers(0, 6)))
        text = text[:at] + draw(st.sampled_from(SLIPS)) + text[end:]
    return text


@st.composite
def shuffled(draw):
    """The example with lines that moved."""
    lines = PLANTED.splitlines(keepends=True)
    for _ in range(draw(st.integers(1, 3))):
        line = lines.pop(draw(st.integers(0, len(lines) - 1)))
        lines.insert(draw(st.integers(0, len(lines))), line)
    return "".join(lines)


@given(mutated() | shuffled())
def test_promise_10_and_hazard_33_a_broken_example_raises_only_policy_errors_that_show_no_secret(text):
    assert "planted" not in told(text)


@given(st.text() | st.text(alphabet="ab:-[]{}, \n'\"&*!|#${}1"))
def test_hazard_33_arbitrary_text_raises_only_policy_errors(text):
    told(text)


KEYS = sorted(set(re.findall(r"[a-z_]+(?=:)", EXAMPLE)) | {"request", "header", "from", "catalog", "agent", "protocol"})
scalars = ["1", "x", "true", "-1", "1e999999999", "'a b'", "50%", "/x", "2027-01-01", "catalog", "~", "9" * 5000]
yamlish = st.recursive(
    st.sampled_from(scalars),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: "[" + ", ".join(items) + "]")
        | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5).map(
            lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
        )
    ),
    max_leaves=30,
)
mappings = yamlish.filter(lambda value: value.startswith("{"))


@given(
    st.dictionaries(st.sampled_from(["defaults", "alerts"]), mappings),
    st.dictionaries(
        st.sampled_from(["agents", "prices", "budgets", "limits"]), st.lists(mappings, min_size=1, max_size=2)
    ),
    mappings,
)
def test_any_shape_of_yaml_is_a_policy_or_a_policy_error(sections, lists, upstream):
    lines = [f"{name}: {value}" for name, value in sections.items()]
    lines += [f"{name}: [{', '.join(items)}]" for name, items in lists.items()]
    told("\n".join(["version: 1", *lines, f"upstreams: {{u: {upstream}}}"]))
