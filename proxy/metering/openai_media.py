"""What OpenAI's format says of sounds and pictures; and what an answer is known to have used that doesn't say it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from proxy.metering.base import Facts, Usage
from proxy.metering.quantities import amount

_TRANSCRIPTS: Final = ("/audio/transcriptions", "/audio/translations")

# Models of OpenAI's and Groq's that speak at a price for the text's characters (genai-prices' `input_mchars`); what
# others say is billed by tokens, of which a binary answer tells nothing.
_BY_CHARACTERS: Final = ("tts-1", "canopylabs/orpheus")
# "All OpenAI moderation models and endpoints are free of charge" (genai-prices); the default is one of these.
_FREE_MODERATION: Final = ("omni-moderation", "text-moderation")


def is_audio(path: str) -> bool:
    return "/audio/" in path


def is_image(path: str) -> bool:
    return "/images/" in path


def is_transcript(path: str) -> bool:
    return path.endswith(_TRANSCRIPTS)


def listened(seconds: Any, seconds_min: int) -> dict[str, int | Decimal]:
    """The usage of a model that is paid by the length of what it hears. Raises Unreadable."""
    return {"input_audio_seconds": max(amount(seconds), seconds_min)}


def implied_usage(facts: Facts) -> Usage | None:
    """What an answer that succeeded used, by its request alone; empty: nothing that is billed; None: not known."""
    if facts.path.endswith("/responses/input_tokens"):
        return {}
    request = facts.request if isinstance(facts.request, dict) else {}
    model, text = request.get("model"), request.get("input")
    if facts.path.endswith("/moderations"):
        free = model is None or (isinstance(model, str) and model.startswith(_FREE_MODERATION))
        return {} if free else None
    if facts.path.endswith("/audio/speech") and isinstance(model, str) and model.startswith(_BY_CHARACTERS):
        return {"input_characters": len(text)} if isinstance(text, str) else None
    return None
