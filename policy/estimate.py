"""What a call may cost, worked out from its request: the reservation that has to fit before it is forwarded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any, Final, NamedTuple

from msgspec import Struct

from policy import uploads
from policy.ceilings import CONFIGS, QUANTITY_MAX, choices, configs, generates, number, stated_ceiling, thoughts
from policy.held import by_name
from policy.hosted import hosted_uses, names_more
from policy.media import Media, media
from policy.model import Price, Rate, Rates
from policy.money import MAX_USD, NANO
from policy.pointer import dig
from policy.pricing import Quantity
from policy.ratecard import RateCard, as_card
from policy.text import text_tokens, text_tokens_max
from policy.units import DIMENSIONS, REQUEST

_TOKEN_KINDS: Final = frozenset(kind for kind, its in DIMENSIONS.items() if its["family"] == "tokens")
_TOKENS_AND_REQUESTS: Final = _TOKEN_KINDS | {REQUEST}
_TOKENS_STATED: Final = ("input_tokens", "output_tokens")
_INPUT_KINDS: Final = ("input_tokens", "input_text_tokens", "cache_read_tokens")
_WRITTEN_KINDS: Final = (*_INPUT_KINDS, "cache_write_tokens", "cache_write_5m_tokens")
_WRITTEN_1H_KINDS: Final = (*_WRITTEN_KINDS, "cache_write_1h_tokens")
_OUTPUT_KINDS: Final[tuple[str, ...]] = (
    "output_tokens", "output_text_tokens", "output_reasoning_tokens", "output_citation_tokens",
)  # fmt: skip
_UNSTATED_KINDS: Final = (*_OUTPUT_KINDS, "output_image_tokens")
_MODALITIES: Final = ("modalities", "responseModalities")
_STATES_MODALITIES: Final = CONFIGS | {*_MODALITIES}
_NANO_MAX: Final = MAX_USD * NANO

_BYTES_PER_TOKEN: Final = 3
_OVERHEAD_TOKENS: Final = 80  # what a provider wraps around the messages
_DEAR_OVERHEADS: Final = (("grok", 800), ("gpt-oss", 120))  # recorded: about 680 by xAI, 70 to 100 by gpt-oss's hosts
_TOOLS_TOKENS: Final = 700  # instructions for calling tools; Claude's are up to 650, Llama's 600, DeepSeek's 320
_KEY_TOKENS: Final = 4  # of JSON as it stands: a key, its quotes, colon and comma
# OpenAI's models and Gemini are told of tools as declarations, with few words of their own and none of JSON's.
_LEAN: Final = re.compile(r"(?:^|[/.-])(?:gpt-|chatgpt-|o[134]\b|gemini-)")
_LEAN_KEY_TOKENS: Final = 2
# The bounds of the same, for `cap_output`: what no request in any known format has gone beyond.
_OVERHEAD_TOKENS_MAX: Final = 400
_KEY_TOKENS_MAX: Final = 12  # with the tags around it that Claude reads arguments in

_OUTPUT_TOKENS: Final = 4096
# What a search, a stored conversation or a file by its address brings in, as the rule doesn't say: recorded calls
# with two searches had 22,000 to 44,000, others under 20,000.
_UNSEEN_TOKENS: Final = 20_000
# The largest picture is 4,784 tokens by Anthropic's documentation, 2,240 by Gemini's, about 3,800 by OpenAI's.
_IMAGE_TOKENS: Final = 5_000
_DEAR_IMAGES: Final = (("gpt-4o-mini", 48_169),)  # 2,833 + 8 tiles × 5,667, by OpenAI's table

_CACHED_ON_DEMAND: Final = ("/messages", "/converse", "/converse-stream", "/invoke", "/invoke-with-response-stream")


class RequestFacts(Struct, frozen=True):
    """``body`` is the parsed JSON, or a form's text fields; None where it is neither or wasn't read. ``body_bytes`` is
    its size as sent, without ``file_bytes`` of files that a form uploads.
    """

    path: str
    body: Any
    body_bytes: int
    file_bytes: int = 0


class Estimate(Struct, frozen=True):
    """``nano`` nano-dollars, the charge for ``usage`` at most; both are within 64 bits whatever a request states."""

    usage: Mapping[str, Quantity]
    nano: int


def estimate(price: Price, rates: Rates, request: RequestFacts) -> Estimate:
    """The most that the call is taken to cost: its input at the dearest rate that can apply, and its output's ceiling.

    The input is bounded, not estimated, by a rule with `cap_output`. Never raises on what a request states; a ceiling
    that isn't a positive number counts as not stated.
    """
    card, body = as_card(rates), _object(request)
    usage = estimate_input(price, card, request)
    if "input_tokens" in usage and generates(request.path):
        tokens = uploads.output_tokens(request.path, body)
        if tokens is None or "output_tokens" in price.estimate:
            tokens = stated_ceiling(request.path, body) or unstated_ceiling(price, body)
        add_output(usage, card, request, tokens)
    return priced(card, usage)


def estimate_input(price: Price, card: RateCard, request: RequestFacts) -> dict[str, Quantity]:
    """The usage but for its output."""
    usage: dict[str, Quantity] = {"request": 1}
    if price.estimate:
        stated = {unit: _quantity(amount) for unit, amount in price.estimate.items() if unit not in _TOKENS_STATED}
        usage.update(stated)
    body = _object(request)
    if price.usage:
        usage.update(_known_before(price, request))
    models = _models(request.path, body)
    if not card.usages <= _TOKENS_AND_REQUESTS:
        known = uploads.units(request.path, body, request.body_bytes, request.file_bytes) | hosted_uses(body, models)
        for unit in card.usages & known.keys():
            usage.setdefault(unit, known[unit])
    if not card.usages.isdisjoint(_TOKEN_KINDS):
        _add_input(usage, price, card, request, body, models)
    return usage


def priced(card: RateCard, usage: dict[str, Quantity]) -> Estimate:
    return Estimate(usage, min(card.charge(usage), _NANO_MAX))


def unstated_ceiling(price: Price, body: dict[str, Any]) -> int:
    """The ceiling where a request states none: the rule's, else 4096 beside the thoughts it gives leave for."""
    if (stated := price.estimate.get("output_tokens")) is not None:
        return ceil(_quantity(stated))
    return min(_OUTPUT_TOKENS + thoughts(body), QUANTITY_MAX)


