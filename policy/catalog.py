"""Model prices from the `genai-prices` package: its bundled list, no network, compiled to integer rates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot, find_provider_by_id
from genai_prices.types import ModelInfo, ModelPrice, PriceVariant, TieredPrices, TimeOfDateConstraint

from policy.model import Rate, Rates
from policy.ratecard import RateCard
from policy.units import make_rate

_MODEL_NAME_MAX = 200
_MODELS_HELD = 4096
_MINUTE_MS = 60_000
_ROUTED = "litellm"  # no provider of its own: the provider stands in the model's name


@dataclass(frozen=True, slots=True)
class Tariff:
    """A model's rates at one moment: ``standard``, and ``variants`` of (the terms they are for, the rates that differ).

    Terms are genai-prices' words: ``{"service_tier": "priority"}``, ``{"speed": "fast"}``. No list price is kept for
    ``processing: batch``: batches are not forwarded.
    """

    standard: Rates
    variants: tuple[tuple[Mapping[str, str], Rates], ...] = ()
    # By which of the variants are met. The same rates each time: what is worked out of them is then there already.
    _merged: dict[tuple[int, ...], Rates] = field(default_factory=dict, init=False, repr=False, compare=False)

    def rates(self, terms: Mapping[str, str]) -> Rates:
        """The rates on those terms: of the variants that they meet, the first that has a rate of that key; else, and
        for terms that the list doesn't know, the standard one.
        """
        if not terms:
            return self.standard
        met = tuple(position for position, (when, _) in enumerate(self.variants) if when.items() <= terms.items())
        if met not in self._merged:
            self._merged[met] = self._merge(met)
        return self._merged[met]

    def _merge(self, met: tuple[int, ...]) -> Rates:
        found: dict[str, Rate] = {}
        for position in met:
            found = {rate.key: rate for rate in self.variants[position][1]} | found
        return RateCard(({rate.key: rate for rate in self.standard} | found).values()) if found else self.standard


class Catalog:
    """Tariffs by provider and model. Models are what a client wrote: what is held of them, found or not, is bounded."""

    def __init__(self) -> None:
        self._model = lru_cache(_MODELS_HELD)(_find_model)
        # By the identities of the prices it is made of, which are the bundled list's and never freed.
        self._compiled: dict[tuple[int, ...], Tariff] = {}
        # By provider and model, with the minute (of unix time) that it was found in; None: it is the same at any time.
        self._held: dict[tuple[str, str], tuple[int | None, Tariff | None]] = {}

    def tariff(self, provider_id: str, model: str, at_ms: int) -> Tariff | None:
        """What the model costs at that moment (unix ms), on any terms; None if it isn't listed.

        A provider that sells another's models without a list of its own (Azure) has that one's variants too.
        """
        if len(model) > _MODEL_NAME_MAX:
            return None
        key = (provider_id, model)
        held = self._held.get(key)
        if held is not None and (held[0] is None or held[0] == at_ms // _MINUTE_MS):
            return held[1]
        found = self._model(provider_id, model)
        tariff = self._at(found, at_ms) if found else None
        changes = _changes(found) if found else None
        if changes != "anytime":
            if len(self._held) >= _MODELS_HELD:
                self._held.clear()
            self._held[key] = (at_ms // _MINUTE_MS if changes else None, tariff)
        return tariff

    def _at(self, found: ModelInfo, at_ms: int) -> Tariff:
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
        standard = found.get_prices(at)
        variants = [variant for variant in found.price_variants or () if _applies(variant, at)]
        made_of = (id(standard), *map(id, variants))
        tariff = self._compiled.get(made_of)
        if tariff is None:
            compiled = tuple((variant.when, _compile(variant.prices)) for variant in variants)
            tariff = self._compiled[made_of] = Tariff(_compile(standard), compiled)
        return tariff

    def knows(self, provider_id: str) -> bool:
        """Whether there is a price list by that name (`groq`, `azure`, `litellm`)."""
        return provider_id == _ROUTED or find_provider_by_id(providers, provider_id) is not None

    def provider_for_url(self, url: str) -> str | None:
        """Whose API that url is, if the list knows it."""
        return next((provider.id for provider in providers if re.match(provider.api_pattern, url)), None)


def _find_model(provider_id: str, model: str) -> ModelInfo | None:
    # A snapshot of our own, for one look-up: the package's shared one keeps every name it was ever asked for.
    try:
        _, found = DataSnapshot(providers, from_auto_update=False).find_provider_model(model, None, provider_id, None)
    except LookupError:
        return None
    return found


def _changes(model: ModelInfo) -> Literal["anytime", "by the minute"] | None:
    """When its prices may change. Those of a date do so as the day begins."""
    dated = [*(model.prices if isinstance(model.prices, list) else ()), *(model.price_variants or ())]
    constraints = [price.constraint for price in dated if price.constraint is not None]
    times = [each for each in constraints if isinstance(each, TimeOfDateConstraint)]
    if any(time.second or time.microsecond for each in times for time in (each.start_time, each.end_time)):
        return "anytime"
    return "by the minute" if constraints else None


def _applies(variant: PriceVariant, at: datetime) -> bool:
    if "processing" in variant.when:
        return False
    return variant.constraint is None or variant.constraint.active(at)


def _compile(prices: ModelPrice) -> Rates:
    return RateCard(_rate(key, price) for key, price in vars(prices).items() if price is not None)


def _rate(key: str, price: Decimal | TieredPrices) -> Rate:
    if isinstance(price, TieredPrices):
        return make_rate(key, price.base, [(tier.start, tier.price) for tier in price.tiers])
    return make_rate(key, price)
