"""One answer: what of it has come, and whoever waits for more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx

from proxy.transport.raw import Line

if TYPE_CHECKING:
    from proxy.transport.connection import Connection

# How much of an answer is held while its reader lags: beyond it the upstream is held back.
HELD_MAX = 65536


class Answer(httpx.AsyncByteStream):
    """To be read: `begun`, then ``async for``, which gives all that has come at once, and then `aclose`.

    Its connection feeds it, and lets go of it when it has ended: whole answers wait here for their reader while the
    connection serves the next.
    """

    __slots__ = ("_connection", "_error", "_loop", "_pieces", "_waiter", "headers", "held", "status")

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0  # until the head is there
        self.headers: list[Line] = []
        self.held = 0  # bytes
        self._loop = loop
        self._pieces: list[bytes] = []
        self._error: BaseException | None = None
        self._connection: Connection | None = connection  # until it ends
        self._waiter: asyncio.Future[None] | None = loop.create_future()

    # -- for the connection ----------------------------------------------------------------------------------------

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for more: where nobody does, silence is not the upstream's."""
        return self._waiter is not None

    def begin(self, status: int, headers: list[Line]) -> None:
        self.status = status
        self.headers = headers
        self.wake()

    def add(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.held += len(piece)

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def end(self, error: BaseException | None = None) -> None:
        """It is whole, or breaks off with that error, behind what has come of it."""
        self._connection = None
        self._error = error
        self.wake()

    # -- for its reader --------------------------------------------------------------------------------------------

    async def begun(self) -> None:
        """Wait for the head: ``status`` and ``headers`` are there. Raises what broke it off before."""
        assert self._waiter is not None
        try:
            await self._waiter
        except asyncio.CancelledError:
            await self.aclose()
            raise
        finally:
            self._waiter = None
        if not self.status:
            assert self._error is not None
            raise self._error

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self._connection is None:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._waiter = self._loop.create_future()
            self._connection.expect()
            try:
                await self._waiter
            finally:
                self._waiter = None
        pieces = self._pieces
        self._pieces = []
        self.held = 0
        if self._connection is not None:
            self._connection.go_on()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def aclose(self) -> None:
        """Nobody reads on. A connection whose answer has not come to its end is of no more use."""
        if self._connection is not None:
            self._connection.fail(httpx.ReadError("the answer was given up"))
