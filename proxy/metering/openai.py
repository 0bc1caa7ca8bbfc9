"""OpenAI's wire format: chat completions, responses, embeddings, legacy completions, plain and streamed.

genai-prices' own extractors are not used here: they raise where a field is missing (embeddings have no completion), and
have to be told which of the two vocabularies an answer speaks, which its keys already say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.metering.base import Facts, Tally, Usage
from proxy.metering.quantities import Unreadable, count

_INPUT_PARTS = (
    ("cache_read_tokens", ("cached_tokens",)),
    ("cache_write_tokens", ("cache_write_tokens",)),
    ("input_audio_tokens", ("audio_tokens",)),
    ("input_image_tokens", ("image_tokens",)),
    ("cache_audio_read_tokens", ("cached_tokens_details", "audio_tokens")),
)
_OUTPUT_PARTS = (
    ("output_reasoning_tokens", ("reasoning_tokens",)),
    ("output_audio_tokens", ("audio_tokens",)),
    ("output_image_tokens", ("image_tokens",)),
)
_VOCABULARIES = (
    ("prompt_tokens", "completion_tokens"),  # chat, legacy completions, embeddings
    ("input_tokens", "output_tokens"),  # responses, images
)


class OpenAITally(Tally):
    """The last usage told is the answer's: in the answer, in a chunk, or in the response of a terminal event."""

    def __init__(self, facts: Facts = Facts()) -> None:  # noqa: B008  # immutable
        super().__init__(facts)
        self._usage: Any = None

    def read(self, document: Mapping[str, Any]) -> bool:
        response = document.get("response")
        holder = response if isinstance(response, Mapping) else document
        model = holder.get("model")
        if isinstance(model, str) and model:
            self.model = model
        usage = holder.get("usage")
        if usage is None:
            return False
        self._usage = usage
        return True

    def usage(self) -> Usage | None:
        if self._usage is None:
            return None
        if not isinstance(self._usage, Mapping):
            raise Unreadable
        return _quantities(self._usage)


def _quantities(stated: Mapping[str, Any]) -> dict[str, int]:
    """Raises Unreadable. A side that is not stated is what the total leaves for it."""
    spoken = next((words for words in _VOCABULARIES if not stated.keys().isdisjoint(words)), _VOCABULARIES[0])
    into, out = (count(stated, key) for key in spoken)
    total = count(stated, "total_tokens")
    if into is None:
        if total is None:
            raise Unreadable
        into = max(0, total - (out or 0))
    if out is None and total is not None and total > into:
        out = total - into
    found = {"input_tokens": into}
    if out is not None:
        found["output_tokens"] = out
    for side, parts in zip(spoken, (_INPUT_PARTS, _OUTPUT_PARTS), strict=True):
        for kind, path in parts:
            if quantity := count(stated, f"{side}_details", *path):
                found[kind] = quantity
    return found
