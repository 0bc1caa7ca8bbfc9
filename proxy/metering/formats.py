"""The wire formats that can be metered: which one an answer speaks, by its upstream's `meter:` and its path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from proxy.metering.anthropic import AnthropicTally
from proxy.metering.base import Facts, Tally
from proxy.metering.bedrock import BedrockTally
from proxy.metering.cohere import CohereTally
from proxy.metering.gemini import GeminiTally
from proxy.metering.mcp import MCPTally
from proxy.metering.openai import GroqTally, MistralTally, OpenAITally, OpenRouterTally

# A meter's own reading of its answers. Those that speak OpenAI's format, each with words of its own, are one reading.
FORMATS: Final[Mapping[str, type[Tally]]] = MappingProxyType(
    {
        "anthropic": AnthropicTally,
        "bedrock": BedrockTally,
        "cohere": CohereTally,
        "gemini": GeminiTally,
        "mcp": MCPTally,
        "openai": OpenAITally,
        "mistral": MistralTally,
        "deepseek": OpenAITally,
        "groq": GroqTally,
        "openrouter": OpenRouterTally,
    }
)
_SPEAK_OPENAI: Final = frozenset(("openai", "mistral", "deepseek", "groq", "openrouter"))

# (the end of a path, its wire format, whether every successful answer to it carries usage)
_PATHS: Final = tuple(
    (re.compile(rf"(?:{end})\Z"), name, promised)
    for end, name, promised in (
        (r"/v1/messages", "anthropic", True),
        (r"/messages/(?:count_tokens|batches)", "anthropic", False),
        (r"/publishers/anthropic/models/[^/]+:(?:raw|streamRaw)Predict", "anthropic", True),
        (r"/publishers/[^/]+/models/[^/]+:(?:raw|streamRaw)Predict", "openai", True),  # Mistral's, AI21's at Vertex AI
        (r"/(?:completions|responses|embeddings)", "openai", True),
        (r"/responses/(?:compact|input_tokens)|/moderations|/(?:images|audio)/[a-z]+|/batches", "openai", False),
        (r":(?:generateContent|streamGenerateContent)", "gemini", True),
        (r":(?:embedContent|batchEmbedContents|countTokens|batchGenerateContent)", "gemini", False),
        (r"/model/[^/]+/converse", "bedrock", True),
        (r"/model/[^/]+/(?:invoke|converse-stream|invoke-with-response-stream|count-tokens)", "bedrock", False),
        (r"/v2/(?:chat|embed|rerank)", "cohere", True),
    )
)
_PATHS_HELD: Final = 4096


@lru_cache(_PATHS_HELD)
def wire_format(meter: str | None, path: str) -> str | None:
    """The format that answers to that path come in: the meter's own, unless the path is another format's (as one
    provider's copy of another's API is); None where neither tells.
    """
    told = _told(path) if meter != "mcp" else None
    if told is None or (told[0] == "openai" and meter in _SPEAK_OPENAI):
        return meter
    return told[0]


def promises_usage(path: str) -> bool:
    """Whether every successful answer to that path carries usage in its wire format."""
    told = _told(path)
    return told is not None and told[1]


def tally_for(wire: str | None, facts: Facts) -> Tally | None:
    """A new tally of that wire format; None where there is none to read."""
    made = FORMATS.get(wire or "")
    return made(facts) if made else None


@lru_cache(_PATHS_HELD)
def _told(path: str) -> tuple[str, bool] | None:
    return next(((name, promised) for end, name, promised in _PATHS if end.search(path)), None)
