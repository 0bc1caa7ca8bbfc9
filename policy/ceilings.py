"""Where a request states how many tokens its answer may have, in each API, and how many answers it asks for."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache
from math import ceil
from typing import Any, Final

from policy.held import PATHS_HELD
from policy.pricing import Quantity

Keys = tuple[str, ...]  # that lead to a value in the request's JSON
Fields = tuple[Keys, ...]

QUANTITY_MAX: Final = 10**18  # no request means more, and every sum stays within 64 bits

# By the ends of a path, the fields of its API; the first is the one to write where none is stated.
_CHAT: Final[Fields] = (("max_completion_tokens",), ("max_tokens",))
_MAX_TOKENS: Final[Fields] = (("max_tokens",),)
_CONVERSE: Final[Fields] = (("inferenceConfig", "maxTokens"),)
_GEMINI: Final[Fields] = tuple(
    (config, name)
    for config in ("generationConfig", "generation_config")
    for name in ("maxOutputTokens", "max_output_tokens")
)
_APIS: Final[tuple[tuple[tuple[str, ...], Fields], ...]] = (
    (("/chat/completions",), _CHAT),
    (("/completions", "/messages", "/v1/chat", "/v2/chat", ":rawPredict", ":streamRawPredict"), _MAX_TOKENS),
    (("/responses",), (("max_output_tokens",),)),
    ((":generateContent", ":streamGenerateContent"), _GEMINI),
    (("/converse", "/converse-stream"), _CONVERSE),
)
# Bedrock's InvokeModel takes each model's own format: a part of the model's id, and its fields.
_INVOKED: Final[tuple[tuple[str, Fields], ...]] = (
    ("anthropic.", _MAX_TOKENS),
    ("amazon.nova", (*_CONVERSE, ("inferenceConfig", "max_new_tokens"))),
    ("amazon.titan-text", (("textGenerationConfig", "maxTokenCount"),)),
    ("meta.llama", (("max_gen_len",),)),
    ("mistral.", _MAX_TOKENS),
    ("openai.gpt-oss", _CHAT),
)
_INVOKE: Final = ("/invoke", "/invoke-with-response-stream")
_ANY: Final[Fields] = tuple(dict.fromkeys(field for _, fields in (*_APIS, *_INVOKED) for field in fields))

NAMES: Final = frozenset(field[-1] for field in _ANY)
CONFIGS: Final = frozenset(field[0] for field in _ANY if len(field) > 1)
_COUNTS: Final = ("n", "best_of", "candidateCount")
_COUNTED: Final = CONFIGS | {*_COUNTS, "prompt"}

_NOTHING: Final = (
    "/embeddings", "/embed", "/rerank", "/moderations", "/count_tokens", "/count-tokens", "/tokenize", "/input_tokens",
    ":embedContent", ":batchEmbedContents", ":countTokens",
)  # fmt: skip
# Whose chat prefers max_completion_tokens (OpenAI's reasoning models take no other); all else knows max_tokens.
_COMPLETION: Final = frozenset(("openai", "azure", "aws", "groq", "cerebras", "x-ai"))
_RESPONSES_MIN: Final = 16
# Tokens to think with, which the ceiling has to exceed: Anthropic's, in its own API and Bedrock's; OpenRouter's.
_BUDGETS: Final[Fields] = (
    ("thinking", "budget_tokens"),
    ("additionalModelRequestFields", "thinking", "budget_tokens"),
    ("reasoning", "max_tokens"),
)
_THINKING: Final[Fields] = tuple(
    (config, name)
    for config in ("generationConfig", "generation_config")
    for name in ("thinkingConfig", "thinking_config")
)
_THOUGHTS: Final[Fields] = _BUDGETS + tuple(
    (*at, name) for at in _THINKING for name in ("thinkingBudget", "thinking_budget")
)
_EFFORTS: Final[Fields] = (
    ("reasoning_effort",),
    ("reasoning", "effort"),
    *((*at, name) for at in _THINKING for name in ("thinkingLevel", "thinking_level")),
)
_THINKS: Final = frozenset(keys[0] for keys in (*_THOUGHTS, *_EFFORTS))
_HIGH: Final = frozenset(("high", "xhigh", "max"))
_HIGH_TOKENS: Final = 12_288  # of thought at high effort: recorded were up to 3,840, and OpenAI advises room for 25,000


@lru_cache(PATHS_HELD)
def generates(path: str) -> bool:
    """Whether an answer there has output tokens at all."""
    return not path.endswith(_NOTHING) and not (path.endswith(_INVOKE) and "embed" in path)


def fields_to_write(path: str, body: dict[str, Any], provider: str | None) -> Fields:
    """The fields of this API, first the one that states a ceiling where none does; empty where the API isn't known, or
    generates nothing. ``provider`` is genai-prices' name of the upstream's.
    """
    fields = _known(path, body) if generates(path) else ()
    if fields is _CHAT and provider not in _COMPLETION:
        return fields[::-1]
    if fields is _GEMINI and "generation_config" in body and "generationConfig" not in body:
        return fields[::-1]
    return fields


def _known(path: str, body: dict[str, Any]) -> Fields:
    if "anthropic_version" in body and path.endswith(_INVOKE):
        return _MAX_TOKENS
    return _told(path)


@lru_cache(PATHS_HELD)
def _told(path: str) -> Fields:
    if path.endswith(_INVOKE):
        return next((fields for model, fields in _INVOKED if model in path), ())
    return next((fields for ends, fields in _APIS if path.endswith(ends)), ())


def value_at(body: Any, keys: Keys) -> Any:
    """What stands there; None where nothing does."""
    for key in keys:
        body = body.get(key) if isinstance(body, dict) else None
    return body


def stated_ceiling(path: str, body: dict[str, Any]) -> int | None:
    """The highest that is stated: an upstream may believe any. None where none is a positive number."""
    highest: int | None = None
    for field in _known(path, body) or _ANY:
        if field[0] in body and (ceiling := positive(value_at(body, field))) and ceiling > (highest or 0):
            highest = ceiling
    return highest


def least_ceiling(path: str, body: dict[str, Any]) -> int:
    """The lowest that the provider takes: OpenAI's Responses 16; with a budget of thinking, more than that budget."""
    budget = max(positive(value_at(body, keys)) or 0 for keys in _BUDGETS)
    return min(max(_RESPONSES_MIN if path.endswith("/responses") else 1, budget + 1), QUANTITY_MAX)


