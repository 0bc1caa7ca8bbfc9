"""The usage object of OpenAI's format, in each of its dialects, by genai-prices' vocabulary.

genai-prices' own extractors are not used here: they raise where a field is missing (embeddings have no completion), and
have to be told which of the dialects an answer speaks, which its keys already say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from proxy.metering.quantities import Unreadable, count

_CHAT: Final = ("prompt_tokens", "completion_tokens")  # legacy completions and embeddings, too
_RESPONSES: Final = ("input_tokens", "output_tokens")  # images and audio, too
_DETAILS: Final = {
    side: (f"{side}_details", f"{side.removesuffix('s')}_details")  # the latter, as transcripts have it
    for side in (*_CHAT, *_RESPONSES)
}
# What stands in the details of each side, and what some state beside both instead.
_INPUT_PARTS: Final = {
    "cached_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "cache_creation_input_tokens": "cache_write_tokens",  # Alibaba
    "audio_tokens": "input_audio_tokens",
    "image_tokens": "input_image_tokens",
}
_CACHED: Final = "cached_tokens_details"
_CACHED_PARTS: Final = {"audio_tokens": "cache_audio_read_tokens", "image_tokens": "cache_image_read_tokens"}
_OUTPUT_PARTS: Final = {
    "reasoning_tokens": "output_reasoning_tokens",
    "audio_tokens": "output_audio_tokens",
    "image_tokens": "output_image_tokens",
}
_INPUT_IMAGE_PARTS: Final = {**_INPUT_PARTS, "text_tokens": "input_text_tokens"}
_OUTPUT_IMAGE_PARTS: Final = {**_OUTPUT_PARTS, "text_tokens": "output_text_tokens"}
_BESIDE: Final = {
    "prompt_cache_hit_tokens": "cache_read_tokens",  # DeepSeek
    "num_cached_tokens": "cache_read_tokens",  # Mistral
    "cached_tokens": "cache_read_tokens",  # Together, Moonshot
    "cache_read_input_tokens": "cache_read_tokens",  # Databricks, LiteLLM
    "cache_creation_input_tokens": "cache_write_tokens",  # LiteLLM
    "prompt_audio_seconds": "input_audio_seconds",  # Mistral
    "reasoning_tokens": "output_reasoning_tokens",  # Databricks, Perplexity
    "citation_tokens": "output_citation_tokens",  # Perplexity
    "num_search_queries": "web_searches",  # Perplexity
}


def quantities(stated: Mapping[str, Any], model: str, *, image: bool = False) -> dict[str, int]:
    """Raises Unreadable. A side that is not stated is what the total leaves for it. What Mistral's connectors bring in
    stands beside both sides, in the total alone.

    ``model`` is the one that served; ``image``: the answer is to one of the paths for pictures.
    """
    keys = stated.keys()
    spoken = _RESPONSES if keys.isdisjoint(_CHAT) and not keys.isdisjoint(_RESPONSES) else _CHAT
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
    details = _details(stated, spoken[0])
    _add_parts(found, details, _INPUT_IMAGE_PARTS if image else _INPUT_PARTS)
    if details:
        _add_parts(found, details.get(_CACHED), _CACHED_PARTS)
    details = _details(stated, spoken[1])
    _add_parts(found, details, _OUTPUT_IMAGE_PARTS if image else _OUTPUT_PARTS)
    _add_parts(found, stated, _BESIDE)
    if out is not None:
        _add_left_out(found, stated, (total or 0) - into - out, model)
        if image and details is None:
            found["output_image_tokens"] = out
    return found


def _add_parts(found: dict[str, int], holder: Any, parts: Mapping[str, str]) -> None:
    """Raises Unreadable. Of a part that is stated in two ways, the larger counts."""
    if holder is None:
        return
    if not isinstance(holder, dict):
        raise Unreadable
    for key, value in holder.items():
        kind = parts.get(key)
        if kind is None or value is None or (value == 0 and value is not False):  # as most of them are
            continue
        if quantity := count(value):
            found[kind] = max(quantity, found.get(kind, 0))


def _details(stated: Mapping[str, Any], side: str) -> Any:
    usual, singular = _DETAILS[side]
    details = stated.get(usual)
    return stated.get(singular) if details is None else details


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
