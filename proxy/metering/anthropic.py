"""Anthropic's wire format: messages, plain and streamed.

genai-prices' own extractor is not used here: it raises where `message_delta` leaves a field out, takes the two reports
of a stream for two answers, and leaves compaction out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.metering.base import Facts, Tally, Usage
from proxy.metering.quantities import Unreadable, count

_PLAIN = (
    ("output_reasoning_tokens", ("output_tokens_details", "thinking_tokens")),
    ("web_searches", ("server_tool_use", "web_search_requests")),
)


class AnthropicTally(Tally):
    """A stream tells its usage twice: what `message_delta` says overwrites `message_start`, field by field."""

    def __init__(self, facts: Facts = Facts()) -> None:  # noqa: B008  # immutable
        super().__init__(facts)
        self._usage: dict[str, Any] | None = None

    def read(self, document: Mapping[str, Any]) -> bool:
        message = document.get("message")
        starting = isinstance(message, Mapping)
        holder = message if isinstance(message, Mapping) else document
        model = holder.get("model")
        if isinstance(model, str) and model:
            self.model = model
        usage = holder.get("usage")
        if usage is None:
            return False
        if not isinstance(usage, Mapping):
            self._usage = {}
            return not starting
        self._usage = (self._usage or {}) | {key: value for key, value in usage.items() if value is not None}
        return not starting

    def usage(self) -> Usage | None:
        return None if self._usage is None else _quantities(self._usage)


def _quantities(stated: Mapping[str, Any]) -> dict[str, int]:
    """Raises Unreadable."""
    if count(stated, "input_tokens") is None or count(stated, "output_tokens") is None:
        raise Unreadable
    found = {"input_tokens": 0, "output_tokens": 0}
    for sampling in _samplings(stated):
        for kind, quantity in _tokens(sampling):
            found[kind] = found.get(kind, 0) + quantity
    for kind, path in _PLAIN:
        if plain := count(stated, *path):
            found[kind] = plain
    return found


def _samplings(stated: Mapping[str, Any]) -> Iterator[Any]:
    """The message, and what was compacted on its way: billed, though the message's own counts leave it out."""
    yield stated
    iterations = stated.get("iterations")
    if isinstance(iterations, list):
        yield from (each for each in iterations if isinstance(each, Mapping) and each.get("type") == "compaction")


def _tokens(sampling: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """`input_tokens` as stated leaves out what is read from and written to the cache; ours includes it."""
    read = count(sampling, "cache_read_input_tokens") or 0
    short = count(sampling, "cache_creation", "ephemeral_5m_input_tokens") or 0
    long = count(sampling, "cache_creation", "ephemeral_1h_input_tokens") or 0
    written = max(count(sampling, "cache_creation_input_tokens") or 0, short + long)
    yield "input_tokens", (count(sampling, "input_tokens") or 0) + read + written
    yield "output_tokens", count(sampling, "output_tokens") or 0
    parts = (
        ("cache_read_tokens", read),
        ("cache_write_tokens", written),
        ("cache_write_5m_tokens", short),
        ("cache_write_1h_tokens", long),
    )
    yield from (part for part in parts if part[1])
