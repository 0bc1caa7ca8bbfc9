from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil

import pytest
from genai_prices.data_units import unit_data
from hypothesis import given
from hypothesis import strategies as st

from policy.model import DatedRates, Rate
from policy.pricing import Item, charge, dump_rates, itemize, load_rates, rates_at
from policy.units import ABOVE, BELOW, DIMENSIONS, make_rate


def rates(**usd: str | Decimal) -> tuple[Rate, ...]:
    return tuple(make_rate(key, Decimal(amount)) for key, amount in usd.items())


PLAIN = rates(input_mtok="2.5", output_mtok="10")
CACHED = rates(
    input_mtok="3", cache_read_mtok="0.3", cache_write_mtok="3.75", cache_write_1h_mtok="6", output_mtok="15"
)
AUDIO = rates(input_mtok="1", cache_read_mtok="0.5", input_audio_mtok="8", output_mtok="2", output_audio_mtok="16")
ODD = rates(input_mtok="0.041666666666666664", output_mtok="0.000000001")
VIDEO = rates(request="0.05", seconds="0.002")
TIERED = (
    make_rate("input_mtok", Decimal("1.25"), [(200_000, Decimal("2.5"))]),
    make_rate("cache_read_mtok", Decimal("0.125"), [(200_000, Decimal("0.25"))]),
    make_rate("output_mtok", Decimal(10), [(200_000, Decimal(15))]),
)


def tokens(told: str) -> dict[str, int]:
    """``input 1000, cache_read 600``: usage by the kinds' names."""
    return {f"{kind}_tokens": int(count) for kind, count in (part.split() for part in told.split(", "))}


