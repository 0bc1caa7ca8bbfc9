"""Which model a call asks for, and what it costs: from the body, the path or the rule, by the catalog or the rule."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from policy.catalog import Tariff
from policy.model import Price, Upstream
from policy.pricing import rates_at
from proxy.metering.formats import wire_format
from proxy.rules import Rules

# Whose list prices an upstream's models, when its `catalog:` doesn't say: the meter's own provider.
_PROVIDERS = {"gemini": "google", "bedrock": "aws"}
_PATH_MODEL = re.compile(r"/models?/([^/:]+)")
_MODELS_MAX = 32


def provider_of(upstream: Upstream, path: str) -> str | None:
    """The genai-prices provider whose list prices that upstream's models."""
    meter = upstream.meter or wire_format(None, path)
    return upstream.catalog or _PROVIDERS.get(meter or "", meter)


def model_of(path: str, body: Any) -> str | None:
    """The model that the request names, if it names one."""
    stated = _stated_models(path, body)
    return stated[0] if stated else None


def tariffs_of(
    rules: Rules, upstream: Upstream, path: str, price: Price, body: Any, at_ms: int
) -> tuple[str | None, tuple[Tariff, ...]]:
    """The model, and the tariffs that may apply at that moment (unix ms); none where one of them isn't known."""
    stated = _stated_models(path, body)
    model = stated[0] if stated else price.model
    if price.rates != "catalog":
        return model, (Tariff(rates_at(price.rates, at_ms)),)
    provider = provider_of(upstream, path)
    first = _tariff(rules, provider, model, at_ms)
    if first is None and price.model is not None:
        # What Azure's SDK sends as the model is the name of a deployment, which the catalog can't know.
        model, first = price.model, _tariff(rules, provider, price.model, at_ms)
    if first is None:
        return model, ()
    found = [first]
    for fallback in stated[1:]:
        tariff = _tariff(rules, provider, fallback, at_ms)
        if tariff is None:
            return model, ()
        found.append(tariff)
    return model, tuple(found)


def _tariff(rules: Rules, provider: str | None, model: str | None, at_ms: int) -> Tariff | None:
    return rules.catalog.tariff(provider, model, at_ms) if provider and model else None


def _stated_models(path: str, body: Any) -> list[str]:
    """From the body, else the path (Gemini, Bedrock); then those that OpenRouter is allowed to fall back to."""
    if not isinstance(body, dict):
        body = {}
    models: list[str] = []
    if isinstance(model := body.get("model"), str):
        models.append(model)
    elif found := _PATH_MODEL.search(path):
        models.append(unquote(found[1]))
    if isinstance(fallbacks := body.get("models"), list):
        models.extend(model for model in fallbacks[:_MODELS_MAX] if isinstance(model, str))
    return models
