from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.match import PriceIndex
from policy.parse import parse_policy

CONFIG = Path(__file__).parents[2] / "config"


def parsed(text):
    return parse_policy("version: 1\n" + text, name="policy.yaml", env={}, read_file=str)


def codes(text):
    return [problem.code for problem in parsed(text).warnings]


def prices(*matches):
    rules = "".join(f"  - {{name: p{n}, match: {match}, rates: {{request: 1}}}}\n" for n, match in enumerate(matches))
    return f"upstreams:\n  a: {{url: 'http://a'}}\n  b: {{url: 'http://b'}}\nprices:\n{rules}"


def unreachable(*matches):
    found = parsed(prices("{path: /never-this, upstream: [a, b]}", *matches)).warnings
    return [problem for problem in found if problem.code == "unreachable"]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("{}", "{}"),
        ("{}", "{upstream: a, method: GET, path: /x, body: {m: 1}}"),
        ("{upstream: [a, b]}", "{method: GET}"),
        ("{method: [GET, POST]}", "{method: POST}"),
        ("{path: /x}", "{path: /x}"),
        ("{path: '**'}", "{path: /x}"),
        ("{path: '/**'}", "{}"),
        ("{path: '/v1/**'}", "{path: [/v1/a, '/v1/*/b', '/v1/x/**']}"),
        ("{path: '/v1/*'}", "{path: /v1/a}"),
        ("{path: '/v1/*'}", "{path: '/v1/a*b'}"),
        ("{path: ['/v1/*', /v2]}", "{path: [/v2, /v1/a]}"),
        ("{body: {m: x, n: [1, 2]}}", "{body: {m: x, n: [1, 2]}}"),
        ("{protocol: websocket}", "{protocol: websocket, path: /x}"),
    ],
)
def test_a_price_that_an_earlier_one_covers_is_never_reached(earlier, later):
    (problem,) = unreachable(earlier, later)
    assert "'p1'" in problem.message
    assert problem.line == 8


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("{upstream: a}", "{}"),
        ("{upstream: a}", "{upstream: b}"),
        ("{upstream: a}", "{upstream: [a, b]}"),
        ("{method: POST}", "{}"),
        ("{method: POST}", "{method: [GET, POST]}"),
        ("{path: /x}", "{}"),
        ("{path: /x}", "{path: [/x, /y]}"),
        ("{path: '/v1/*'}", "{path: '/v1/**'}"),
        ("{path: '/v1/a*b'}", "{path: '/v1/a**b'}"),
        ("{path: '/v1/*'}", "{path: /v1/a/b}"),
        ("{body: {m: x}}", "{}"),
        ("{body: {m: x}}", "{body: {m: y}}"),
        ("{body: {m: true}}", "{body: {m: 1}}"),
        ("{protocol: websocket}", "{path: /x}"),
        ("{}", "{protocol: websocket}"),
    ],
)
def test_a_price_that_some_call_reaches_is_not_warned_of(earlier, later):
    assert not unreachable(earlier, later)


paths = st.lists(st.sampled_from(["/*", "/**", "/a", "/a*", "/b", "**", "*b"]), min_size=1, max_size=3).map("".join)
rules = st.fixed_dictionaries(
    {},
    optional={
        "upstream": st.sampled_from(["a", "[a, b]"]),
        "method": st.sampled_from(["GET", "[GET, POST]"]),
        "path": paths.filter(lambda path: path.startswith(("/", "*"))).map(lambda path: f"'{path}'"),
    },
).map(lambda match: "{" + ", ".join(f"{key}: {value}" for key, value in match.items()) + "}")
sent = st.lists(st.sampled_from(["/", "/a", "/ab", "/b", "b"]), max_size=5).map(lambda parts: "/" + "".join(parts))


