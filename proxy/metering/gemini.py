"""Gemini's wire format, of Google's AI Studio and Vertex: content and embeddings, plain and streamed.

genai-prices' own extractor is not used here: it raises where no count is stated, knows neither searches nor the
embeddings' spelling of `promptTokenDetails`, and has to be told which answer of a stream is the last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from proxy.metering.base import Facts, Tally, Usage
from proxy.metering.quantities import Unreadable, count
from proxy.metering.shapes import GeminiAnswer

_TOTAL = "totalTokenCount"
_COUNTS = frozenset(
    ("promptTokenCount", "toolUsePromptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", _TOTAL)
)
_PARTS = (
    ("cache_read_tokens", "cachedContentTokenCount"),
    ("input_tool_tokens", "toolUsePromptTokenCount"),
    ("output_reasoning_tokens", "thoughtsTokenCount"),
)
_MODALITIES = {"TEXT": "text", "IMAGE": "image", "DOCUMENT": "image", "AUDIO": "audio", "VIDEO": "video"}
_DETAILS = (
    ("promptTokensDetails", "input_{}_tokens"),
    ("promptTokenDetails", "input_{}_tokens"),
    ("toolUsePromptTokensDetails", "input_{}_tokens"),
    ("toolUsePromptTokensDetails", "input_{}_tool_tokens"),
    ("cacheTokensDetails", "cache_{}_read_tokens"),
    ("candidatesTokensDetails", "output_{}_tokens"),
)
_UNTOLD = frozenset(("", "unspecified"))
_GENERATION = re.compile(r"gemini-(\d+)")
_COUNTING = ":countTokens"
_EMBEDDED = ("embeddings", "statistics", "token_count")


class GeminiTally(Tally):
    """Usage repeats on every chunk of a stream, and starts anew after each tool that ran at Google's: the chunk that
    ends the answer says all of it, and until then the largest counts. Counts of zero are left out.
    """

    keys = ("usageMetadata", "webSearchQueries", "statistics")
    deep = ("webSearchQueries", "statistics")
    shape = GeminiAnswer

    def __init__(self, facts: Facts = Facts()) -> None:  # noqa: B008  # immutable
        super().__init__(facts)
        self._stated: Any = None
        self._ended = False
        self._unbilled = False
        self._queries: set[str] = set()
        self._predictions: list[Mapping[str, Any]] = []

    def read(self, document: Mapping[str, Any]) -> bool:
        response = document.get("response")  # around it, where Google's coding agents call
        holder = response if isinstance(response, dict) else document
        model = holder.get("modelVersion")
        if isinstance(model, str) and model:
            self.model = model
        self._predictions = list(_objects(holder.get("predictions")))
        candidates = list(_objects(holder.get("candidates")))
        for candidate in candidates:
            self._queries.update(_searched(candidate))
        blocked = _reason(holder.get("promptFeedback"), "blockReason")
        ended = blocked or any(_reason(candidate, "finishReason") for candidate in candidates)
        self._ended = self._ended or ended
        self._unbilled = self.facts.path.endswith(_COUNTING) and "totalTokens" in holder
        self._keep(holder.get("usageMetadata"), blocked=blocked)
        return ended or self._unbilled

    def _keep(self, stated: Any, *, blocked: bool) -> None:
        if not isinstance(stated, dict):
            self._stated = self._stated if stated is None else stated
            return
        if _COUNTS.isdisjoint(stated):
            # So are Vertex's chunks before the last; and the answer to a prompt that was kept from the model.
            counts = blocked and self._stated is None
        else:
            counts = self._ended or _size(stated) >= _size(self._stated)
        if counts:
            self._stated = stated
            self.terms = _terms(stated)

    def usage(self) -> Usage | None:
        if self._stated is None:
            return {} if self._unbilled else self._embedded()
        if not isinstance(self._stated, dict):
            raise Unreadable
        found = _quantities(self._stated)
        if searches := self._searches(self._stated):
            found["web_searches"] = searches
        return found

    def _embedded(self) -> Usage | None:
        """Vertex AI counts the tokens of each text by itself.

        https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api
        """
        counts = [count(prediction, *_EMBEDDED) for prediction in self._predictions]
        known = [tokens for tokens in counts if tokens is not None]
        return {"input_tokens": sum(known)} if known and len(known) == len(counts) else None

    def _searches(self, stated: Mapping[str, Any]) -> int:
        """Google bills each distinct query, of models before Gemini 3 each prompt that was grounded.

        https://ai.google.dev/gemini-api/docs/google-search#pricing
        """
        billed = [
            count(tool, "successfulToolCallCount") or 0
            for tool in _objects(stated.get("billedToolCalls"))
            if str(tool.get("tool")).lower().startswith("google_search")
        ]
        searches = sum(billed) or len(self._queries)
        generation = _GENERATION.search(self.model or self.facts.path)
        return min(searches, 1) if generation and int(generation[1]) < 3 else searches


def _quantities(stated: Mapping[str, Any]) -> dict[str, int]:
    """Raises Unreadable. What the total has beyond the counts is output: thoughts that are not itemized."""
    into = (count(stated, "promptTokenCount") or 0) + (count(stated, "toolUsePromptTokenCount") or 0)
    out = (count(stated, "candidatesTokenCount") or 0) + (count(stated, "thoughtsTokenCount") or 0)
    total = count(stated, _TOTAL) or 0
    if not into:
        into = max(0, total - out)
    found = {"input_tokens": into, "output_tokens": max(out, total - into)}
    for kind, key in _PARTS:
        if quantity := count(stated, key):
            found[kind] = quantity
    for key, kind in _DETAILS:
        for detail in _objects(stated.get(key)):
            modality = _MODALITIES.get(str(detail.get("modality")))
            if modality and (quantity := count(detail, "tokenCount")):
                unit = kind.format(modality)
                found[unit] = found.get(unit, 0) + quantity
    return found


def _size(stated: Any) -> int:
    total = stated.get(_TOTAL) if isinstance(stated, dict) else None
    return total if isinstance(total, int) else 0


def _terms(stated: Mapping[str, Any]) -> dict[str, str]:
    """AI Studio's `serviceTier: flex`, Vertex's `trafficType: ON_DEMAND_FLEX`; the standard one is told too, as a call
    that asked for another may have been served on it.
    """
    tier, traffic = str(stated.get("serviceTier") or "").lower(), str(stated.get("trafficType") or "").lower()
    tier = tier.removeprefix("service_tier_") or (
        "standard" if traffic == "on_demand" else traffic.partition("on_demand_")[2]
    )
    return {} if tier in _UNTOLD else {"service_tier": tier}


def _searched(candidate: Mapping[str, Any]) -> Iterator[str]:
    """The queries by which a candidate was grounded; Google bills no empty one."""
    grounding = candidate.get("groundingMetadata")
    queries = grounding.get("webSearchQueries") if isinstance(grounding, dict) else None
    if isinstance(queries, list):
        yield from (query for query in queries if isinstance(query, str) and query)


def _reason(holder: Any, key: str) -> bool:
    return isinstance(holder, dict) and isinstance(holder.get(key), str)


def _objects(holder: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(holder, list):
        yield from (each for each in holder if isinstance(each, dict))
