"""What a call may cost, worked out from its request: the reservation that has to fit before it is forwarded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any, Final

from policy.media import Media, media
from policy.model import Price, Rates
from policy.money import MAX_USD, NANO
from policy.pricing import Quantity, charge, nano_at
from policy.units import DIMENSIONS

_TOKEN_KINDS: Final = frozenset(kind for kind, its in DIMENSIONS.items() if its["family"] == "tokens")
_BYTES_PER_TOKEN: Final = 3
_OVERHEAD_TOKENS: Final = 80  # what a provider wraps around the messages
_TOOLS_TOKENS: Final = 700  # its instructions for calling tools; Anthropic's longest are 530
_OUTPUT_TOKENS: Final = 4096
# The largest picture is 4,784 tokens by Anthropic's documentation, 2,240 by Gemini's, about 3,800 by OpenAI's.
_IMAGE_TOKENS: Final = 5_000
_DEAR_IMAGES: Final = (("gpt-4o-mini", 48_169),)  # 2,833 + 8 tiles × 5,667, by OpenAI's table
# No request means more, and every sum stays within 64 bits.
_QUANTITY_MAX: Final = 10**18
_NANO_MAX: Final = MAX_USD * NANO

# By the end of the path: the fields that state a ceiling of output. None: nothing is generated.
_CEILINGS: Final[tuple[tuple[tuple[str, ...], tuple[str, ...] | None], ...]] = (
    (("/embeddings", "/moderations", "/count_tokens", ":embedContent", ":batchEmbedContents", ":countTokens"), None),
    (("/chat/completions",), ("max_completion_tokens", "max_tokens")),
    (("/completions", "/messages"), ("max_tokens",)),
    (("/responses",), ("max_output_tokens",)),
    ((":generateContent", ":streamGenerateContent"), ("maxOutputTokens", "max_output_tokens")),
    (("/converse", "/converse-stream"), ("maxTokens",)),
)
_ANY_CEILING: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens", "maxOutputTokens", "maxTokens")
_CONFIGS: Final = ("generationConfig", "generation_config", "inferenceConfig")

# Tools that run on the caller's side: what they bring in comes with a later request. Others run at the provider.
_OWN_TOOLS: Final = ("function", "custom", "bash_", "text_editor_", "computer", "memory_", "local_shell", "apply_patch")
_STORED: Final = ("previous_response_id", "conversation", "cachedContent", "cached_content", "mcp_servers", "container")
_CACHED_ON_DEMAND: Final = ("/messages", "/converse", "/converse-stream", "/invoke", "/invoke-with-response-stream")


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """``body`` is the parsed JSON, None where it isn't JSON or wasn't read; ``body_bytes`` its size as sent."""

    path: str
    body: Any
    body_bytes: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """``nano`` nano-dollars, the charge for ``usage`` at most; both are within 64 bits whatever a request states."""

    usage: Mapping[str, Quantity]
    nano: int


def estimate(price: Price, rates: Rates, request: RequestFacts) -> Estimate:
    """The most that the call is taken to cost: its input at the dearest rate that can apply, and its output's ceiling.

    Never raises on what a request states; a ceiling that isn't a positive number counts as not stated.
    """
    stated = {unit: _quantity(amount) for unit, amount in price.estimate.items()}
    usage: dict[str, Quantity] = {"request": 1}
    usage.update((unit, amount) for unit, amount in stated.items() if unit not in ("input_tokens", "output_tokens"))
    body = request.body if isinstance(request.body, dict) else {}
    usage.update(_read_from(price, body))
    for rate in rates:
        if rate.usage == "input_characters":
            usage.setdefault(rate.usage, request.body_bytes)
    if any(rate.usage in _TOKEN_KINDS for rate in rates):
        usage.update(_input(rates, request, body, stated.get("input_tokens", 0)))
        unstated = stated.get("output_tokens", _OUTPUT_TOKENS)
        usage.update(_output(rates, request.path, body, unstated, usage["input_tokens"]))
    return Estimate(usage, min(charge(rates, usage), _NANO_MAX))


def _input(rates: Rates, request: RequestFacts, body: dict[str, Any], unseen: Quantity) -> dict[str, Quantity]:
    """Tokens of the input, all at the dearest kind; ``unseen`` are the rule's, for what the request only names."""
    found = media(body)
    text_bytes = max(0, request.body_bytes - found.blob_bytes)
    tokens = -(-text_bytes // _BYTES_PER_TOKEN) + _OVERHEAD_TOKENS
    if any(body.get(key) for key in ("tools", "functions", "toolConfig")):
        tokens += _TOOLS_TOKENS
    images = found.images * _image_tokens(body)
    tokens += images + found.sound_tokens + found.file_tokens
    if found.stored or request.body is None or _names_more(body):
        tokens += ceil(unseen)
    usage: dict[str, Quantity] = {"input_tokens": tokens}
    usage[_dearest(rates, _writes(request.path, found), "input_tokens", tokens)] = tokens
    parts = (("input_image_tokens", images), ("input_audio_tokens", found.sound_tokens))
    usage.update((kind, count) for kind, count in parts if count)
    return usage


def _writes(path: str, found: Media) -> tuple[str, ...]:
    """The kinds of cache write that may apply: where the body asks for them, or the provider caches by itself."""
    if found.cached == "1h":
        return ("cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
    if found.cached or not path.endswith(_CACHED_ON_DEMAND):
        return ("cache_write_tokens", "cache_write_5m_tokens")
    return ()


def _output(
    rates: Rates, path: str, body: dict[str, Any], unstated: Quantity, input_tokens: Quantity
) -> dict[str, Quantity]:
    fields = next((fields for ends, fields in _CEILINGS if path.endswith(ends)), _ANY_CEILING)
    if fields is None:
        return {}
    configs = [body, *(body[key] for key in _CONFIGS if isinstance(body.get(key), dict))]
    ceilings = [ceiling for config in configs for name in fields if (ceiling := _positive(config.get(name)))]
    tokens = min(max(ceilings, default=ceil(unstated)) * _choices(path, configs), _QUANTITY_MAX)
    kinds = ["output_text_tokens", "output_reasoning_tokens", "output_citation_tokens"]
    modalities = _modalities(configs)
    if "audio" in modalities or path.endswith("/audio/speech"):
        kinds.append("output_audio_tokens")
    if not modalities or "image" in modalities:
        kinds.append("output_image_tokens")
    return {"output_tokens": tokens, _dearest(rates, kinds, "output_tokens", input_tokens): tokens}


def _choices(path: str, configs: list[dict[str, Any]]) -> int:
    """How many answers are asked for: each may be as long as the ceiling."""
    counts = (_positive(config.get(name)) for config in configs for name in ("n", "best_of", "candidateCount"))
    choices = max((count for count in counts if count), default=1)
    prompts = configs[0].get("prompt")
    if path.endswith("/completions") and isinstance(prompts, list) and not isinstance(next(iter(prompts), 0), int):
        choices *= max(1, len(prompts))
    return choices


def _modalities(configs: list[dict[str, Any]]) -> set[str]:
    """What the answer is asked to be made of (``audio``, ``image``, ``text``); empty where it isn't said."""
    stated = [config.get(key) for config in configs for key in ("modalities", "responseModalities")]
    return {item.lower() for items in stated if isinstance(items, list) for item in items if isinstance(item, str)}


def _dearest(rates: Rates, kinds: tuple[str, ...] | list[str], base: str, tokens: Quantity) -> str:
    """The kind, of those that can apply, whose tokens cost most in a call of so many input tokens."""
    dearest, highest, per = base, -1, 1
    for rate in rates:
        if rate.usage == base or rate.usage in kinds:
            nano = nano_at(rate, tokens)
            if nano * per > highest * rate.per:
                dearest, highest, per = rate.usage, nano, rate.per
    return dearest


def _names_more(body: dict[str, Any]) -> bool:
    """Whether the input will hold what isn't in the body: a stored conversation, or what a hosted tool brings in."""
    if any(body.get(key) for key in (*_STORED, "web_search_options")) or isinstance(body.get("prompt"), dict):
        return True
    tools = body.get("tools")
    return isinstance(tools, list) and any(isinstance(tool, dict) and _hosted(tool) for tool in tools)


def _hosted(tool: dict[str, Any]) -> bool:
    kind = tool.get("type")
    if isinstance(kind, str):
        return not kind.startswith(_OWN_TOOLS)
    if "name" in tool or "function" in tool:
        return False
    return bool(tool.keys() - {"functionDeclarations", "function_declarations"})  # Gemini: {"googleSearch": {}}


def _image_tokens(body: dict[str, Any]) -> int:
    model = body.get("model")
    return next((tokens for name, tokens in _DEAR_IMAGES if isinstance(model, str) and name in model), _IMAGE_TOKENS)


def _read_from(price: Price, body: dict[str, Any]) -> dict[str, Quantity]:
    """Units that the rule reads from the request itself: known before it is forwarded."""
    found: dict[str, Quantity] = {}
    for source in price.usage:
        if source.kind == "request":
            value: Any = body
            for name in source.path.split("."):
                value = value.get(name) if isinstance(value, dict) else None
            if (quantity := _number(value)) is not None:
                found[source.unit] = quantity
    return found


def _positive(value: Any) -> int | None:
    number = _number(value)
    return ceil(number) if number else None


def _number(value: Any) -> Quantity | None:
    """A number of zero or more, as JSON or as digits in a string (lenient upstreams take them), clamped; else None."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:40])
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)) or not value >= 0:
        return None
    if value >= _QUANTITY_MAX:
        return _QUANTITY_MAX
    return value if isinstance(value, int) else Decimal(str(value))


def _quantity(stated: Fraction) -> Quantity:
    return stated.numerator if stated.denominator == 1 else Decimal(stated.numerator) / stated.denominator