def _object(request: RequestFacts) -> dict[str, Any]:
    return request.body if isinstance(request.body, dict) else {}


def _add_input(
    usage: dict[str, Quantity], price: Price, card: RateCard, request: RequestFacts, body: dict[str, Any], models: str
) -> None:
    """Tokens of the input, all at the dearest kind; the rule states them for what the request only names."""
    found = media(request.body)
    habits = _habits(models)
    tokens = _text(price, request, body, found, habits)
    images = found.images * habits.image_tokens
    sound = found.sound_tokens
    if request.file_bytes:
        images += uploads.image_tokens(request.path, request.file_bytes)
        sound += uploads.sound_tokens(request.path, request.file_bytes)
    tokens += images + sound + found.file_tokens
    named = found.stored or names_more(body, models)
    if named or request.body is None:
        tokens += ceil(_quantity(price.estimate.get("input_tokens", Fraction(_UNSEEN_TOKENS if named else 0))))
    usage["input_tokens"] = tokens
    if kind := card.dearest(_input_kinds(request.path, found), tokens):
        usage[kind.usage] = tokens
    if images:
        usage["input_image_tokens"] = images
    if sound:
        usage["input_audio_tokens"] = sound


class _Habits(NamedTuple):
    """What a model's provider makes of a request, told from the names of the models that may serve it: the tokens that
    it wraps around the messages, and of a picture; ``lean``: tools are declarations to it.
    """

    overhead: int
    image_tokens: int
    lean: bool


@by_name
def _habits(models: str) -> _Habits:
    return _Habits(
        next((dear for name, dear in _DEAR_OVERHEADS if name in models), _OVERHEAD_TOKENS),
        next((dear for name, dear in _DEAR_IMAGES if name in models), _IMAGE_TOKENS),
        _LEAN.search(models) is not None,
    )


