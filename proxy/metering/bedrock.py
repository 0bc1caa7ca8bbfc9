"""Amazon Bedrock's wire format: Converse, and InvokeModel, whose answer is the model's own.

Streams are binary (`application/vnd.amazon.eventstream`) and not metered yet: they are charged at the reservation,
flagged ``binary_stream``. No answer names its model as it is priced: that stands in the path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.metering.anthropic import AnthropicTally
from proxy.metering.base import Facts, Tally, Usage
from proxy.metering.openai import OpenAITally
from proxy.metering.quantities import Unreadable, amount, count

# The key by which a model's own usage is told, and who reads it.
_OWN: Mapping[str, type[Tally]] = {"input_tokens": AnthropicTally, "prompt_tokens": OpenAITally}
_HEADERS = {
    "inputTokens": b"x-amzn-bedrock-input-token-count",
    "outputTokens": b"x-amzn-bedrock-output-token-count",
    "cacheReadInputTokens": b"x-amzn-bedrock-cache-read-input-token-count",
    "cacheWriteInputTokens": b"x-amzn-bedrock-cache-write-input-token-count",
}
_TTLS = {"5m": "cache_write_5m_tokens", "1h": "cache_write_1h_tokens"}


class BedrockTally(Tally):
    """An answer is one document: what its body says of usage, else what its headers say."""

    keys = ("usage", "inputTextTokenCount", "prompt_token_count")

    def __init__(self, facts: Facts = Facts()) -> None:  # noqa: B008  # immutable
        super().__init__(facts)
        self._document: Mapping[str, Any] = {}
        if "vnd.amazon.eventstream" in (self._header(b"content-type") or ""):
            self.flags.append("binary_stream")

    def read(self, document: Mapping[str, Any]) -> bool:
        self._document = document
        served = document.get("serviceTier")
        tier = served.get("type") if isinstance(served, dict) else self._header(b"x-amzn-bedrock-service-tier")
        if isinstance(tier, str):
            self.terms = {"service_tier": tier}
        return True

    def usage(self) -> Usage | None:
        document, usage = self._document, self._document.get("usage")
        if "inputTokens" in document and self.facts.path.endswith("/count-tokens"):
            return {}
        if isinstance(usage, dict):
            if "inputTokens" in usage:
                return _quantities(usage)
            for key, made in _OWN.items():
                if key in usage:
                    own = made()
                    own.read(document)
                    return own.usage()
        if "inputTextTokenCount" in document:  # Titan
            results = document.get("results")
            spoken = [count(result, "tokenCount") or 0 for result in results] if isinstance(results, list) else []
            return _quantities({"inputTokens": document["inputTextTokenCount"], "outputTokens": sum(spoken)})
        if "prompt_token_count" in document:  # Llama
            words = {"inputTokens": "prompt_token_count", "outputTokens": "generation_token_count"}
            return _quantities({key: document.get(word) for key, word in words.items()})
        return self._by_headers()

    def _by_headers(self) -> Usage | None:
        """For the models whose bodies say nothing (Cohere's and Nova's embeddings, Mistral's text)."""
        stated = {key: self._header(name) for key, name in _HEADERS.items()}
        if not self._document or stated["inputTokens"] is None:
            return None
        return _quantities({key: amount(text) for key, text in stated.items() if text is not None})

    def _header(self, name: bytes) -> str | None:
        return next((value.decode("latin-1").strip() for key, value in self.facts.headers if key.lower() == name), None)


def _quantities(stated: Mapping[str, Any]) -> Usage:
    """By Converse's words. Its `inputTokens` leaves out what is read from and written to the cache; ours includes it:
    <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html>. Raises Unreadable.
    """
    plain = count(stated, "inputTokens")
    if plain is None:
        raise Unreadable
    read, written = (
        count(stated, f"cache{way}InputTokens") or count(stated, f"cache{way}InputTokenCount") or 0  # Nova's own word
        for way in ("Read", "Write")
    )
    lasting = dict.fromkeys(_TTLS.values(), 0)
    details = stated.get("cacheDetails")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and (kind := _TTLS.get(str(detail.get("ttl")))):
            lasting[kind] += count(detail, "inputTokens") or 0
    written = max(written, sum(lasting.values()))
    found = {"input_tokens": plain + read + written, "output_tokens": count(stated, "outputTokens") or 0}
    parts = {"cache_read_tokens": read, "cache_write_tokens": written} | lasting
    return found | {kind: quantity for kind, quantity in parts.items() if quantity}