def thoughts(body: dict[str, Any]) -> int:
    """The tokens of thought that a request gives leave for, which an answer without a ceiling has beside its words."""
    if _THINKS.isdisjoint(body):
        return 0
    effort = (value_at(body, keys) for keys in _EFFORTS)
    high = any(isinstance(word, str) and word.lower() in _HIGH for word in effort)
    budgets = (positive(value_at(body, keys)) or 0 for keys in _THOUGHTS)
    return max(_HIGH_TOKENS if high else 0, *budgets)


def choices(path: str, body: dict[str, Any]) -> int:
    """How many answers are asked for: each may be as long as the ceiling."""
    if _COUNTED.isdisjoint(body):
        return 1
    counts = (positive(config.get(name)) for config in configs(body) for name in _COUNTS)
    found = max((count for count in counts if count), default=1)
    prompts = body.get("prompt")
    if path.endswith("/completions") and isinstance(prompts, list) and not isinstance(next(iter(prompts), 0), int):
        found *= max(1, len(prompts))
    return found


def configs(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The request itself, and its objects of parameters."""
    yield body
    for key in body.keys() & CONFIGS:
        if isinstance(config := body[key], dict):
            yield config


def positive(value: Any) -> int | None:
    """Rounded up; None for what isn't a positive number."""
    if type(value) is int and 0 < value < QUANTITY_MAX:
        return value
    quantity = None if value is None else number(value)
    return ceil(quantity) if quantity else None


def number(value: Any) -> Quantity | None:
    """A number of zero or more, as JSON or as digits in a string (lenient upstreams take them), clamped; else None."""
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value[:40])
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)) or not value >= 0:
        return None
    if value >= QUANTITY_MAX:
        return QUANTITY_MAX
    return value if isinstance(value, int) else Decimal(str(value))
