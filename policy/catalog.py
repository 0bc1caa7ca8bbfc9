"""Model prices from the `genai-prices` package: its bundled list, no network, compiled to integer rates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot, find_provider_by_id
from genai_prices.types import ModelInfo, ModelPrice, PriceVariant, TieredPrices

from policy.model import Rate, Rates
from policy.units import make_rate

_MODEL_NAME_MAX = 200
_MODELS_HELD = 4096
_ROUTED = "litellm"  # no provider of its own: the provider stands in the model's name


@dataclass(frozen=True, slots=True)
class Tariff:
    """A model's rates at one moment: ``standard``, and ``variants`` of (the terms they are for, the rates that differ).

    Terms are genai-prices' words: ``{"service_tier": "priority"}``, ``{"speed": "fast"}``. No list price is kept for
    ``processing: batch``: batches are not forwarded.
    """

    standard: Rates
    variants: tuple[tuple[Mapping[str, str], Rates], ...] = ()

    def rates(self, terms: Mapping[str, str]) -> Rates:
        """The rates on those terms: of the variants that they meet, the first that has a rate of that key; else, and
        for terms that the list doesn't know, the standard one.
        """
        found: dict[str, Rate] = {}
        for when, rates in self.variants:
            if when.items() <= terms.items():
                found = {rate.key: rate for rate in rates} | found
        if not found:
            return self.standard
        return tuple(({rate.key: rate for rate in self.standard} | found).values())


class Catalog:
    """Tariffs by provider and model. Models are what a client wrote: what is held of them, found or not, is bounded."""

    def __init__(self) -> None:
        self._model = lru_cache(_MODELS_HELD)(_find_model)
        # By the identities of the prices it is made of, which are the bundled list's and never freed.
        self._compiled: dict[tuple[int, ...], Tariff] = {}

    def tariff(self, provider_id: str, model: str, at_ms: int) -> Tariff | None:
        """What the model costs at that moment (unix ms), on any terms; None if it isn't listed.

        A provider that sells another's models without a list of its own (Azure) has that one's variants too.
        """
        if len(model) > _MODEL_NAME_MAX:
            return None
        found = self._model(provider_id, model)
        if found is None:
            return None
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


def _applies(variant: PriceVariant, at: datetime) -> bool:
    if "processing" in variant.when:
        return False
    return variant.constraint is None or variant.constraint.active(at)


def _compile(prices: ModelPrice) -> Rates:
    return tuple(_rate(key, price) for key, price in vars(prices).items() if price is not None)


def _rate(key: str, price: Decimal | TieredPrices) -> Rate:
    if isinstance(price, TieredPrices):
        return make_rate(key, price.base, [(tier.start, tier.price) for tier in price.tiers])
    return make_rate(key, price)