def _text(price: Price, request: RequestFacts, body: dict[str, Any], found: Media, habits: _Habits) -> int:
    """Tokens of what is text, and of what the provider wraps around it."""
    if request.body is None:
        return -(-request.body_bytes // _BYTES_PER_TOKEN) + _OVERHEAD_TOKENS
    text = "".join(found.texts)
    if price.cap_output:
        tokens = text_tokens_max(text) + found.digits + found.opaque + found.keys * _KEY_TOKENS_MAX
        return tokens + _tools_tokens(body) + max(habits.overhead, _OVERHEAD_TOKENS_MAX)
    tokens = text_tokens(text) + found.digits + -(-found.opaque // _BYTES_PER_TOKEN) + habits.overhead
    if habits.lean and "models" not in body:
        return tokens + found.keys * _LEAN_KEY_TOKENS
    return tokens + found.keys * _KEY_TOKENS + _tools_tokens(body)


def _tools_tokens(body: dict[str, Any]) -> int:
    return _TOOLS_TOKENS if _has_tools(body) else 0


def _has_tools(body: dict[str, Any]) -> bool:
    """Whether tools are named; a schema for the answer is one to models that know only tools."""
    if body.get("tools") or body.get("functions") or body.get("toolConfig"):
        return True
    wanted = body.get("response_format")
    return isinstance(wanted, dict) and wanted.get("type") == "json_schema"


def _models(path: str, body: dict[str, Any]) -> str:
    """The names of the models that may serve; the path, where the body has none."""
    model, fallbacks = body.get("model"), body.get("models")
    if fallbacks is None and isinstance(model, str):
        return model or path
    names = [model, *(fallbacks if isinstance(fallbacks, list) else ())]
    return " ".join(name for name in names if isinstance(name, str)) or path


def _input_kinds(path: str, found: Media) -> tuple[str, ...]:
    """The kinds that input may be charged as; of a cache write where the body asks for one, or the provider caches by
    itself.
    """
    if found.cached == "1h":
        return _WRITTEN_1H_KINDS
    if found.cached or not path.endswith(_CACHED_ON_DEMAND):
        return _WRITTEN_KINDS
    return _INPUT_KINDS


def add_output(usage: dict[str, Quantity], card: RateCard, request: RequestFacts, ceiling: int) -> None:
    """To the input's usage that of as many answers as are asked for, each of so many tokens, at the dearest kind."""
    tokens = min(ceiling * choices(request.path, _object(request)), QUANTITY_MAX)
    usage["output_tokens"] = tokens
    if rate := output_rate(card, request, usage["input_tokens"]):
        usage[rate.usage] = tokens


def output_rate(card: RateCard, request: RequestFacts, input_tokens: Quantity) -> Rate | None:
    """The dearest rate of what the answer may be made of; None where output has no rate."""
    body = _object(request)
    kinds = _OUTPUT_KINDS
    if _STATES_MODALITIES.isdisjoint(body) and not request.path.endswith("/audio/speech"):
        return card.dearest(_UNSTATED_KINDS, input_tokens)
    modalities = _modalities(body)
    if "audio" in modalities or request.path.endswith("/audio/speech"):
        kinds += ("output_audio_tokens",)
    if not modalities or "image" in modalities:
        kinds += ("output_image_tokens",)
    return card.dearest(kinds, input_tokens)


def _modalities(body: dict[str, Any]) -> set[str]:
    """What the answer is asked to be made of (``audio``, ``image``, ``text``); empty where it isn't said."""
    stated = [config.get(key) for config in configs(body) for key in _MODALITIES]
    return {item.lower() for items in stated if isinstance(items, list) for item in items if isinstance(item, str)}


def _known_before(price: Price, request: RequestFacts) -> dict[str, Quantity]:
    """Units that the rule reads from the request itself, or that its bytes are."""
    found: dict[str, Quantity] = {}
    for source in price.usage:
        if source.kind == "request" and (quantity := number(dig(request.body, source.path))) is not None:
            found[source.unit] = quantity
        elif source.kind == "measured" and source.path == "request_bytes" and request.body_bytes:
            found[source.unit] = request.body_bytes + request.file_bytes
    return found


def _quantity(stated: Fraction) -> Quantity:
    return stated.numerator if stated.denominator == 1 else Decimal(stated.numerator) / stated.denominator
