"""What every meter answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

Usage = Mapping[str, int | Decimal]


@dataclass(frozen=True, slots=True)
class Metered:
    """What an answer said it used. ``usage`` None: it did not say (the call is charged at its reservation).

    Keys are genai-prices' vocabulary (``input_tokens`` includes cached ones, ``output_tokens`` includes reasoning).
    ``flags`` tell an operator what was odd: ``usage_zero``, ``usage_clamped``, ``stream_error``, ``unreadable``.
    """

    usage: Usage | None = None
    model: str | None = None
    flags: tuple[str, ...] = field(default=())


class UsageReader(Protocol):
    """Reads a copy of an answer as it passes; never raises on what an upstream sends."""

    def feed(self, chunk: bytes) -> None:
        """The next raw body bytes (content-encoded, if the answer is), split anywhere."""

    def finish(self) -> Metered:
        """What was read, at the end or where the answer broke off."""
