from __future__ import annotations

import itertools
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policy.match import PathIndex, PriceIndex, budgets_for, limits_for, misses, path_glob, reads_body, text_glob
from policy.model import Budget, DatedRates, Limit, Match, Policy, Price, Rate, Scope, UsageSource

FREE = (DatedRates(0, (Rate("request", "request", 0),)),)
BY_TOKENS = (DatedRates(0, (Rate("input_mtok", "input_tokens", 1, 1_000_000),)),)


def price(name, rates=FREE, usage=(), **match):
    return Price(name, Match(**match), rates, usage)


def index(*prices):
    return PriceIndex(Policy("", prices=prices))


def first(prices, body, upstream="up", method="POST", path="/", **kind):
    found = index(*prices)
    priced = found.first(found.candidates(upstream, method, path, **kind), body)
    return priced and priced.name


def naive(glob, text, across):
    """The wildcards by their definition, slowly."""
    if not glob:
        return not text
    if glob.startswith("**") and across:
        return any(naive(glob.lstrip("*"), text[n:], across) for n in range(len(text) + 1))
    if glob[0] == "*":
        ends = range(len(text) + 1)
        return any(naive(glob[1:], text[n:], across) for n in ends if not across or "/" not in text[:n])
    if glob[0] == "?" and not across:
        return bool(text) and naive(glob[1:], text[1:], across)
    return bool(text) and text[0] == glob[0] and naive(glob[1:], text[1:], across)


paths = st.lists(st.sampled_from(["a", "b", "/", "/a", "."]), max_size=9).map("".join)
globs = st.lists(st.sampled_from(["a", "b", "/", "/a", "*", "**", "."]), max_size=7).map("".join)


@given(globs, paths)
@example("*b/**", "ab/b/")
@example("**a*b**b", "a/abbb")
@example("**a/*b*a/**", "a/ba/bba/")
def test_path_globs_match_what_their_definition_does(glob, path):
    assert bool(path_glob(glob).fullmatch(path)) == naive(glob, path, across=True)
    assert (glob in PathIndex([glob, "/a", "**"]).matching(path)) == naive(glob, path, across=True)


@given(
    st.text(alphabet="ab*?.\n\\", max_size=8),
    st.text(alphabet="abB?.\n\\", max_size=8),
)
def test_text_globs_match_what_their_definition_does(glob, text):
    assert bool(text_glob(glob).fullmatch(text)) == naive(glob, text, across=False)


def test_no_path_and_no_text_makes_a_glob_slow():
    """Backtracking would try these in more than 10^12 ways."""
    assert not path_glob("/**/x/**/x/**/x/**/x/y").fullmatch("/x" * 4000)
    assert not path_glob("/*a*a*a*a*a*a*b").fullmatch("/" + "a" * 4000)
    assert not text_glob("*a*a*a*a*a*a*b").fullmatch("a" * 100_000)


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("/video/**", "/video/a/b", True),
        ("/video/**", "/video/", True),
        ("/video/**", "/video", False),
        ("/v1/*/x", "/v1/a/x", True),
        ("/v1/*/x", "/v1/a/b/x", False),
        ("/v1/models/*", "/v1/models/a%2Fb", True),
        ("/v1/chat", "/v1/Chat", False),
        ("/v1/a.b", "/v1/axb", False),
        ("/v1/chat", "/v1/chat/", False),
    ],
)
def test_paths_are_matched_as_sent(glob, path, matches):
    assert (first([price("p", paths=(glob,))], None, path=path) == "p") is matches


def test_first_match_wins_and_candidates_end_with_the_first_that_needs_no_body():
    prices = [
        price("other", upstreams=("else",)),
        price("get", methods=("GET",)),
        price("tool", body=(("method", ("tools/call",)),)),
        price("any"),
        price("never"),
    ]
    found = index(*prices).candidates("up", "POST", "/x")
    assert [candidate.name for candidate in found] == ["tool", "any"]
    assert first(prices, {"method": "tools/call"}) == "tool"
    assert first(prices, {"method": "tools/list"}) == "any"
    assert first(prices, None) == "any"
    assert first(prices, None, method="GET") == "get"
    assert first(prices, None, method="PROPFIND") == "any"
    assert first(prices, None, upstream="else") == "other"
    assert first([prices[2]], {"method": "tools/list"}) is None


def test_a_glob_above_a_literal_comes_first():
    prices = [price("glob", body=(("model", ("gpt*",)),)), price("literal", body=(("model", ("gpt-4",)),))]
    assert first(prices, {"model": "gpt-4"}) == "glob"
    assert first(prices[::-1], {"model": "gpt-4"}) == "literal"
    paths = [price("glob", paths=("/v1/*",)), price("literal", paths=("/v1/a",))]
    assert first(paths, None, path="/v1/a") == "glob"


