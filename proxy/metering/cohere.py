"""Cohere's wire format: chat (plain and streamed), embed, rerank and classify, v1 and v2.

What bills is `billed_units`, not `tokens`, which count Cohere's own prompt too (and of which `cached_tokens` are some):
<https://docs.cohere.com/docs/how-does-cohere-pricing-work>. No answer names its model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.metering.base import Facts, Tally, Usage
from proxy.metering.quantities import Unreadable, count
from proxy.metering.shapes import CohereAnswer

# billed_units' words, and genai-prices' where it has one. Tokens that go in are `_input_tokens`.
_UNITS = {
    "output_tokens": "output_tokens",
    "image_tokens": "input_image_tokens",
    "search_units": "rerank_searches",
    "classifications": "classifications",
    "images": "images",
    "pages": "input_document_pages",
}
_UNBILLED = ("/tokenize", "/detokenize")


class CohereTally(Tally):
    """v2 states its usage under `usage` (a stream: in the `delta` of `message-end`), embed, rerank and v1 under `meta`
    (a v1 stream: in the `response` of `stream-end`).
    """

    keys = ("usage", "meta")
    shape = CohereAnswer

    def __init__(self, facts: Facts = Facts()) -> None:  # noqa: B008  # immutable
        super().__init__(facts)
        self._billed: Any = None
        self._unbilled = False

    def read(self, document: Mapping[str, Any]) -> bool:
        for holder in (document, document.get("delta"), document.get("response")):
            if not isinstance(holder, dict):
                continue
            for key in self.keys:
                stated = holder.get(key)
                billed = stated.get("billed_units") if isinstance(stated, dict) else stated
                if billed is not None:
                    self._billed = billed
                    return True
        self._unbilled = "meta" in document and self.facts.path.endswith(_UNBILLED)
        return self._unbilled

    def usage(self) -> Usage | None:
        if self._billed is None:
            return {} if self._unbilled else None
        if not isinstance(self._billed, dict):
            raise Unreadable
        found = {kind: quantity for unit, kind in _UNITS.items() if (quantity := count(self._billed, unit)) is not None}
        if (tokens := _input_tokens(self._billed)) is not None:
            found["input_tokens"] = tokens
        if not found:
            raise Unreadable
        return found


def _input_tokens(billed: Mapping[str, Any]) -> int | None:
    """Text and images, which have prices of their own. Raises Unreadable."""
    stated, text, image = (count(billed, unit) for unit in ("input_tokens", "text_tokens", "image_tokens"))
    if stated is None and text is None and image is None:
        return None
    return max(stated or 0, (stated or 0 if text is None else text) + (image or 0))