# A rate of r USD per million tokens is r × 1000 nano-dollars a token.
TABLE = [
    # 1000 × 2,500 + 100 × 10,000
    ("tokens", PLAIN, tokens("input 1000, output 100"), 3_500_000),
    ("nothing used", PLAIN, tokens("input 0, output 0"), 0),
    ("nothing reported", PLAIN, {}, 0),
    ("free", (), tokens("input 1000"), 0),
    # 900 cached are among the 1000: no rate of their own, so 1000 × 2,500
    ("a kind without a rate is charged at its parent's", PLAIN, tokens("input 1000, cache_read 900"), 2_500_000),
    # 60 are among the 100: 100 × 10,000
    ("output includes reasoning", PLAIN, tokens("output 100, output_reasoning 60"), 1_000_000),
    # 100 × 3,000 + 600 × 300 + 300 × 3,750
    ("each token once", CACHED, tokens("input 1000, cache_read 600, cache_write 300"), 1_605_000),
    # writes: 300 - 100 at 3,750, 100 at 6,000; 1000 - 300 at 3,000
    ("a grandchild", CACHED, tokens("input 1000, cache_write 300, cache_write_1h 100"), 3_450_000),
    # no rate for 5-minute writes: at cache_write's
    ("a grandchild without a rate", CACHED, tokens("input 100, cache_write 100, cache_write_5m 100"), 375_000),
    # the parent not reported: 50 × 300
    ("a child alone", CACHED, tokens("cache_read 50"), 15_000),
    # neither parent nor a rate for it: still 50 × 2,500
    ("a child alone, without a rate", PLAIN, tokens("cache_read 50"), 125_000),
    # 40 + 20 parts of one kind: 60 × 2,500
    ("children alone, without rates", PLAIN, tokens("cache_read 40, cache_write 20"), 150_000),
    # cached and audio may be the same tokens: the larger, 40 × 2,500
    ("children that may overlap", PLAIN, tokens("cache_read 40, input_audio 20"), 100_000),
    # 150 × 300, and nothing left at the parent's
    ("children beyond their parent", CACHED, tokens("input 100, cache_read 150"), 45_000),
    ("children beyond their parent, without a rate", PLAIN, tokens("input 100, cache_read 150"), 375_000),
    # 100 × 300 + 100 × 3,750, not minus 100 × 3,000
    ("siblings beyond their parent", CACHED, tokens("input 100, cache_read 100, cache_write 100"), 405_000),
    # 20 cached audio: once, at the dearer, 8,000; 30 other cached at 500; 40 other audio at 8,000; 110 others at 1,000
    ("a kind between two", AUDIO, tokens("input 200, cache_read 50, input_audio 60, cache_audio_read 20"), 605_000),
    # 50 × 500 + 60 × 8,000: which of them overlap isn't said
    ("two kinds that may overlap", AUDIO, tokens("input 100, cache_read 50, input_audio 60"), 505_000),
    # 70 × 2,000 + 30 × 16,000
    ("spoken output", AUDIO, tokens("output 100, output_audio 30"), 620_000),
    # 41.666666666666664 + 0.000001: rounded up once, not each
    ("rounded once, up", ODD, tokens("input 1, output 1"), 42),
    # 3 × 41.666666666666664 = 124.999999999999992; with 8 × 0.000001 it is 125.000007999999992
    ("rounded up to the next", ODD, tokens("input 3, output 8"), 126),
    ("rounded up to the same", ODD, tokens("input 3"), 125),
    ("one millionth of a nano-dollar", ODD, tokens("output 1"), 1),
    # 50,000,000 + 12.5 × 2,000,000
    ("own units, and a call", VIDEO, {"seconds": Decimal("12.5")}, 75_000_000),
    ("two calls", VIDEO, {"request": 2}, 100_000_000),
    ("no call", VIDEO, {"request": 0}, 0),
    ("a unit that has no rate", VIDEO, {"pixels": 10**9}, 50_000_000),
    # at the threshold the base: 200,000 × 1,250 + 10 × 10,000
    ("at a tier's start", TIERED, tokens("input 200_000, output 10"), 250_100_000),
    # one above, and all of it is dearer: 200,001 × 2,500 + 10 × 15,000
    ("a cliff", TIERED, tokens("input 200_001, output 10"), 500_152_500),
    # the tier is told by all the input, cached too: 1 × 2,500 + 200,000 × 250
    ("a cliff by what is cached", TIERED, tokens("input 200_001, cache_read 200_000"), 50_002_500),
    # 1000 calls at 5 USD, one call
    ("thousands", rates(requests_kcount="5", web_searches_kcount="10"), {"web_searches": 3}, 35_000_000),
    # an hour is 3600 seconds: 1 × 0.36 / 3600 USD
    ("hours", rates(audio_hours="0.36"), {"audio_seconds": 1}, 100_000),
    ("a third of a nano-dollar", rates(audio_hours="0.0000012"), {"audio_seconds": 1}, 1),
    ("a quintillion", PLAIN, {"input_tokens": 10**18}, 25 * 10**20),
]  # fmt: skip


@pytest.mark.parametrize(
    ("priced", "usage", "nano"), [row[1:] for row in TABLE], ids=[row[0].replace(" ", "-") for row in TABLE]
)
def test_a_charge_to_the_nano_dollar(priced, usage, nano):
    assert charge(priced, usage) == nano


def test_the_arithmetic_of_a_charge_can_be_shown():
    usage = {"input_tokens": 1000, "cache_read_tokens": 600, "output_tokens": 7, "output_reasoning_tokens": 5}
    assert set(itemize(CACHED, usage)) == {
        Item("input_tokens", 400, "input_mtok", 3_000_000_000, 1_000_000),
        Item("cache_read_tokens", 600, "cache_read_mtok", 300_000_000, 1_000_000),
        Item("output_tokens", 7, "output_mtok", 15_000_000_000, 1_000_000),
    }
    assert itemize(TIERED, {"input_tokens": 200_001}) == (
        Item("input_tokens", 200_001, "input_mtok", 2_500_000_000, 1_000_000),
    )
    assert itemize(VIDEO, {"seconds": Decimal("12.5")}) == (
        Item("request", 1, "request", 50_000_000, 1),
        Item("seconds", Decimal("12.5"), "seconds", 2_000_000, 1),
    )


