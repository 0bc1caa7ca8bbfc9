"""OpenAI's wire format: chat completions, responses, embeddings, legacy completions, images and audio, plain and
streamed; and that of the many servers that speak it too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from proxy.metering.base import Facts, Tally, Usage
from proxy.metering.openai_media import implied_usage, is_audio, is_image, is_transcript, listened
from proxy.metering.openai_usage import quantities
from proxy.metering.quantities import Unreadable, amount, count
from proxy.metering.shapes import OpenAIAnswer

_TIER_MAX: Final = 32

# Calls of tools that run at the provider, each of which has a fee beside its tokens.
_SEARCHES: Final = {"web_search_call": "web_searches", "file_search_call": "storage_searches"}
# Tools whose fee doesn't go by the call: images by tokens at another model's price, code by the container's minutes.
_OTHER_FEES: Final = frozenset(("image_generation_call", "code_interpreter_call"))
# "When using Chat Completions, the model always retrieves information from the web": OpenAI's guide to web search.
_SEARCH_MODEL: Final = re.compile(r"-search-(?:preview|api)\b")

_SIDES: Final = frozenset(("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"))
_ANNOTATIONS: Final = ("bbox_annotation_format", "document_annotation_format")


class OpenAITally(Tally):
    """The last usage told is the answer's: in the answer, in a chunk, or in the response of a terminal event."""

    deep = (*_SEARCHES, *_OTHER_FEES, "service_tier")
    shape = OpenAIAnswer
    seconds_min = 0  # what the shortest sound is billed as

    def __init__(self, facts: Facts = Facts()) -> None:  # noqa: B008  # immutable
        super().__init__(facts)
        self.exact = self.exact or is_audio(facts.path)
        self._usage: Any = None
        self._answer: Mapping[str, Any] = {}  # what the usage stood in

    def read(self, document: Mapping[str, Any]) -> bool:
        response = document.get("response")
        answer = response if isinstance(response, dict) else document
        model = answer.get("model")
        if isinstance(model, str) and model:
            self.model = model
        tier = answer.get("service_tier")
        if isinstance(tier, str) and 0 < len(tier) <= _TIER_MAX:
            self.terms["service_tier"] = tier.lower()
        usage = self._stated(answer)
        if usage is None:
            return False
        self._usage, self._answer = usage, answer
        return True

    def usage(self) -> Usage | None:
        if self._usage is None:
            return None
        if not isinstance(self._usage, dict):
            raise Unreadable
        if self._usage.get("type") == "duration":
            return listened(self._usage.get("seconds"), self.seconds_min)
        if "choices" in self._answer and _SIDES.isdisjoint(self._usage):
            raise Unreadable  # a total (MiniMax's) doesn't tell what was said, which costs more
        found = quantities(self._usage, self.model or "", image=is_image(self.facts.path))
        fees = self._fees()
        return {**found, **fees} if fees else found

    def implied(self) -> Usage | None:
        return implied_usage(self.facts)

    def _stated(self, answer: Mapping[str, Any]) -> Any:
        """The usage where its servers put it; None: nowhere."""
        usage = answer.get("usage")
        if usage is None and isinstance(groq := answer.get("x_groq"), dict):
            usage = groq.get("usage")
        choices = answer.get("choices")
        if usage is None and isinstance(choices, list) and choices and isinstance(choices[-1], dict):
            usage = choices[-1].get("usage")  # Moonshot
        if usage is None and is_transcript(self.facts.path) and answer.get("duration") is not None:
            usage = {"type": "duration", "seconds": answer["duration"]}
        return usage

    def _fees(self) -> dict[str, int | Decimal]:
        """What is billed beside the tokens. Raises Unreadable."""
        fees: dict[str, int | Decimal] = {}
        items = self._answer.get("output")
        for item in items if isinstance(items, list) else ():
            kind = str(item.get("type")) if isinstance(item, dict) else ""
            if kind in _OTHER_FEES:
                self._flag("tool_unpriced")
            elif kind in _SEARCHES and _is_search(item):
                fees[_SEARCHES[kind]] = fees.get(_SEARCHES[kind], 0) + 1
        searched = count(self._answer, "tool_usage", "web_search", "num_requests") or 0
        if self.model and "-search-" in self.model and _SEARCH_MODEL.search(self.model):
            searched = max(searched, 1)
        if searched > fees.get("web_searches", 0):
            fees["web_searches"] = searched
        return fees

    def _flag(self, name: str) -> None:
        if name not in self.flags:
            self.flags.append(name)


class MistralTally(OpenAITally):
    """Mistral's OCR is billed by the page, at another price where annotations are asked for. A conversation's
    connectors (a web search) have fees of their own.
    """

    keys = ("usage", "usage_info")

    def usage(self) -> Usage | None:
        pages = count(self._usage, "pages_processed") if isinstance(self._usage, dict) else None
        if pages is None:
            return super().usage()
        request = self.facts.request
        annotated = isinstance(request, dict) and any(request.get(key) is not None for key in _ANNOTATIONS)
        return {"input_document_pages": pages} | ({"input_annotated_document_pages": pages} if annotated else {})

    def _stated(self, answer: Mapping[str, Any]) -> Any:
        usage = super()._stated(answer)
        return answer.get("usage_info") if usage is None else usage

    def _fees(self) -> dict[str, int | Decimal]:
        if self._usage.get("connectors"):
            self._flag("tool_unpriced")
        return super()._fees()


class GroqTally(OpenAITally):
    """Groq's transcripts are billed as ten seconds at least (console.groq.com/docs/speech-to-text)."""

    seconds_min = 10


class OpenRouterTally(OpenAITally):
    """OpenRouter states what it charges, in USD, its tools' fees included: usage ``cost``. For a call that went by the
    caller's own key (``byok``) that is OpenRouter's fee alone; the model's provider bills its caller apart.
    """

    exact = True

    def _fees(self) -> dict[str, int | Decimal]:
        if self._usage.get("cost") is None:
            return super()._fees()
        if self._usage.get("is_byok") is True:
            self._flag("byok")
        return {"cost": amount(self._usage["cost"])}


def _is_search(item: Mapping[str, Any]) -> bool:
    """A call of the web search may also open a page it found, which is not billed."""
    action = item.get("action")
    return not isinstance(action, dict) or action.get("type") in (None, "search")
