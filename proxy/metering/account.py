"""What one answer said it used: by its wire format, and by its rule's own sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from proxy.metering.base import Metered, Tally, Usage
from proxy.metering.quantities import QUANTITY_MAX, Unreadable
from proxy.metering.sources import Sources

NO_SOURCES: Final = Sources((), (), None)  # it has nothing to collect, so that all may share it


def _saw_nothing() -> int:
    return 0


class Account:
    """``promised``: an answer to this path has usage in its wire format, or what it used is not known. ``failed``: its
    status says that there may be none.
    """

    __slots__ = (
        "_failed", "_final", "_flags", "_required", "broken", "exact", "keys", "sources", "tally", "unreadable",
    )  # fmt: skip

    def __init__(self, tally: Tally | None, sources: Sources, *, promised: bool, failed: bool) -> None:
        self.tally = tally
        self.sources = sources
        self.keys = (tally.keys if tally else ()) + sources.keys
        self.exact = bool(sources.keys) or (tally is not None and tally.exact)
        self.unreadable = False
        self.broken = False  # no more can be read, though there was more
        self._required = tally is not None and promised
        self._failed = failed
        self._final = False
        self._flags: list[str] = []

    def read(self, document: Any, *, whole: bool = False) -> bool:
        """Whether the document told the answer's final usage. ``whole``: no other will follow."""
        if not isinstance(document, dict):
            return False
        self.sources.read(document)
        told = self.tally is not None and self.tally.read(document)
        self._final = self._final or told or whole
        return told

    def stream_error(self) -> None:
        self._final = False
        if not self._failed:
            self.flag("stream_error")

    def flag(self, name: str) -> None:
        if name not in self._flags:
            self._flags.append(name)

    def metered(self, seen: Callable[[], int] = _saw_nothing) -> Metered:
        """``seen`` tells the tokens that came of a stream: asked only where it didn't come to its end."""
        usage, final = self._usage()
        if usage:
            most = max(usage.values())
            if most > QUANTITY_MAX:
                self.flag("usage_clamped")
                usage = {unit: min(quantity, QUANTITY_MAX) for unit, quantity in usage.items()}
            elif not most:
                self.flag("usage_zero")
        elif usage is None and self.unreadable and not self._failed:
            self.flag("unreadable")
        partial = usage is not None and (self.broken or not final)
        tokens = seen() if usage is None or partial else 0
        tally = self.tally
        if tally is None:
            return Metered(usage, None, partial, tuple(self._flags), seen=tokens)
        return Metered(usage, tally.model, partial, (*self._flags, *tally.flags), tally.terms, tokens)

    def _usage(self) -> tuple[Usage | None, bool]:
        """What all told together (None: one that has to didn't), and whether that is the last word."""
        try:
            told = self.tally.usage() if self.tally else None
            own = self.sources.usage()
        except Unreadable:
            self.unreadable = True
            return None, False
        if own is None:
            return None, False
        if told is not None:
            return {**told, **own} if own else told, self._final
        implied = self.tally.implied() if self.tally and not self._failed and not self._flags else None
        if implied is not None:
            return {**implied, **own}, True
        # What the request alone says is not what a failed answer used.
        known = own and not self._required and (self.sources.said_by_answer or not self._failed)
        return (own, True) if known else (None, False)
