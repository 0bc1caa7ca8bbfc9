from __future__ import annotations

import json
from decimal import Decimal
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from policy.decide import Verdict
from proxy.ledger.entries import (
    GENESIS,
    DeliveryNote,
    Entry,
    Idempotency,
    LimitHold,
    Notice,
    Opened,
    Pause,
    Terms,
    _encode_rows,
    decode,
    dumps,
    encode,
    loads,
)
from proxy.ledger.port import Action, Agent, Alert, Key

ACTION = Action(
    id="act_1",
    agent_id='a\ud800\u2028\n"é',
    action_type="llm",
    target="t",
    cost=-5,
    outcome="success",
    created_at=1,
    usage={"input_tokens": 10**30, "seconds": Decimal("0.10"), "units": Decimal("1E+3")},
    flags=("x", "y"),
    softened=("unpriced",),
)

PLAIN = Action("act_1", "a", "llm", "t", 5, "success", 1, usage={"input_tokens": 10}, rates={"input_mtok": "2.5"})

KEYS = (Key("k", "key_1", 2), Key("l", "key_2", 2, 9))
AGENT = Agent("a", "n", "r", "o", 1, None, 2, keys=KEYS, managed=frozenset({"x", "y"}))

ENTRIES = [
    Entry("authorize", 1, 2, action=ACTION, holds=(("m", "a", 0, 9),), limits=(LimitHold("l", "", 0, 0),)),
    Entry("settle", 1, 2, action=ACTION, alerts=(Notice(Alert("alr", None, "t", "m", 3), "once", 4),)),
    Entry("adjust", 1, 2, action=ACTION, holds=(("m", "a", 0, 9),), idempotency=Idempotency("adjust k", "d")),
    Entry("denied", 1, 2, action=ACTION, verdict=Verdict("budget_exceeded", "b", "g", 1, 2, None)),
    Entry("denied", 1, 2, action=ACTION, pause=Pause("a", "r", 1, 2), idempotency=Idempotency("k", "d")),
    Entry("repeat", 1, 2, counts={"act_1": 3}, agent_id="a"),
    Entry("agent", 1, 2, agents=(AGENT,)),
    Entry("policy", 1, 2, budgets={"b": Terms("s", 1)}, opened=(Opened("b", "g", 0, 9, 5),), reheld={"act_1": ()}),
    Entry("acknowledge", 1, 2, id="alr"),
    Entry("policy", 1, 2, budgets={"b": Terms("s", 1)}, webhooks={"h": (), "i": ("overrun", "failed_open")}),
    Entry("delivery", 1, 2, id="dlv_1", delivery=DeliveryNote("delivered", 2, "status 500")),
    Entry("delivery", 1, 2, id="dlv_1", delivery=DeliveryNote("again", 0, None)),
    Entry("carry", 1, 2, book={"agents": []}),
]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.type)
def test_a_line_is_one_line_of_ascii_and_gives_the_entry_back(entry: Entry) -> None:
    line = encode(entry, GENESIS)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode(loads(line)) == entry
    assert list(json.loads(line))[:5] == ["v", "seq", "prev", "at", "type"]


