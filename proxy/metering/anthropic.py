"""Anthropic's wire format: messages, plain and streamed, at Anthropic's own paths and at Vertex's.

genai-prices' own extractor is not used here: it raises where `message_delta` leaves a field out, takes the two reports
of a stream for two answers, and leaves compaction and the advisor out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from proxy.metering.base import Facts, Tally, Usage
from proxy.metering.quantities import Unreadable, count
from proxy.metering.shapes import AnthropicAnswer

_PLAIN = (
    ("output_reasoning_tokens", ("output_tokens_details", "thinking_tokens")),
    ("web_searches", ("server_tool_use", "web_search_requests")),  # a web fetch costs its tokens alone
)
_TERMS = ("speed", "service_tier")  # the standard ones are told too: what was asked for may not be what served
_CACHED = ("cache_read_tokens", "cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
_IN_TOTALS = ("message", "fallback_message")  # the iterations that the message's own counts include
_COUNTING = re.compile(r"/count[_-]tokens(?::rawPredict)?\Z")


class AnthropicTally(Tally):
    """A stream tells its usage twice: what `message_delta` says overwrites `message_start`, field by field.

    Flag ``other_model``: an advisor's tokens are counted with the message's, though its own price may be another.
    """

    shape = AnthropicAnswer

    def __init__(self, facts: Facts = Facts()) -> None:  # noqa: B008  # immutable
        super().__init__(facts)
        self._usage: dict[str, Any] | None = None
        self._unbilled = False

    def read(self, document: Mapping[str, Any]) -> bool:
        message = document.get("message")
        starting = isinstance(message, dict)
        holder: Mapping[str, Any] = message if isinstance(message, dict) else document
        model = holder.get("model")
        if isinstance(model, str) and model:
            self.model = model
        usage = holder.get("usage")
        if usage is None:
            self._unbilled = "input_tokens" in document and _COUNTING.search(self.facts.path) is not None
            return self._unbilled
        if not isinstance(usage, dict):
            self._usage = {}
            return not starting
        self._usage = (self._usage or {}) | {key: value for key, value in usage.items() if value is not None}
        for name in _TERMS:
            if isinstance(term := usage.get(name), str):
                self.terms[name] = term
        return not starting

    def usage(self) -> Usage | None:
        if self._usage is None:
            return {} if self._unbilled else None
        beside = _beside(self._usage)
        asked_others = beside and any(sampling.get("model") not in (None, self.model) for sampling in beside)
        self.flags = ["other_model"] if asked_others else []
        return _quantities(self._usage, beside)


def _quantities(stated: Mapping[str, Any], beside: list[Mapping[str, Any]]) -> dict[str, int]:
    """Raises Unreadable."""
    if stated.get("input_tokens") is None or stated.get("output_tokens") is None:
        raise Unreadable
    found = {"input_tokens": 0, "output_tokens": 0}
    _add_tokens(found, stated)
    for sampling in beside:
        _add_tokens(found, sampling)
    for kind, path in _PLAIN:
        if path[0] in stated and (plain := count(stated, *path)):
            found[kind] = plain
    return found


def _beside(stated: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What was sampled on the message's way (compaction, an advisor's word): billed, though its own counts leave it
    out.
    """
    iterations = stated.get("iterations")
    if not isinstance(iterations, list):
        return []
    return [each for each in iterations if isinstance(each, dict) and each.get("type") not in _IN_TOTALS]


def _add_tokens(found: dict[str, int], sampling: Mapping[str, Any]) -> None:
    """`input_tokens` as stated leaves out what is read from and written to the cache; ours includes it."""
    read = count(sampling, "cache_read_input_tokens") or 0
    written, short, long = count(sampling, "cache_creation_input_tokens") or 0, 0, 0
    if (created := sampling.get("cache_creation")) is not None:
        short = count(created, "ephemeral_5m_input_tokens") or 0
        long = count(created, "ephemeral_1h_input_tokens") or 0
        written = max(written, short + long)
    found["input_tokens"] += (count(sampling, "input_tokens") or 0) + read + written
    found["output_tokens"] += count(sampling, "output_tokens") or 0
    if not read and not written:
        return
    for kind, quantity in zip(_CACHED, (read, written, short, long), strict=True):
        if quantity:
            found[kind] = found.get(kind, 0) + quantity
