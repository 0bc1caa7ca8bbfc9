"""Model prices from the `genai-prices` package: its bundled list, no network, compiled to integer rates.

Standard prices: a dearer tier that a request asks for (`service_tier: priority`) is not told from its body.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

from genai_prices.data import providers
from genai_prices.data_snapshot import DataSnapshot, find_provider_by_id
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

from policy.model import Rate, Rates
from policy.units import make_rate

_MODEL_NAME_MAX = 200
_MODELS_HELD = 4096
_ROUTED = "litellm"  # no provider of its own: the provider stands in the model's name


class Catalog:
    """Rates by provider and model. Models are what a client wrote: what is held of them, found or not, is bounded."""

    def __init__(self) -> None:
        self._model = lru_cache(_MODELS_HELD)(_find_model)
        self._compiled: dict[int, Rates] = {}  # by identity of a ModelPrice of the bundled list, which is never freed

    def rates(self, provider_id: str, model: str, at_ms: int) -> Rates | None:
        """The standard rates at that moment (unix ms); empty for a model listed as free, None if it isn't listed."""
        if len(model) > _MODEL_NAME_MAX:
            return None
        found = self._model(provider_id, model)
        if found is None:
            return None
        prices = found.get_prices(datetime.fromtimestamp(at_ms / 1000, UTC))
        rates = self._compiled.get(id(prices))
        if rates is None:
            rates = self._compiled[id(prices)] = _compile(prices)
        return rates

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


def _compile(prices: ModelPrice) -> Rates:
    return tuple(_rate(key, price) for key, price in vars(prices).items() if price is not None)


def _rate(key: str, price: Decimal | TieredPrices) -> Rate:
    if isinstance(price, TieredPrices):
        return make_rate(key, price.base, [(tier.start, tier.price) for tier in price.tiers])
    return make_rate(key, price)
