"""What every meter answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

Usage = Mapping[str, int | Decimal]


@dataclass(frozen=True, slots=True)
class Metered:
    """What an answer said it used. ``usage`` None: it did not say (the call is charged at its reservation).

    Keys are genai-prices' vocabulary (``input_tokens`` includes cached ones, ``output_tokens`` includes reasoning) and
    the rule's own units. ``partial``: the answer broke off before its last word on usage, which is at least this.
    ``flags`` tell an operator what was odd: ``usage_zero``, ``usage_clamped``, ``stream_error``, ``event_skipped``
    (one was too large to be read), ``unreadable``.
    """

    usage: Usage | None = None
    model: str | None = None
    partial: bool = False
    flags: tuple[str, ...] = field(default=())


class UsageReader(Protocol):
    """Reads a copy of an answer as it passes; never raises on what an upstream sends."""

    def feed(self, chunk: bytes) -> None:
        """The next raw body bytes (content-encoded, if the answer is), split anywhere."""

    def finish(self) -> Metered:
        """What was read, at the end or where the answer broke off."""


class Tally(Protocol):
    """One wire format's account of one answer: its whole JSON, or each event of its stream that may carry usage.

    ``key`` is the JSON key that usage stands under, ``model`` the one that served.
    """

    key: str
    model: str | None

    def read(self, document: Mapping[str, Any]) -> bool:
        """Whether this document says the answer's final usage."""

    def usage(self) -> Usage | None:
        """By the vocabulary; None where no document said any. Raises Unreadable."""
