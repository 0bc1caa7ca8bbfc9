"""The connections of one upstream: those in use, and those that wait for the next request."""

from __future__ import annotations

import asyncio

import httpx

from proxy.transport.connection import Connection


class Pool:
    """At most ``idle_max`` wait, for ``idle_s`` at most. The one used last is used next, so that the others can go.

    Taking and giving cost the same however many there are.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, idle_max: int, idle_s: float) -> None:
        self._loop = loop
        self._idle_max = idle_max
        self._idle_s = idle_s
        self._open: set[Connection] = set()
        self._idle: dict[Connection, float] = {}  # since when: the oldest first
        self._clock: asyncio.TimerHandle | None = None
        self.closed = False

    def take(self) -> Connection | None:
        while self._idle:
            connection, since = self._idle.popitem()
            if connection.usable and self._loop.time() < since + self._idle_s:
                return connection
            connection.close()
        return None

    def give(self, connection: Connection) -> None:
        self._idle[connection] = self._loop.time()
        if len(self._idle) > self._idle_max:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            oldest.close()
        if self._clock is None:
            self._clock = self._loop.call_later(self._idle_s, self._look)

    def close(self) -> None:
        """Close all there are. Who makes one meanwhile finds it ``closed``."""
        self.closed = True
        self._idle.clear()
        if self._clock is not None:
            self._clock.cancel()
        for connection in list(self._open):
            connection.fail(httpx.ReadError("the connections to this upstream were closed"))

    def made(self, connection: Connection) -> None:
        self._open.add(connection)

    def lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        self.drop(connection)

    def drop(self, connection: Connection) -> None:
        """It is of no more use, should it be idle."""
        self._idle.pop(connection, None)

    def _look(self) -> None:
        """One clock for all: it goes off when the oldest has been idle for long enough."""
        self._clock = None
        while self._idle:
            oldest, since = next(iter(self._idle.items()))
            due = since + self._idle_s
            if due > self._loop.time():
                self._clock = self._loop.call_at(due, self._look)
                return
            del self._idle[oldest]
            oldest.close()
