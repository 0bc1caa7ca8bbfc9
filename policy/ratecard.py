"""Rates with what every call asks of them, worked out once: `policy.pricing` says what it comes to, this is quick."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from math import lcm
from typing import Any, Final, NamedTuple

from policy.model import Rate, Rates
from policy.pricing import Quantity, Usage, charge, charged_kinds, dump_rates, nano_at, quantity_of
from policy.units import BELOW, DIMENSIONS, REQUEST

_PLANS_MAX: Final = 256


class _Step(NamedTuple):
    """A kind to charge: ``reported`` are the kinds below it in the usage, ``charged`` the earlier steps below it, whose
    quantities are theirs; ``nano`` for each `RateCard._per`.
    """

    kind: str
    unstated: int
    reported: tuple[str, ...]
    charged: tuple[int, ...]
    nano: int


class RateCard(tuple[Rate, ...]):
    """``usages`` are what its rates price; ``by_model``: some of that is of genai-prices' vocabulary. ``needs_usage``:
    the charge depends on what the answer says it used, for some rate is of more than the request itself. ``dumped`` is
    what `dump_rates` makes of it: shared, never changed.
    """

    usages: frozenset[str]
    by_model: bool
    needs_usage: bool
    dumped: Mapping[str, Any]
    _spoken: frozenset[str]
    _starts: list[int]
    _per: int
    _plans: dict[tuple[str | int, ...], tuple[_Step, ...]]
    _apply: dict[tuple[str, ...], Rates]

    def __new__(cls, rates: Iterable[Rate] = ()) -> RateCard:
        card = super().__new__(cls, rates)
        card.usages = frozenset(rate.usage for rate in card)
        card.by_model = not card.usages.isdisjoint(DIMENSIONS)
        card.needs_usage = any(rate.usage != REQUEST and (rate.nano or rate.tiers) for rate in card)
        card.dumped = dump_rates(card)
        metered = card.usages - {REQUEST}
        card._spoken = metered.union(*(BELOW.get(usage, ()) for usage in metered))
        card._starts = sorted({start for rate in card for start, _ in rate.tiers})
        card._per = lcm(*(rate.per for rate in card))
        card._plans = {}
        card._apply = {}
        return card

    def charge(self, usage: Usage) -> int:
        """As `policy.pricing.charge`. What is charged of each kind is planned once for all usage of the same kinds;
        what is no whole number, or says more of the parts than of the whole, is left to that.
        """
        tier = bisect_left(self._starts, quantity_of(usage, "input_tokens")) if self._starts else 0
        key: tuple[str | int, ...] = (tier, *usage)
        steps = self._plans.get(key)
        if steps is None:
            steps = self._plan(tier, tuple(usage))
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            self._plans[key] = steps
        nano: Quantity = 0
        taken: list[Quantity] = []
        for kind, unstated, reported, charged, rate in steps:
            quantity = usage.get(kind, unstated)
            if reported:
                parts: Quantity = 0
                for sub in reported:
                    parts += usage[sub]
                if parts > quantity:
                    return charge(self, usage)
                for step in charged:
                    quantity -= taken[step]
            if quantity < 0:
                quantity = 0
            taken.append(quantity)
            nano += quantity * rate
        if type(nano) is not int:
            return charge(self, usage)
        return -(-nano // self._per)

    def speaks_of(self, usage: Usage) -> bool:
        """Whether the usage is of anything that the rates price: seconds say nothing where tokens are paid for. Usage
        that is empty says that nothing was used.
        """
        return not usage or not self._spoken.isdisjoint(usage)

    def dearest(self, kinds: tuple[str, ...], input_tokens: Quantity) -> Rate | None:
        """The rate, of those of these kinds, by which tokens cost most in a call of so many input tokens."""
        rates = self._apply.get(kinds)
        if rates is None:
            rates = tuple(rate for rate in self if rate.usage in kinds)
            if rates and not self._starts:
                rates = (_dearest(rates, 0),)
            self._apply[kinds] = rates
        if len(rates) > 1:
            return _dearest(rates, input_tokens)
        return rates[0] if rates else None

    def _plan(self, tier: int, kinds: tuple[str, ...]) -> tuple[_Step, ...]:
        """``tier`` is how many of the tiers' starts the input has passed."""
        prompt = self._starts[tier - 1] + 1 if tier else 0
        steps: list[_Step] = []
        for kind, rate in charged_kinds(self, kinds, prompt):
            below = BELOW.get(kind, frozenset[str]())
            reported = tuple(sub for sub in kinds if sub in below)
            charged = tuple(position for position, step in enumerate(steps) if step.kind in below)
            nano = nano_at(rate, prompt) * (self._per // rate.per)
            steps.append(_Step(kind, 1 if kind == REQUEST else 0, reported, charged, nano))
        return tuple(steps)


def as_card(rates: Rates) -> RateCard:
    return rates if isinstance(rates, RateCard) else RateCard(rates)


def _dearest(rates: Rates, input_tokens: Quantity) -> Rate:
    """The first of the dearest; there is at least one."""
    dearest = rates[0]
    highest = nano_at(dearest, input_tokens)
    for rate in rates[1:]:
        nano = nano_at(rate, input_tokens)
        if nano * dearest.per > highest * rate.per:
            dearest, highest = rate, nano
    return dearest
