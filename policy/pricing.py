"""Usage × rates, in exact integers, rounded once: up. Every token is charged exactly once, whatever its kinds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact
from fractions import Fraction
from typing import Any

from policy.model import DatedRates, Rate, Rates
from policy.money import NANO
from policy.units import ABOVE, BELOW, REQUEST, SPLITS, make_rate, unit_of

Quantity = int | Decimal
Usage = Mapping[str, Quantity]
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a charge's arithmetic: ``quantity`` of ``usage`` at ``nano`` nano-dollars for every ``per``.

    ``key`` is the rate's; a kind between two priced ones (cached audio) stands at the dearer one's.
    """

    usage: str
    quantity: Quantity
    key: str
    nano: int
    per: int

    @property
    def units(self) -> int:
        """How many units the rate's key is for: a million for ``input_mtok``."""
        return unit_of(self.key)[1]

    @property
    def rate(self) -> Decimal:
        """USD for every `units`, as the policy writes it."""
        return _dollars(self.units, self.nano, self.per)

    @property
    def amount(self) -> Decimal:
        """USD, not rounded to nano-dollars; to 18 places where no decimal is exact (seconds at a price per hour)."""
        return _dollars(self.quantity, self.nano, self.per)


def rates_at(dated: tuple[DatedRates, ...], at_ms: int) -> Rates:
    """The rates in force at that moment; before the first date, the first ones (a call is never free by its date)."""
    if len(dated) == 1:
        return dated[0].rates
    return dated[max(0, bisect_right(dated, at_ms, key=lambda entry: entry.from_ms) - 1)].rates


def charge(rates: Rates, usage: Usage) -> int:
    """Nano-dollars for that usage: the sum of `itemize`, rounded up once. A ``request`` counts 1 unless given."""
    prompt = _prompt(rates, usage)
    total, of = 0, 1
    for _, rate, quantity in _quantities(rates, usage, prompt):
        if not quantity:
            continue
        count, parts = quantity.as_integer_ratio()
        nano, per = count * nano_at(rate, prompt), rate.per * parts
        total, of = (total + nano, of) if per == of else (total * per + nano * of, of * per)
    return -(-total // of)


def itemize(rates: Rates, usage: Usage) -> tuple[Item, ...]:
    """Each reported kind that has a rate, with what it counts beyond its sub-kinds that are priced themselves.

    A kind without a rate is charged at its parent's. Where sub-kinds say more than their parent, they are charged in
    full and nothing is left at the parent's rate: inconsistent usage never makes a charge smaller.
    """
    prompt = _prompt(rates, usage)
    return tuple(
        Item(kind, quantity, rate.key, nano_at(rate, prompt), rate.per)
        for kind, rate, quantity in _quantities(rates, usage, prompt)
    )


def nano_at(rate: Rate, input_tokens: Quantity) -> int:
    """The rate's nano-dollars for a call of that many input_tokens: its highest tier passed prices the whole."""
    for start, nano in reversed(rate.tiers):
        if input_tokens > start:
            return nano
    return rate.nano


def speaks_of(rates: Rates, usage: Usage) -> bool:
    """Whether the usage is of anything that the rates price: seconds say nothing where tokens are paid for. Usage that
    is empty says that nothing was used.
    """
    return not usage or any(
        rate.usage in usage or not BELOW.get(rate.usage, _NONE).isdisjoint(usage)
        for rate in rates
        if rate.usage != REQUEST
    )


def _prompt(rates: Rates, usage: Usage) -> Quantity:
    return quantity_of(usage, "input_tokens") if any(rate.tiers for rate in rates) else 0


def _quantities(rates: Rates, usage: Usage, prompt: Quantity) -> list[tuple[str, Rate, Quantity]]:
    """(kind, its rate, how much of it is charged there), the most specific kinds first: each leaves the rest above."""
    found: list[tuple[str, Rate, Quantity]] = []
    for kind, rate in charged_kinds(rates, usage, prompt):
        quantity = quantity_of(usage, kind)
        if below := BELOW.get(kind):
            for sub, _, taken in found:
                if sub in below:
                    quantity -= taken
        found.append((kind, rate, quantity if quantity > 0 else 0))
    return found


def charged_kinds(rates: Rates, usage: Collection[str], prompt: Quantity) -> list[tuple[str, Rate]]:
    """(kind, its rate) for all that such usage is charged as, the most specific kinds first; only its keys count."""
    charged = [
        (rate.usage, rate)
        for rate in rates
        if rate.usage in usage or rate.usage == REQUEST or not BELOW.get(rate.usage, _NONE).isdisjoint(usage)
    ]
    charged += _between(charged, usage, prompt)
    charged.sort(key=_depth, reverse=True)
    return charged


def _depth(charged: tuple[str, Rate]) -> int:
    return len(ABOVE.get(charged[0], _NONE))


def _between(charged: list[tuple[str, Rate]], usage: Collection[str], prompt: Quantity) -> list[tuple[str, Rate]]:
    """Reported kinds without a rate that lie under two priced ones (cached audio): each once, at the dearer rate."""
    between = []
    priced = dict(charged)
    for kind in set(usage) - priced.keys():
        above = ABOVE.get(kind, _NONE) & priced.keys()
        nearest = [parent for parent in above if BELOW[parent].isdisjoint(above)]
        if len(nearest) > 1:
            dearest = max(nearest, key=lambda parent: Fraction(nano_at(priced[parent], prompt), priced[parent].per))
            between.append((kind, priced[dearest]))
    return between


def quantity_of(usage: Usage, kind: str) -> Quantity:
    """What was reported of a kind, or of its parts, if that is more."""
    stated = usage.get(kind, 1 if kind == REQUEST else 0)
    below = BELOW.get(kind)
    if not below or sum([quantity for sub, quantity in usage.items() if sub in below]) <= stated:
        return stated
    return max(stated, *(sum(quantity_of(usage, part) for part in parts) for parts in SPLITS[kind]))


def dump_rates(rates: Rates) -> dict[str, Any]:
    """USD by key, as the policy writes them: ``{"input_mtok": "2.5"}``.

    With tiers: ``{"input_mtok": {"base": "1.25", "tiers": [[200000, "2.5"]]}}``.
    """
    dumped: dict[str, Any] = {}
    for rate in rates:
        base = _usd(rate, rate.nano)
        tiers = [[start, _usd(rate, nano)] for start, nano in rate.tiers]
        dumped[rate.key] = {"base": base, "tiers": tiers} if tiers else base
    return dumped


def load_rates(dumped: Mapping[str, Any]) -> Rates:
    """What `dump_rates` made, as rates again."""
    return tuple(
        make_rate(key, Decimal(value))
        if isinstance(value, str)
        else make_rate(key, Decimal(value["base"]), [(start, Decimal(usd)) for start, usd in value["tiers"]])
        for key, value in dumped.items()
    )


def _usd(rate: Rate, nano: int) -> str:
    scale = NANO * rate.per // unit_of(rate.key)[1]
    whole, rest = divmod(nano, scale)
    fraction = f"{rest:0{len(str(scale)) - 1}d}".rstrip("0")
    return f"{whole}.{fraction}" if fraction else str(whole)


def _dollars(quantity: Quantity, nano: int, per: int) -> Decimal:
    exact = Context(prec=80)
    dollars = exact.divide(exact.multiply(quantity, nano), per * NANO)
    if exact.flags[Inexact]:
        dollars = dollars.quantize(Decimal("1e-18"), context=exact)
    return dollars.normalize(exact)
