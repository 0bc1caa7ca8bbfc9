"""What every meter answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from msgspec import Struct
from msgspec import field as member

Usage = Mapping[str, int | Decimal]

# The flags that say that a call failed, whatever its HTTP status.
FAILED = frozenset(("stream_error", "tool_error", "rpc_error"))


class Metered(Struct, frozen=True):
    """What an answer said it used. ``usage`` None: it did not say (the call is charged at its reservation).

    Keys are genai-prices' vocabulary (``input_tokens`` includes cached ones, ``output_tokens`` includes reasoning) and
    the rule's own units. ``partial``: the answer broke off before its last word on usage, which is at least this.
    ``flags`` tell an operator what was odd: ``usage_zero``, ``usage_clamped``, ``stream_error``, ``event_skipped``
    (one was too large to be read), ``unreadable``, ``binary_stream`` (of Bedrock's), ``other_model`` (one that had a
    part in it may have another price), ``tool_unpriced`` (a hosted tool ran whose fee is not in the charge), ``byok``
    (the provider bills the caller's own key, beside the charge). ``terms`` are those of the price that served, by
    genai-prices' words (``{"service_tier": "priority"}``). ``seen`` are the output tokens that the text which came is
    taken for, at most: what counts where the answer broke off.
    """

    usage: Usage | None = None
    model: str | None = None
    partial: bool = False
    flags: tuple[str, ...] = ()
    terms: Mapping[str, str] = member(default_factory=dict)
    seen: int = 0


class UsageReader(Protocol):
    """Reads a copy of an answer as it passes; never raises on what an upstream sends."""

    def feed(self, chunk: bytes) -> None:
        """The next raw body bytes (content-encoded, if the answer is), split anywhere."""

    def finish(self) -> Metered:
        """What was read, at the end or where the answer broke off."""


class Facts(NamedTuple):
    """What is known of an exchange beside its answer's body: the ``path`` as sent, the ``request``'s parsed JSON (or
    the fields of its form), the answer's ``headers``.
    """

    path: str = ""
    request: Any = None
    headers: Sequence[tuple[bytes, bytes]] = ()


class Tally:
    """One wire format's account of one answer: its whole JSON, or each event of its stream that may carry usage.

    ``keys`` are the JSON keys that usage stands under, ``model`` is the one that served, ``terms`` and ``flags`` as
    `Metered` has them. ``deep``: words by which an answer says what costs elsewhere than at its end, so that its end
    is not enough. ``exact``: it reads fractions (a cost in USD), which have to be Decimal. ``generates``: its
    streams bring what a model says, by the token. ``shape``: what of a whole answer `read` looks at, None: any of it.
    """

    keys: tuple[str, ...] = ("usage",)
    deep: tuple[str, ...] = ()
    exact: bool = False
    generates: bool = True
    shape: type[Struct] | None = None

    def __init__(self, facts: Facts = Facts()) -> None:  # noqa: B008  # immutable
        self.facts = facts
        self.model: str | None = None
        self.terms: dict[str, str] = {}
        self.flags: list[str] = []

    def read(self, document: Mapping[str, Any]) -> bool:
        """Whether this document says the answer's final usage."""
        raise NotImplementedError

    def usage(self) -> Usage | None:
        """By the vocabulary; None where no document said any. Raises Unreadable."""
        raise NotImplementedError

    def implied(self) -> Usage | None:
        """What an answer that succeeded without saying its usage is known to have used, by its request alone (empty:
        nothing that is billed); None where that is not known.
        """
        return None
