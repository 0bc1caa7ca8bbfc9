"""The usage object of OpenAI's format, in each of its dialects, by genai-prices' vocabulary.

genai-prices' own extractors are not used here: they raise where a field is missing (embeddings have no completion), and
have to be told which of the dialects an answer speaks, which its keys already say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from proxy.metering.quantities import Unreadable, count

_SIDES: Final = (
    ("prompt_tokens", "completion_tokens"),  # chat, legacy completions, embeddings
    ("input_tokens", "output_tokens"),  # responses, images, audio
)
_INPUT_PARTS: Final = (
    ("cache_read_tokens", ("cached_tokens",)),
    ("cache_write_tokens", ("cache_write_tokens",)),
    ("cache_write_tokens", ("cache_creation_input_tokens",)),  # Alibaba
    ("input_audio_tokens", ("audio_tokens",)),
    ("input_image_tokens", ("image_tokens",)),
    ("cache_audio_read_tokens", ("cached_tokens_details", "audio_tokens")),
    ("cache_image_read_tokens", ("cached_tokens_details", "image_tokens")),
)
_OUTPUT_PARTS: Final = (
    ("output_reasoning_tokens", ("reasoning_tokens",)),
    ("output_audio_tokens", ("audio_tokens",)),
    ("output_image_tokens", ("image_tokens",)),
)
_INPUT_IMAGE_PARTS: Final = (*_INPUT_PARTS, ("input_text_tokens", ("text_tokens",)))
_OUTPUT_IMAGE_PARTS: Final = (*_OUTPUT_PARTS, ("output_text_tokens", ("text_tokens",)))
# What some state beside the two sides instead of in their details.
_BESIDE: Final = (
    ("cache_read_tokens", ("prompt_cache_hit_tokens",)),  # DeepSeek
    ("cache_read_tokens", ("num_cached_tokens",)),  # Mistral
    ("cache_read_tokens", ("cached_tokens",)),  # Together, Moonshot
    ("cache_read_tokens", ("cache_read_input_tokens",)),  # Databricks, LiteLLM
    ("cache_write_tokens", ("cache_creation_input_tokens",)),  # LiteLLM
    ("input_audio_seconds", ("prompt_audio_seconds",)),  # Mistral
    ("output_reasoning_tokens", ("reasoning_tokens",)),  # Databricks, Perplexity
    ("output_citation_tokens", ("citation_tokens",)),  # Perplexity
    ("web_searches", ("num_search_queries",)),  # Perplexity
)


def quantities(stated: Mapping[str, Any], model: str, *, image: bool = False) -> dict[str, int]:
    """Raises Unreadable. A side that is not stated is what the total leaves for it. What Mistral's connectors bring in
    stands beside both sides, in the total alone.

    ``model`` is the one that served; ``image``: the answer is to one of the paths for pictures.
    """
    spoken = _SIDES[1] if stated.keys().isdisjoint(_SIDES[0]) and not stated.keys().isdisjoint(_SIDES[1]) else _SIDES[0]
    into, out, total = count(stated, spoken[0]), count(stated, spoken[1]), count(stated, "total_tokens")
    if into is None:
        if total is None:
            raise Unreadable
        into = max(0, total - (out or 0))
    if out is None and total is not None and total > into:
        out = total - into
    connected = count(stated, "connector_tokens") or 0
    if total is None or total - into - (out or 0) >= connected:
        into += connected
    found = {"input_tokens": into}
    if out is not None:
        found["output_tokens"] = out
    if connected:
        found["input_tool_tokens"] = connected
    _add_parts(found, _details(stated, spoken[0]), _INPUT_IMAGE_PARTS if image else _INPUT_PARTS)
    _add_parts(found, _details(stated, spoken[1]), _OUTPUT_IMAGE_PARTS if image else _OUTPUT_PARTS)
    _add_parts(found, stated, _BESIDE)
    if out is not None:
        _add_left_out(found, stated, (total or 0) - into - out, model)
        if image and _details(stated, spoken[1]) is None:
            found["output_image_tokens"] = out
    return found


def _add_parts(found: dict[str, int], holder: Any, parts: tuple[tuple[str, tuple[str, ...]], ...]) -> None:
    """Raises Unreadable. Of a part that is stated in two ways, the larger counts."""
    if holder is None:
        return
    if not isinstance(holder, dict):
        raise Unreadable
    for kind, path in parts:
        if path[0] in holder and (quantity := count(holder, *path)):
            found[kind] = max(quantity, found.get(kind, 0))


def _details(stated: Mapping[str, Any], side: str) -> Any:
    details = stated.get(f"{side}_details")
    return stated.get(f"{side.removesuffix('s')}_details") if details is None else details  # as transcripts have it


def _add_left_out(found: dict[str, int], stated: Mapping[str, Any], rest: int, model: str) -> None:
    """Add to the output what its count leaves out, though it is billed as output. ``rest`` is what the total has beyond
    both sides.
    """
    reasoning = found.get("output_reasoning_tokens", 0)
    left_out = 0
    if stated.get("citation_tokens") is not None:  # Perplexity's deep research, whose total leaves both out too
        left_out = reasoning + found.get("output_citation_tokens", 0)
    elif reasoning <= rest:  # xAI, Gemini on Vertex AI
        left_out = reasoning
    if rest > 0 and not reasoning and "gemini" in model:
        # Gemini's thoughts stand in the total alone, and Google bills them: "response pricing is the sum of output
        # tokens and thinking tokens" (ai.google.dev/gemini-api/docs/thinking).
        left_out = found["output_reasoning_tokens"] = rest
    found["output_tokens"] += left_out
