"""Printing what is recorded as it comes: each action once, in its order, also across a restart of the sidecar."""

from __future__ import annotations

import io
import select
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Raw

from proxy.terminal.client import NotAnswering, Refusal, row_of
from proxy.terminal.output import tell

NOW = "now"  # the place behind all that is recorded
POLL_S = 0.5
_WAIT_S = 1.0  # while nobody answers


class Feed(Protocol):
    def latest(self, limit: int) -> list[Raw]: ...

    def after(self, place: str) -> tuple[list[Raw], str, bool]: ...


def follow(feed: Feed, limit: int, show: Callable[[Sequence[Raw]], None]) -> int:
    """The latest ``limit``, and all that are recorded from then on. Ends by an exception alone: KeyboardInterrupt,
    BrokenPipeError, TerminalError.

    The ledger's own place is asked for first: so what is recorded while the latest are read is among those that follow,
    and left out of them if it was shown.
    """
    _, place, _ = feed.after(NOW)
    latest = feed.latest(limit)
    seen = {str(row_of(raw)["id"]) for raw in latest}
    show(latest)
    sys.stdout.flush()
    silent = False
    while True:
        try:
            raws, place, more = feed.after(place)
        except NotAnswering as error:
            if not silent:
                tell(f"{error}; waiting for it")
            silent = True
            _wait(_WAIT_S)
            continue
        except Refusal as refusal:
            if refusal.field != "after":
                raise
            tell("this ledger has not come to where it was followed to (another one, or restored): going on from now")
            raws, place, more = [], NOW, True
        if silent:
            tell("it answers again")
            silent = False
        show([raw for raw in raws if not seen or row_of(raw)["id"] not in seen])
        sys.stdout.flush()
        if not more:
            seen.clear()
            _wait(POLL_S)


def _wait(seconds: float) -> None:
    """Raises BrokenPipeError as soon as nobody reads stdout any more."""
    try:
        reader = select.poll()
        reader.register(sys.stdout.fileno(), 0)  # errors are told of all the same
    except (OSError, io.UnsupportedOperation):
        time.sleep(seconds)
        return
    if reader.poll(seconds * 1000):
        raise BrokenPipeError
