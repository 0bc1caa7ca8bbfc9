"""A rate card says what `policy.pricing` says of the same rates, whatever was asked of it before."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from policy.model import Rate
from policy.pricing import charge, dump_rates, nano_at, speaks_of
from policy.ratecard import RateCard, as_card
from policy.settlement import needs_usage
from policy.units import BELOW, RATE_KEYS, make_rate

KINDS = [
    *BELOW["input_tokens"],
    *BELOW["output_tokens"],
    "input_tokens",
    "output_tokens",
    "request",
    "seconds",
    "frames",
]
USD = st.decimals(0, 100, places=6)
TIERS = st.dictionaries(st.sampled_from([0, 10, 1_000, 200_000]), USD, max_size=2).map(
    lambda tiers: sorted(tiers.items())
)
RATES = st.dictionaries(st.sampled_from([*RATE_KEYS, "seconds", "frames"]), st.tuples(USD, TIERS), max_size=7).map(
    lambda usd: tuple(make_rate(key, base, tiers) for key, (base, tiers) in usd.items())
)
COUNTS = st.integers(0, 12) | st.integers(0, 10**7)
USAGE = st.dictionaries(st.sampled_from(KINDS), COUNTS | st.decimals(0, 100, places=3), max_size=8)
CACHED = tuple(make_rate(f"{key}_mtok", Decimal(usd)) for key, usd in (("input", 3), ("cache_read", 1), ("output", 15)))


@settings(max_examples=300)
@given(RATES, st.lists(USAGE, min_size=1, max_size=6))
def test_a_card_charges_as_pricing_does(rates: tuple[Rate, ...], reported: list[dict[str, int | Decimal]]) -> None:
    card = RateCard(rates)
    for usage in reported:
        assert card.charge(usage) == charge(rates, usage)
        assert card.speaks_of(usage) == speaks_of(rates, usage)
    assert card.dumped == dump_rates(rates)
    assert card.needs_usage == needs_usage(rates)
    assert card == rates


@given(RATES, st.lists(st.sampled_from(KINDS), max_size=6).map(tuple), st.lists(COUNTS, min_size=1))
def test_the_dearest_of_some_kinds_costs_no_less_than_any_of_them(
    rates: tuple[Rate, ...], kinds: tuple[str, ...], tokens: list[int]
) -> None:
    card = RateCard(rates)
    for count in tokens:
        found = card.dearest(kinds, count)
        named = [rate for rate in rates if rate.usage in kinds]
        assert (found is None) == (not named)
        if found is not None:
            assert found in named
            assert all(nano_at(found, count) * rate.per >= nano_at(rate, count) * found.per for rate in named)


def test_a_card_is_its_own_and_other_rates_become_one() -> None:
    card = RateCard(CACHED)
    assert as_card(card) is card
    assert as_card(CACHED) == CACHED


def test_what_a_card_plans_is_held_in_bounded_number() -> None:
    card = RateCard(CACHED)
    for number in range(1_000):
        assert card.charge({"input_tokens": 10, f"unit{number}": 1}) == 30_000
    assert 0 < len(card._plans) <= 256
