"""Whether a call's client is still there, and how long the call goes on without it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from proxy.call import Client
from proxy.load import Load


@dataclass(slots=True)
class Drains:
    """How far an upstream is read for its usage once the client has gone, and how many such reads of one there are."""

    seconds_max: float = 30.0
    bytes_max: int = 16 * 1024 * 1024
    at_once_max: int = 64
    open_to: Counter[str] = field(default_factory=Counter)  # by upstream: a slow one takes no other's

    @property
    def open(self) -> int:
        return self.open_to.total()


class Attendance:
    """Whether the client is still there. From the moment it leaves, the rest of its call is bounded in time.

    Leaving the block raises TimeoutError where that bound cut it short.
    """

    __slots__ = ("_bound", "_client", "_drains", "_load", "_upstream", "_watched", "drained", "gone")

    def __init__(self, client: Client, drains: Drains, upstream: str, load: Load) -> None:
        self.gone = False
        self.drained = True  # whether the rest of the call is waited for: until its answer begins, and to be metered
        self._client = client
        self._drains = drains
        self._upstream = upstream
        self._load = load
        self._bound = asyncio.timeout(None)
        self._watched = False

    @property
    def bytes_max(self) -> int:
        """How much more is read for one that has gone."""
        return self._drains.bytes_max

    @property
    def written_at(self) -> float:
        """When it was sent the answer's first byte, in seconds of `time.monotonic`; 0: none was."""
        return self._client.written_at

    def watch(self) -> None:
        """Begin, once the request is whole: until then its body is what is received."""
        if not self._watched:
            self._watched = True
            self._client.on_gone(self._leave)

    def stand(self) -> None:
        """The call has no end of its own: it ends when the sidecar is to stop, as if its time were up."""
        self._load.standing.add(self._end)
        if self._load.closing:
            self._end()

    def _end(self) -> None:
        self._bound.reschedule(0.0)

    def _leave(self) -> None:
        self.gone = True
        drains = self._drains
        may = self.drained and drains.open_to[self._upstream] < drains.at_once_max
        seconds = drains.seconds_max if may else 0.0
        drains.open_to[self._upstream] += 1
        self._bound.reschedule(asyncio.get_running_loop().time() + seconds)

    async def __aenter__(self) -> Attendance:
        await self._bound.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        self._client.on_gone(None)
        if self.gone:
            self._drains.open_to[self._upstream] -= 1
        self._load.standing.discard(self._end)
        await self._bound.__aexit__(*raised)
