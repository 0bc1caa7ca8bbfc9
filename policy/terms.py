"""The terms of the price that a request asks for: a service tier, a speed. What it gets, its answer says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

_TIERS: Final = ("service_tier", "serviceTier")
_CONFIGS: Final = ("generationConfig", "generation_config", "config")
_KEYS: Final = frozenset((*_TIERS, *_CONFIGS, "speed"))
# What stands for no choice, or for the standard one; Groq says on_demand, Anthropic standard_only, Gemini unspecified.
_STANDARD: Final = frozenset(("", "auto", "default", "standard", "standard_only", "on_demand", "unspecified"))


def asked_terms(body: Any) -> dict[str, str]:
    """By genai-prices' words: ``{"service_tier": "priority"}``, ``{"speed": "fast"}``; empty for the standard ones.

    ``body`` is the request's parsed JSON. The tier is OpenAI's, Azure's, Groq's and Anthropic's ``service_tier``;
    Gemini's ``serviceTier``, also written ``SERVICE_TIER_PRIORITY``; Bedrock's ``serviceTier: {type: …}``. Anthropic's
    ``speed`` is Claude's fast mode. A tier asked for by a header (Vertex AI, Bedrock's InvokeModel) isn't seen here.

    The upstream may serve on the standard terms all the same: an estimate takes the dearer of these and those.
    """
    if not isinstance(body, dict) or _KEYS.isdisjoint(body):
        return {}
    terms: dict[str, str] = {}
    for name, stated in _stated(body):
        word = stated.lower().removeprefix("service_tier_")
        if word not in _STANDARD:
            terms.setdefault(name, word)
    return terms


def _stated(body: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for holder in (body, *(body[key] for key in _CONFIGS if isinstance(body.get(key), dict))):
        for key in _TIERS:
            tier = holder.get(key)
            if isinstance(tier, dict):
                tier = tier.get("type")
            if isinstance(tier, str):
                yield "service_tier", tier
    speed = body.get("speed")
    if isinstance(speed, str):
        yield "speed", speed
