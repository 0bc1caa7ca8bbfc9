"""What a request's input is taken for, at whatever rates: its tokens, by what a model reads of it, and other units."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any, Final, NamedTuple

from msgspec import Struct

from policy import uploads
from policy.ceilings import CONFIGS, configs
from policy.held import by_name
from policy.hosted import hosted_uses, names_more
from policy.media import Media, media
from policy.model import Price
from policy.pricing import Quantity
from policy.text import text_tokens, text_tokens_max

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

# What a search, a stored conversation or a file by its address brings in, as the rule doesn't say: recorded calls
# with two searches had 22,000 to 44,000, others under 20,000.
_UNSEEN_TOKENS: Final = 20_000
# The largest picture is 4,784 tokens by Anthropic's documentation, 2,240 by Gemini's, about 3,800 by OpenAI's.
_IMAGE_TOKENS: Final = 5_000
_DEAR_IMAGES: Final = (("gpt-4o-mini", 48_169),)  # 2,833 + 8 tiles × 5,667, by OpenAI's table

_INPUT_KINDS: Final = ("input_tokens", "input_text_tokens", "cache_read_tokens")
_WRITTEN_KINDS: Final = (*_INPUT_KINDS, "cache_write_tokens", "cache_write_5m_tokens")
_WRITTEN_1H_KINDS: Final = (*_WRITTEN_KINDS, "cache_write_1h_tokens")
_OUTPUT_KINDS: Final[tuple[str, ...]] = (
    "output_tokens", "output_text_tokens", "output_reasoning_tokens", "output_citation_tokens",
)  # fmt: skip
_UNSTATED_KINDS: Final = (*_OUTPUT_KINDS, "output_image_tokens")
_MODALITIES: Final = ("modalities", "responseModalities")
_STATES_MODALITIES: Final = CONFIGS | {*_MODALITIES}
_CACHED_ON_DEMAND: Final = ("/messages", "/converse", "/converse-stream", "/invoke", "/invoke-with-response-stream")


class RequestFacts(Struct, frozen=True):
    """``body`` is the parsed JSON, or a form's text fields; None where it is neither or wasn't read. ``body_bytes`` is
    its size as sent, without ``file_bytes`` of files that a form uploads.
    """

    path: str
    body: Any
    body_bytes: int
    file_bytes: int = 0


class Input(NamedTuple):
    """``tokens`` of all input, of which ``images`` and ``sound`` are those of pictures and sound. ``kinds`` are what it
    may be charged as.
    """

    tokens: int
    images: int
    sound: int
    kinds: tuple[str, ...]


class Reading:
    """A request as read for a price: each part once and only if asked for, however many rates it is estimated at."""

    __slots__ = ("_input", "_output_kinds", "_price", "_units", "body", "request")

    def __init__(self, price: Price, request: RequestFacts) -> None:
        self.request = request
        self.body: dict[str, Any] = request.body if isinstance(request.body, dict) else {}
        self._price = price
        self._input: Input | None = None
        self._units: Mapping[str, int] | None = None
        self._output_kinds: tuple[str, ...] | None = None

    def input(self) -> Input:
        if self._input is None:
            self._input = _input(self._price, self.request, self.body)
        return self._input

    def units(self) -> Mapping[str, int]:
        """Quantities that aren't tokens."""
        if self._units is None:
            request, body = self.request, self.body
            held = uploads.units(request.path, body, request.body_bytes, request.file_bytes)
            self._units = held | hosted_uses(body, _models(request.path, body))
        return self._units

    def output_kinds(self) -> tuple[str, ...]:
        """What the answer may be made of."""
        if self._output_kinds is None:
            self._output_kinds = _output_kinds(self.request.path, self.body)
        return self._output_kinds


def _input(price: Price, request: RequestFacts, body: dict[str, Any]) -> Input:
    """The rule states the tokens of what the request only names."""
    models = _models(request.path, body)
    habits = _habits(models)
    found = media(request.body)
    images = found.images * habits.image_tokens
    sound = found.sound_tokens
    if request.file_bytes:
        images += uploads.image_tokens(request.path, request.file_bytes)
        sound += uploads.sound_tokens(request.path, request.file_bytes)
    tokens = _text(price, request, body, found, habits) + images + sound + found.file_tokens
    named = found.stored or names_more(body, models)
    if named or request.body is None:
        tokens += ceil(quantity(price.estimate.get("input_tokens", Fraction(_UNSEEN_TOKENS if named else 0))))
    return Input(tokens, images, sound, _input_kinds(request.path, found))


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


def _output_kinds(path: str, body: dict[str, Any]) -> tuple[str, ...]:
    spoken = path.endswith("/audio/speech")
    if not spoken and _STATES_MODALITIES.isdisjoint(body):
        return _UNSTATED_KINDS
    modalities = _modalities(body)
    kinds = _OUTPUT_KINDS
    if spoken or "audio" in modalities:
        kinds += ("output_audio_tokens",)
    if not modalities or "image" in modalities:
        kinds += ("output_image_tokens",)
    return kinds


def _modalities(body: dict[str, Any]) -> set[str]:
    """What the answer is asked to be made of (``audio``, ``image``, ``text``); empty where it isn't said."""
    stated = [config.get(key) for config in configs(body) for key in _MODALITIES]
    return {item.lower() for items in stated if isinstance(items, list) for item in items if isinstance(item, str)}


def quantity(stated: Fraction) -> Quantity:
    return stated.numerator if stated.denominator == 1 else Decimal(stated.numerator) / stated.denominator