def test_an_items_amount_is_exact_and_not_rounded():
    whole, fine, hours = (
        Item("input_tokens", 999_999_999_999_999_999, "input_mtok", 2_500_000_000, 1_000_000),
        Item("seconds", Decimal("12.500000000000000000000000000000001"), "seconds", 3, 1),
        Item("audio_seconds", 7, "audio_hours", 40_000_000, 3600),
    )
    assert (whole.rate, whole.units, whole.amount) == (Decimal("2.5"), 1_000_000, Decimal("2499999999999.9999975"))
    assert fine.amount == Decimal("0.000000037500000000000000000000000000000003")
    # 7 × 0.04 / 3600 has no last digit
    assert (hours.rate, hours.units, hours.amount) == (Decimal("0.04"), 3600, Decimal("0.000077777777777778"))


VOCABULARY = sorted(DIMENSIONS)
CROSSED = [  # kinds that lie below one another in every way
    f"{kind}_tokens"
    for kind in (
        "input", "cache_read", "cache_write", "cache_write_1h", "input_audio", "cache_audio_read", "cache_audio_write",
        "cache_audio_write_1h", "output", "output_reasoning", "output_audio", "output_audio_reasoning",
    )
]  # fmt: skip
KINDS = st.sampled_from(CROSSED) | st.sampled_from(VOCABULARY)
KEYS = KINDS.map(lambda kind: str(unit_data[kind]["price_key"])) | st.sampled_from(["request", "seconds"])
DOLLARS = st.decimals(0, 100, places=12)
TIERS = st.dictionaries(
    st.integers(1, 10**7), st.integers(1, 3), max_size=2
)  # above so many input_tokens: how much more


def tiered(key: str, usd: Decimal, tiers: dict[int, int]) -> Rate:
    steps, price = [], usd
    for start, more in sorted(tiers.items()):
        price += more
        steps.append((start, price))
    return make_rate(key, usd, steps)


PRICES = st.dictionaries(KEYS, st.tuples(DOLLARS, st.just({}) | TIERS), max_size=8).map(
    lambda stated: tuple(tiered(key, *price) for key, price in stated.items())
)
QUANTITIES = st.integers(0, 10**7) | st.decimals(0, 10**7, places=3)
ANY_USAGE = st.dictionaries(KINDS | st.sampled_from(["request", "seconds"]), QUANTITIES, max_size=9)
CELLS = st.dictionaries(KINDS, st.integers(0, 10**7), max_size=9)


def reported(cells: dict[str, int]) -> dict[str, int]:
    """What a provider that tells everything says of disjoint groups of tokens: each kind with all that is in it."""
    return {
        kind: sum(count for cell, count in cells.items() if cell == kind or cell in BELOW[kind])
        for kind in VOCABULARY
        if kind in cells or BELOW[kind] & cells.keys()
    }


def each_unit_once(priced: tuple[Rate, ...], cells: dict[str, int]) -> Fraction:
    """The same charge, told the other way round: each group of units looks up the nearest kind that has a rate."""
    prompt = sum(count for cell, count in cells.items() if cell == "input_tokens" or cell in BELOW["input_tokens"])
    prices = {
        rate.usage: Fraction(max([rate.nano, *(nano for start, nano in rate.tiers if prompt > start)]), rate.per)
        for rate in priced
    }
    total = prices.get("request", Fraction(0))
    for cell, count in cells.items():
        over = [kind for kind in prices if kind == cell or cell in BELOW.get(kind, ())]
        nearest = [kind for kind in over if not any(other in BELOW[kind] for other in over)]
        total += count * max((prices[kind] for kind in nearest), default=0)
    return total