def test_plain_tuples_of_prices_are_candidates_too():
    one = price("a", body=(("x", ("1",)),))
    assert index(one).first((one,), {"x": "1"}) is one
    assert reads_body((one,))


@pytest.mark.parametrize(
    ("wanted", "sent", "matches"),
    [
        ("gpt-4o*", "gpt-4o-mini", True),
        ("gpt-4o*", "gpt-4", False),
        ("GPT-4", "gpt-4", False),
        ("gpt-?", "gpt-4", True),
        ("gpt-?", "gpt-", False),
        ("1", 1, False),
        (1, "1", False),
        (1, 1, True),
        (1, Decimal("1.0"), True),
        (1, True, False),
        (True, True, True),
        (True, 1, False),
        (False, 0, False),
        (False, None, False),
        (None, None, True),
        (Decimal("0.1"), Decimal("0.10"), True),
        (Decimal("0.1"), 0.1, True),
        (Decimal("0.1"), Decimal("0.1000000000000000055511151231257827"), False),
        ("*", 1, False),
        ("*", [], False),
        ("*", "", True),
        ("a", ["a"], False),
    ],
)
def test_body_values_are_compared_by_type_and_value(wanted, sent, matches):
    assert (first([price("p", body=(("x", (wanted,)),))], {"x": sent}) == "p") is matches


def test_one_of_several_values_is_enough_and_every_field_must_match():
    prices = [price("p", body=(("a.b", ("x", "y*", 3, None)), ("c", (True,))))]
    for value in ("x", "yes", 3, None):
        assert first(prices, {"a": {"b": value}, "c": True}) == "p"
    assert first(prices, {"a": {"b": "x"}, "c": False}) is None
    assert first(prices, {"a": {"b": "x"}}) is None
    assert first(prices, {"a": "x", "c": True}) is None
    assert first(prices, {"c": True}) is None
    assert first(prices, ["x"]) is None


def test_mcp_a_key_with_dots_is_not_the_field():
    """{"params.name": cheap} beside the real field would be a way to dodge the dear rule."""
    prices = [
        price("cheap", body=(("params.name", ("cheap",)),)),
        price("dear", body=(("params.name", ("dear",)),)),
    ]
    assert first(prices, {"params.name": "cheap", "params": {"name": "dear"}}) == "dear"
    assert first(prices, {"params.name": "cheap"}) is None


def test_websocket_rules_match_upgrades_and_no_others_do():
    prices = [price("socket", websocket=True), price("plain")]
    assert first(prices, None) == "plain"
    assert first(prices, None, websocket=True) == "socket"
    assert first(prices[1:], None, websocket=True) is None


@pytest.mark.parametrize(
    ("one", "reads"),
    [
        (price("request"), False),
        (price("body", body=(("a", ("b",)),)), True),
        (price("tokens", rates=BY_TOKENS), True),
        (price("catalog", rates="catalog"), True),
        (price("stated", usage=(UsageSource("n", "request", "n"),)), True),
        (price("answered", usage=(UsageSource("n", "response", "n"),)), False),
        (price("own", rates=(DatedRates(0, (Rate("seconds", "seconds", 1),)),)), False),
    ],
)
def test_a_body_is_read_only_where_a_price_depends_on_it(one, reads):
    assert reads_body(index(one).candidates("up", "POST", "/")) is reads
    assert reads_body((one,)) is reads


names = st.sampled_from(["a", "b", "c"])
matches = st.builds(
    Match,
    upstreams=st.lists(names, max_size=2).map(tuple),
    methods=st.lists(st.sampled_from(["GET", "POST"]), max_size=1).map(tuple),
    paths=st.lists(st.sampled_from(["/a", "/b", "/*", "/a/**", "/a/*", "**"]), max_size=2).map(tuple),
    body=st.lists(
        st.tuples(
            st.sampled_from(["x", "y.z"]), st.lists(st.sampled_from(["a", "b", "a*", 1, True]), min_size=1).map(tuple)
        ),
        max_size=2,
        unique_by=lambda item: item[0],
    ).map(tuple),
)
bodies = st.sampled_from(
    [None, {}, *({"x": x, "y": {"z": z}} for x, z in itertools.product(["a", "ab", 1, True], repeat=2))]
)


@given(st.lists(matches, max_size=12), names, st.sampled_from(["GET", "POST", "PUT"]), paths, bodies)
def test_the_index_finds_what_a_scan_finds(rules, upstream, method, path, body):
    policy = Policy("", prices=tuple(Price(str(n), match, FREE) for n, match in enumerate(rules)))
    found = PriceIndex(policy)
    for _ in range(2):  # the second time from what is held
        chosen = found.first(found.candidates(upstream, method, path), body)
        missed = misses(policy, upstream, method, path, body)
        assert [name for name, _ in missed] == [str(n) for n in range(int(chosen.name) if chosen else len(rules))]