@given(st.lists(rules, min_size=2, max_size=4), st.sampled_from("ab"), st.sampled_from(["GET", "POST"]), sent)
def test_no_call_ever_reaches_a_price_that_is_warned_of(matches, upstream, method, path):
    found = parsed(prices(*matches))
    unreached = {f"p{problem.line - 6}" for problem in found.warnings if problem.code == "unreachable"}
    index = PriceIndex(found.policy)
    price = index.first(index.candidates(upstream, method, path), None)
    assert price is None or price.name not in unreached


def test_a_thousand_prices_are_checked_one_by_one_with_few():
    matches = [f"{{path: '/v1/{n}/*'}}" for n in range(500)] + [f"{{path: /v1/{n}/x}}" for n in range(500)]
    assert len(unreachable(*matches)) == 500


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # thresholds
        ("alerts: {thresholds: [100%]}", []),
        ("alerts: {thresholds: [101%, 50%, 200%]}", ["percent-above-100"] * 2),
        # agents
        ("agents: [{id: a, monthly_budget: 1, per_action_limit: 1}]", []),
        ("agents: [{id: a, monthly_budget: 1, per_action_limit: 1.01}]", ["limit-above-budget"]),
        ("agents: [{id: a, monthly_budget: 0}]", []),
        # scopes
        ("budgets: [{name: b, amount: 1, period: day, match: {owner_id: o}}]", ["no-such-agent"]),
        (
            "agents: [{id: a, monthly_budget: 1, role: r}]\nlimits: [{name: l, concurrent: 1, match: {role: r}}]",
            [],
        ),
        (
            "agents: [{id: a, monthly_budget: 1, owner_id: o}, {id: b, monthly_budget: 1, role: r}]\n"
            "limits: [{name: l, concurrent: 1, match: {owner_id: o, role: r}}]",
            ["no-such-agent"],
        ),
        # upstreams
        ("upstreams: {u: {url: 'http://u'}}", ["no-price"]),
        ("upstreams: {u: {url: 'http://u'}}\ndefaults: {unpriced: free}", []),
        ("upstreams: {u: {url: 'http://u'}}\nprices: [{name: p, rates: {request: 1}}]", []),
        ("upstreams: {u: {url: 'http://u'}}\nprices: [{name: p, rates: catalog}]", ["no-meter"]),
        ("upstreams: {u: {url: 'http://u', meter: openai}}\nprices: [{name: p, rates: catalog}]", []),
        ("upstreams: {u: {url: 'builtin:demo'}}\nprices: [{name: p, rates: catalog}]", []),
        ("upstreams: {u: {url: 'http://u'}}\nprices: [{name: p, rates: {input_mtok: 1}}]", ["no-meter"]),
        (
            "upstreams: {u: {url: 'http://u'}}\n"
            "prices: [{name: p, rates: {input_mtok: 1}, usage: {input_tokens: {response: n}}}]",
            [],
        ),
        # units of the author's own
        ("prices: [{name: p, rates: {request: 1, seconds: 1}}]", ["unmeasured"]),
        ("prices: [{name: p, rates: [{seconds: 1}, {from: 2027-01-01, seconds: 2}]}]", ["unmeasured"]),
        ("prices: [{name: p, rates: {seconds: 1}, usage: {seconds: {header: x-s}}}]", []),
        # what is not built yet
        ("prices: [{name: p, rates: catalog, cap_output: true}]", []),
        ("prices: [{name: p, rates: catalog, match: {protocol: websocket}}]", ["not-yet"]),
        ("alerts: {webhooks: [{url: 'http://h'}, {url: 'http://i'}]}", []),
        ("upstreams: {u: {url: 'https://api.groq.com'}}\ndefaults: {unpriced: free}", []),
    ],
)
def test_warnings(text, expected):
    assert codes(text) == expected


@pytest.mark.parametrize("path", sorted(CONFIG.rglob("*.yaml")), ids=lambda path: path.name)
def test_every_policy_to_start_from_loads(path):
    found = parse_policy(path.read_text("utf-8"), name=path.name, env={}, read_file=str)
    assert not [problem for problem in found.warnings if problem.code in ("unreachable", "no-price", "no-meter")]