texts = st.text(st.characters(codec=None), max_size=8)  # lone surrogates, too
whole = st.dictionaries(texts, st.integers(-(10**30), 10**30), max_size=3)
quantities = whole | st.dictionaries(texts, st.integers() | st.decimals(allow_nan=False, allow_infinity=False))
rates = st.dictionaries(
    texts, texts | st.fixed_dictionaries({"base": texts, "tiers": st.lists(st.tuples(st.integers(), texts).map(list))})
)
holds = st.lists(st.tuples(texts, texts, st.integers(), st.integers()), max_size=2).map(tuple)
actions = st.builds(
    Action,
    texts, texts, texts, texts, st.integers(), st.sampled_from(["pending", "success", "failure"]), st.integers(),
    metadata=st.none() | texts,
    count=st.integers(1, 2),
    ending=st.sampled_from([None, "settled"]),
    reserved=st.none() | st.integers(),
    usage=quantities | whole.map(MappingProxyType),
    rates=rates,
    upstream=texts,
    price=st.none() | texts,
    upstream_status=st.none() | st.integers(),
    unconfirmed=st.booleans(),
    flags=st.lists(texts, max_size=2).map(tuple),
    softened=st.lists(texts, max_size=2).map(tuple),
    estimated=quantities,
    output_cap=st.none() | st.integers(),
    reserved_rates=rates,
)  # fmt: skip
lines = st.builds(
    Entry,
    st.sampled_from(["authorize", "settle", "void"]),
    st.integers(),
    st.integers(),
    action=actions,
    holds=holds,
    limits=holds.map(lambda found: tuple([LimitHold(*limit) for limit in found])),
)


@settings(deadline=None)
@given(lines)
def test_a_line_written_in_one_go_is_the_one_that_its_rows_make(entry: Entry) -> None:
    assert encode(entry, GENESIS) == _encode_rows(entry, GENESIS)


@pytest.mark.parametrize(
    "value", [Decimal(5), Decimal("NaN"), float("nan"), 1.5, None, [Decimal(5)], {"a": Decimal(5)}]
)
@pytest.mark.parametrize("field", ["usage", "rates", "estimated", "reserved_rates"])
def test_no_mapping_of_a_line_is_taken_for_plain_that_is_not(field: str, value: object) -> None:
    entry = Entry("settle", 1, 2, action=replace(PLAIN, **{field: {"a": "1", "b": value}}))
    try:
        line = _encode_rows(entry, GENESIS)
    except ValueError:
        with pytest.raises(ValueError):
            encode(entry, GENESIS)
    else:
        assert encode(entry, GENESIS) == line


@pytest.mark.parametrize("quantity", ["0.1", "3.14159265358979323846264338327950288", "1E-9", "1E+20", "5"])
def test_quantities_are_exact_numbers(quantity: str) -> None:
    text = dumps({"usage": {"seconds": Decimal(quantity), "tokens": 2**70}})
    assert loads(text)["usage"] == {"seconds": Decimal(quantity), "tokens": 2**70}
    assert isinstance(loads(text)["usage"]["seconds"], Decimal)
    assert json.loads(text)["usage"]["seconds"] == pytest.approx(float(quantity))  # a number, not a string


def test_any_mapping_is_an_object() -> None:
    assert dumps({"a": MappingProxyType({"b": (1, None, True)})}) == '{"a":{"b":[1,null,true]}}'


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), float("nan")])
def test_what_is_no_quantity_is_refused(value: object) -> None:
    with pytest.raises(ValueError):
        dumps({"usage": value})


@pytest.mark.parametrize(
    "line", ['{"v":4,"seq":1,"at":1,"type":"alert"}', '{"v":1,"at":1,"type":"alert"}', '{"v":1,"seq":1,"at":1}']
)
def test_what_no_engine_of_this_version_wrote_is_refused(line: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        decode(loads(line))


def test_format_1_had_the_digests_of_keys_alone() -> None:
    line = '{"v":1,"seq":1,"at":9,"type":"agent","agents":[{"id":"a","name":"n","role":"r","owner_id":"o",'
    line += '"monthly_budget":1,"per_action_limit":null,"created_at":2,"keys":["ab","cd"],"managed":["x","y"]}]}'
    (found,) = decode(loads(line)).agents
    assert [(key.digest, key.created_at, key.expires_at) for key in found.keys] == [("ab", 2, None), ("cd", 2, None)]
    assert len({key.id for key in found.keys}) == 2
    assert decode(loads(encode(Entry("agent", 9, 1, agents=(found,)), GENESIS))).agents == (found,)


def test_deep_nesting_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="deep"):
        loads("[" * 100_000)
