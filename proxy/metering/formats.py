"""The wire formats that can be metered, by the name a policy's `meter:` gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from proxy.metering.anthropic import AnthropicTally
from proxy.metering.base import Tally
from proxy.metering.openai import OpenAITally

FORMATS: Final[Mapping[str, Callable[[], Tally]]] = MappingProxyType(
    {
        "anthropic": AnthropicTally,
        "openai": OpenAITally,
    }
)


def told_by_path(path: str) -> str | None:
    """The format whose usage every successful answer to that path carries; None where none is promised."""
    if path.endswith("/v1/messages"):
        return "anthropic"
    if path.endswith(("/completions", "/responses", "/embeddings")):
        return "openai"
    return None
