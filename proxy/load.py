"""What the sidecar holds for its clients at once, and how much of it there may be: connections and buffered bodies."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

CONNECTIONS_MAX: Final = 2048
CONNECTIONS_SPARE: Final = 64  # beyond that bound, and for the sidecar's own paths only: probes and operators
BUFFERED_MAX: Final = 256 * 1024 * 1024

_FILES: Final = 192  # of the ledger, its index's readers, and idle connections to upstreams


@dataclass(slots=True)
class Load:
    """``buffered`` and its bound are bytes. ``shed`` counts connections that were closed unserved; ``refused``, by
    code, what never reached the app. ``standing`` are the ends of streams that have none of their own. Once
    ``closing``, no new call is taken.
    """

    connections_max: int = CONNECTIONS_MAX
    buffered_max: int = BUFFERED_MAX
    connections: int = 0
    shed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    buffered: int = 0
    closing: bool = False
    standing: set[Callable[[], None]] = field(default_factory=set)

    def hold(self) -> Hold:
        """Memory for one request's body, given back when its block is left."""
        return Hold(self)

    def close(self) -> None:
        """Take no new call, and end what would never end by itself."""
        self.closing = True
        for end in self.standing:
            end()


@dataclass(slots=True)
class Hold:
    load: Load
    size: int = 0

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *raised: object) -> None:
        self.load.buffered -= self.size

    def take(self, size: int) -> bool:
        """So many bytes more; False, and nothing is taken, where that would pass the bound. The only one may pass it:
        what is too large for the bound would else be told to try again, in vain.
        """
        if self.load.buffered + size > self.load.buffered_max and self.load.buffered > self.size:
            return False
        self.size += size
        self.load.buffered += size
        return True


def affordable(connections_max: int) -> int:
    """How many connections, up to that, the process has files for: a call may need one to its client and one upstream.

    The soft limit of open files is raised as far as that needs and the hard one lets it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * (connections_max + CONNECTIONS_SPARE) + _FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections_max
    soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(connections_max, (soft - _FILES) // 2 - CONNECTIONS_SPARE))