@given(PRICES, CELLS)
def test_every_unit_is_charged_exactly_once_at_its_nearest_rate(priced, cells):
    assert charge(priced, reported(cells)) == ceil(each_unit_once(priced, cells))


@given(PRICES, CELLS, KINDS, st.integers(0, 10**7))
def test_more_of_any_kind_never_costs_less(priced, cells, kind, more):
    grown = cells | {kind: cells.get(kind, 0) + more}
    assert charge(priced, reported(grown)) >= charge(priced, reported(cells))


@pytest.mark.parametrize("kind", VOCABULARY)
def test_promise_7_no_kind_is_free_where_one_that_it_belongs_to_has_a_rate(kind):
    for parent in (kind, *ABOVE[kind]):
        priced = rates(**{str(unit_data[parent]["price_key"]): "1"})
        alone, all_of_it = charge(priced, {kind: 1000}), charge(priced, {parent: 1000, kind: 1000})
        assert alone == all_of_it == charge(priced, {parent: 1000}) > 0
        assert charge(priced, {kind: 1000, parent: 3000}) == charge(priced, {parent: 3000})


def test_a_kind_between_two_is_charged_at_the_dearer_one_of_its_tier():
    priced = (make_rate("cache_read_mtok", Decimal(1), [(200_000, Decimal(5))]), *rates(input_audio_mtok="3"))
    assert charge(priced, tokens("input 200_000, cache_audio_read 10")) == 30_000
    assert charge(priced, tokens("input 200_001, cache_audio_read 10")) == 50_000


@given(PRICES, ANY_USAGE)
def test_promise_7_inconsistent_usage_is_charged_in_full(priced, usage):
    items = itemize(priced, usage)
    assert all(item.quantity >= 0 for item in items)
    parents = {item.usage for item in items if any(other.usage in BELOW.get(item.usage, ()) for other in items)}
    for item in items:
        if item.usage not in parents and item.usage in usage:
            assert item.quantity >= usage[item.usage]
    for kind in {rate.usage for rate in priced} & usage.keys():  # a parent's remainder and its parts hold what it said
        below = BELOW.get(kind, frozenset())
        assert sum(item.quantity for item in items if item.usage == kind or item.usage in below) >= usage[kind]


@given(PRICES, ANY_USAGE)
def test_a_charge_is_the_sum_of_its_items_rounded_up_once(priced, usage):
    total = sum(Fraction(item.quantity) * item.nano / item.per for item in itemize(priced, usage))
    assert charge(priced, usage) == ceil(total)


@given(PRICES)
def test_rates_come_back_from_the_ledger(priced):
    assert load_rates(dump_rates(priced)) == priced


def test_rates_are_kept_as_the_policy_writes_them():
    assert dump_rates(rates(request="0.010", input_mtok="2.50", seconds="0", audio_hours="1000")) == {
        "request": "0.01",
        "input_mtok": "2.5",
        "seconds": "0",
        "audio_hours": "1000",
    }
    assert dump_rates(ODD) == {"input_mtok": "0.041666666666666664", "output_mtok": "0.000000001"}
    dumped = dump_rates(TIERED)
    assert dumped["input_mtok"] == {"base": "1.25", "tiers": [[200_000, "2.5"]]}
    assert load_rates(dumped) == TIERED


@pytest.mark.parametrize(("at_ms", "usd"), [(0, "1"), (999, "1"), (1000, "2"), (1999, "2"), (2000, "3"), (10**15, "3")])
def test_dated_rates_take_force_at_their_moment(at_ms, usd):
    dated = (
        DatedRates(0, rates(request="1")),
        DatedRates(1000, rates(request="2")),
        DatedRates(2000, rates(request="3")),
    )
    assert rates_at(dated, at_ms) == rates(request=usd)


def test_before_the_first_date_the_first_rates_apply():
    assert rates_at((DatedRates(1000, PLAIN), DatedRates(2000, VIDEO)), 0) == PLAIN
