"""What speech and pictures cost that a request sends as files, or asks for: no text tells their tokens."""

from __future__ import annotations

from typing import Any, Final

from policy.ceilings import positive
from policy.media import SOUND_BYTES_PER_SECOND, SOUND_BYTES_PER_TOKEN

# OpenAI's table of a generated picture's tokens, square and not, by quality; the dearest where it isn't stated.
_PICTURES: Final = {"low": (272, 408), "medium": (1056, 1584), "high": (4160, 6240)}
_SQUARE: Final = "1024x1024"
_PARTIAL_TOKENS: Final = 100  # for each partial picture of a stream
# A picture to edit is up to 129 + 6,240 tokens at high fidelity; how many a form holds is not told: one a megabyte.
_EDITED_TOKENS: Final = 6_400
_EDITED_BYTES: Final = 1 << 20
_SPEECH_TOKENS_PER_BYTE: Final = 2  # 21 tokens a second; a slow reader has ten letters, or four Chinese characters
_RANKED_MAX: Final = 100  # documents in one search that is billed
# What a document to read, and a recording to hear, is taken for that is only named by its address.
_UNSEEN_PAGES: Final = 100
_UNSEEN_SECONDS: Final = 3_600


def units(path: str, body: dict[str, Any], body_bytes: int, file_bytes: int) -> dict[str, int]:
    """Quantities that aren't tokens, by what the request holds: characters to speak, seconds to hear, documents, pages.

    ``body`` is the parsed JSON or a form's fields; ``body_bytes`` and ``file_bytes`` as in `RequestFacts`.
    """
    spoken = body.get("input")
    found = {"input_characters": len(spoken) if isinstance(spoken, str) else body_bytes}
    if "/audio/" in path:
        seconds = -(-file_bytes // SOUND_BYTES_PER_SECOND) or _UNSEEN_SECONDS
        found |= {"input_audio_seconds": seconds, "audio_seconds": seconds}
    documents = body.get("documents")
    if path.endswith("/rerank") and isinstance(documents, list):
        found["rerank_searches"] = -(-len(documents) // _RANKED_MAX)
    if path.endswith("/ocr"):
        found |= dict.fromkeys(("input_document_pages", "input_annotated_document_pages"), _pages(body))
    return found


def _pages(body: dict[str, Any]) -> int:
    """How many pages Mistral's OCR is asked to read."""
    named, document = body.get("pages"), body.get("document")
    if isinstance(named, list) and named:
        return len(named)
    return 1 if isinstance(document, dict) and document.get("type") == "image_url" else _UNSEEN_PAGES


def sound_tokens(path: str, file_bytes: int) -> int:
    """Of a form's file that is heard, as of sound in a message."""
    return -(-file_bytes // SOUND_BYTES_PER_TOKEN) if "/audio/" in path else 0


def image_tokens(path: str, file_bytes: int) -> int:
    """Of a form's files that are pictures."""
    return -(-file_bytes // _EDITED_BYTES) * _EDITED_TOKENS if "/images/" in path else 0


def output_tokens(path: str, body: dict[str, Any]) -> int | None:
    """Of one picture or speech that is asked for; None of anything else."""
    if path.endswith(("/images/generations", "/images/edits")):
        quality, size = body.get("quality"), body.get("size")
        square, other = _PICTURES.get(quality if isinstance(quality, str) else "", _PICTURES["high"])
        partial = positive(body.get("partial_images")) or 0
        return (square if size == _SQUARE else other) + partial * _PARTIAL_TOKENS
    if path.endswith("/audio/speech") and isinstance(spoken := body.get("input"), str):
        return max(1, len(spoken.encode("utf-8", "surrogatepass")) * _SPEECH_TOKENS_PER_BYTE)
    return None
