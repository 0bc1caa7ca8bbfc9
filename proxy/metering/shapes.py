"""What of a whole answer its wire format's reading looks at. All else is checked to be JSON, and not built.

A member that an answer lacks is left out again; an answer whose members are of other kinds is no such object, and read
whole.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType

Maybe = Any | UnsetType


class Choice(Struct):
    """Of a chat completion."""

    usage: Maybe = UNSET


class Item(Struct):
    """Of a response's output."""

    type: Maybe = UNSET
    action: Maybe = UNSET


class OpenAIAnswer(Struct):
    model: Maybe = UNSET
    usage: Maybe = UNSET
    usage_info: Maybe = UNSET
    choices: list[Choice] | UnsetType | None = UNSET
    service_tier: Maybe = UNSET
    x_groq: Maybe = UNSET
    output: list[Item] | UnsetType | None = UNSET
    tool_usage: Maybe = UNSET
    duration: Maybe = UNSET
    response: Maybe = UNSET


class AnthropicAnswer(Struct):
    model: Maybe = UNSET
    usage: Maybe = UNSET
    input_tokens: Maybe = UNSET
    message: Maybe = UNSET


class CohereAnswer(Struct):
    usage: Maybe = UNSET
    meta: Maybe = UNSET
    delta: Maybe = UNSET
    response: Maybe = UNSET


class Candidate(Struct, rename="camel"):
    finish_reason: Maybe = UNSET
    grounding_metadata: Maybe = UNSET


class Embeddings(Struct):
    statistics: Maybe = UNSET


class Prediction(Struct):
    embeddings: Embeddings | UnsetType | None = UNSET


class GeminiAnswer(Struct, rename="camel"):
    usage_metadata: Maybe = UNSET
    model_version: Maybe = UNSET
    candidates: list[Candidate] | UnsetType | None = UNSET
    prompt_feedback: Maybe = UNSET
    predictions: list[Prediction] | UnsetType | None = UNSET
    total_tokens: Maybe = UNSET
    response: Maybe = UNSET