def test_a_thousand_rules_are_looked_up_not_scanned():
    prices = [price(f"tool{n}", body=(("method", ("tools/call",)), ("params.name", (f"t{n}",)))) for n in range(1000)]
    prices += [price(f"path{n}", paths=(f"/v1/{n}/*",)) for n in range(1000)]
    found = index(*prices)
    candidates = found.candidates("up", "POST", "/v1/999/x")
    assert candidates is found.candidates("up", "POST", "/v1/999/another")
    tried = []
    candidates._tests = tuple(
        tuple((field, lambda sent: bool(tried.append(sent))) for field, _ in tests) for tests in candidates._tests
    )
    assert found.first(candidates, {"method": "tools/call", "params": {"name": "t7"}}).name == "path999"
    assert len(tried) <= 2


def test_what_is_held_of_agents_paths_is_bounded(monkeypatch):
    found = index(*(price(str(n), paths=(f"/{n}",)) for n in range(9)), price("any"))
    for n in range(10_000):
        found.candidates("up", f"METHOD{n}", f"/{n}")
    assert len(found._held) == 10
    monkeypatch.setattr("policy.match._HELD_MAX", 4)
    for n in range(10):
        assert found.candidates("else", "GET", f"/{n}")[-1].name == ("any" if n == 9 else str(n))
    assert len(found._held) <= 4


def test_what_is_held_of_the_paths_themselves_is_bounded(monkeypatch):
    monkeypatch.setattr("policy.match._HELD_MAX", 8)
    found = index(price("any", paths=("/v1/**",)))
    for number in range(100):
        assert len(found.candidates("up", "GET", f"/v1/{number}")) == 1
        assert not found.candidates("up", "GET", f"/v2/{number}")
    assert len(found.candidates("up", "GET", "/v1/" + "x" * 10_000)) == 1
    assert 0 < len(found._by_head) <= 8
    assert max(len(path) for _, _, path, _ in found._by_head) < 1_000


def test_misses_say_why_and_quote_nothing_of_the_body():
    policy = Policy(
        "",
        prices=(
            price("u", upstreams=("x", "y")),
            price("m", methods=("GET",)),
            price("p", paths=("/v1/*",)),
            price("w", websocket=True),
            price("n", body=(("params.name", ("a",)),)),
            price("v", body=(("model", ("gpt*", 1, True, None)),)),
            price("hit"),
            price("after"),
        ),
    )
    assert misses(policy, "up", "POST", "/x", {"model": "private words"}) == [
        ("u", "the upstream is not x or y"),
        ("m", "the method is not GET"),
        ("p", "the path does not match /v1/*"),
        ("w", "only an upgrade to websocket matches"),
        ("n", "the body has no params.name"),
        ("v", "model in the body is not gpt* or 1 or true or null"),
    ]
    assert ("p", "no upgrade matches") in misses(policy, "up", "POST", "/x", None, websocket=True)


CALL = {"agent_id": "a", "owner_id": "o", "role": "r", "upstream": "u", "price": "p"}


@pytest.mark.parametrize(
    ("scope", "group"),
    [
        (Scope(), ""),
        (Scope(agents=("x", "a")), ""),
        (Scope(agents=("x",)), None),
        (Scope(owner_ids=("o",), each="agent"), "a"),
        (Scope(owner_ids=("O",)), None),
        (Scope(roles=("r",), each="owner_id"), "o"),
        (Scope(roles=("x",)), None),
        (Scope(upstreams=("u",), each="role"), "r"),
        (Scope(upstreams=("x",)), None),
        (Scope(prices=("p",), each="upstream"), "u"),
        (Scope(prices=("x",)), None),
        (Scope(prices=("p",), agents=("x",)), None),
        (Scope(each="price"), "p"),
    ],
)
def test_budgets_and_limits_concern_the_calls_in_their_scope(scope, group):
    budget = Budget("b", 1, "day", ZoneInfo("UTC"), scope)
    limit = Limit("l", concurrent=1, scope=scope)
    policy = Policy("", budgets=(budget,), limits=(limit,))
    assert budgets_for(policy, **CALL) == (() if group is None else ((budget, group),))
    assert limits_for(policy, **CALL) == (() if group is None else ((limit, group),))


def test_a_call_without_a_price_is_in_no_prices_scope_and_in_the_group_without_a_name():
    each = Budget("each", 1, "day", ZoneInfo("UTC"), Scope(each="price"))
    only = Budget("only", 1, "day", ZoneInfo("UTC"), Scope(prices=("p",)))
    policy = Policy("", budgets=(only, each))
    assert budgets_for(policy, **{**CALL, "price": None}) == ((each, ""),)
