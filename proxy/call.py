"""One request, and the run of the app that answers it: the ASGI side of a connection."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import traceback
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from starlette.types import Message, Scope

from proxy.answering import head_lines, refusal_headers
from proxy.framing import Refusal

if TYPE_CHECKING:
    from proxy.protocol import Connection

logger = logging.getLogger("agent_ledger.server")

CLIENT = "agent_ledger"  # the scope's extension: the request's `Client`

_SHUTTING_DOWN = Refusal(503, "shutting_down", "the server is shutting down")
_INTERNAL = Refusal(500, "internal_error", "the server failed on this request")
_GONE: Message = {"type": "http.disconnect"}


class Client(Protocol):
    """What an app may know of its client beside ASGI, as ``scope["extensions"]["agent_ledger"]``."""

    @property
    def whole_body(self) -> bytes | None:
        """The request's body where all of it is there and none has been received yet; `receive` gives it all the
        same.
        """

    @property
    def written_at(self) -> float:
        """When the answer's first byte was written, in seconds of `time.monotonic`; 0: none is yet."""

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        """Have it called, once and soon, when `receive` would tell of a disconnect after the request's whole body;
        None: no longer. It is for a request that is whole, and ends with its answer.
        """


class Call:
    """Whatever the app raises becomes a JSON error or, once the answer has begun, an abort.

    To break an answer off, an app raises ConnectionAbortedError: that ends in the connection closing before the
    promised end (the Content-Length, or the last chunk); an HTTP/1.0 answer without a length promises none, and is
    reset.

    ``whole``: all of the request is there. ``begun``: the app has said its answer's head; ``complete``: all of it.
    ``disconnected``: nothing can be sent any more.
    """

    __slots__ = (
        "_bodiless",
        "_callback",
        "_chunked",
        "_connection",
        "_head",
        "_left",
        "_news",
        "_pieces",
        "_received",
        "_scope",
        "awaits_continue",
        "begun",
        "complete",
        "disconnected",
        "held",
        "keep_alive",
        "old",
        "task",
        "whole",
        "written_at",
    )

    task: asyncio.Task[None]

    def __init__(self, connection: Connection, scope: Scope, *, keep_alive: bool, awaits_continue: bool) -> None:
        self._connection = connection
        self._scope: Scope | None = scope
        self.keep_alive = keep_alive
        self.awaits_continue = awaits_continue
        self.old = scope["http_version"] == "1.0"
        self._bodiless = scope["method"] == "HEAD"
        self.whole = self.begun = self.complete = self.disconnected = False
        self.held = 0  # bytes that have arrived and are not received yet
        self.written_at = 0.0
        self._pieces: list[bytes] = []
        self._received = False  # all of the body
        self._news: asyncio.Event | None = None
        self._callback: Callable[[], None] | None = None
        self._head = b""  # not sent yet
        self._chunked = False
        self._left = -1  # bytes until the stated length; -1: none is
        scope["extensions"] = {CLIENT: self}

    async def run(self) -> None:
        scope, self._scope = self._scope, None  # it holds us: only a collection would free the two
        assert scope is not None, "run twice"
        serving = self._connection.serving
        try:
            await serving.app(scope, self.receive, self.send)
            if not (self.complete or self.disconnected):
                # A client that sends no more may have left: an application that ends for it (a page's events) may.
                if not self._connection.half_closed:
                    logger.error("the application ended, and its answer had not")
                    serving.load.refused[_INTERNAL.code] += 1
                await self._fail(_INTERNAL)
        except ConnectionAbortedError:
            self._cut()
        except asyncio.CancelledError:
            await self._fail(_SHUTTING_DOWN)
        except Exception as error:
            # The frames, but not the message: an exception may quote a header or a body.
            frames = "".join(traceback.format_tb(error.__traceback__))
            logger.error("%s in the application\n%s", type(error).__name__, frames)
            serving.load.refused[_INTERNAL.code] += 1
            await self._fail(_INTERNAL)
        finally:
            serving.tasks.discard(self.task)

    # -- the request ---------------------------------------------------------------------------------------------
    def arrived(self, body: bytes) -> None:
        self._pieces.append(body)
        self.held += len(body)
        self.tell()

    @property
    def whole_body(self) -> bytes | None:
        if not self.whole or self._received:
            return None
        if len(self._pieces) != 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0]

    async def receive(self) -> Message:
        connection = self._connection
        if self.awaits_continue and not connection.transport.is_closing():
            self.awaits_continue = False
            connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self.disconnected or self.complete):
            if connection.read_paused:
                connection.resume_reading()
            if self._received:
                if connection.half_closed:
                    break
            elif self._pieces or self.whole:
                body = b"".join(self._pieces)
                self._pieces, self.held, self._received = [], 0, self.whole
                return {"type": "http.request", "body": body, "more_body": not self.whole}
            if self._news is None:
                self._news = asyncio.Event()
            self._news.clear()
            await self._news.wait()
        return _GONE

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        self._callback = callback
        if callback is not None:
            if self.disconnected or self._connection.half_closed:
                self.tell_gone()
            elif self._connection.read_paused and self.whole:  # behind it, the next request waits
                self._connection.resume_reading()

    def tell(self) -> None:
        """Whoever waits in `receive` looks again."""
        if self._news is not None:
            self._news.set()

    def tell_gone(self) -> None:
        """The client has left, or at least sends no more."""
        self.tell()
        if self._callback is not None:
            self._connection.loop.call_soon(self._call_back)

    def _call_back(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None and not self.complete:
            callback()

    def disconnect(self) -> None:
        """It has left: what is sent from now on goes nowhere."""
        if not self.disconnected:
            self.disconnected = True
            self.tell_gone()

    # -- the answer ----------------------------------------------------------------------------------------------
    async def send(self, message: Message) -> None:
        if (drained := self._connection.drained) is not None and not self.disconnected:
            await drained.wait()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.body" and self.begun and not self.complete:
            self._pass_on(message.get("body", b""), message.get("more_body", False))
        elif kind == "http.response.start" and not self.begun:
            self._begin(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"{kind} can't be sent here")

    def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The head waits for the body's first piece, so that both are one write; but for this turn of the loop only."""
        lines, length, closes = head_lines(status, headers)
        if closes:
            self.keep_alive = False
        elif not (self.keep_alive and self.whole):  # what is still to come of the request is not waited for
            self.keep_alive = False
            lines += b"connection: close\r\n"
        if status in (204, 304):
            self._bodiless = True
        elif length is not None:
            self._left = 0 if self._bodiless else length
        elif not (self.old or self._bodiless):  # HTTP/1.0 knows no chunks: such an answer ends with the connection
            self._chunked = True
            lines += b"transfer-encoding: chunked\r\n"
        self.begun, self.awaits_continue = True, False
        self._head = lines + b"\r\n"
        self._connection.loop.call_soon(self._send_head)

    def _send_head(self) -> None:
        if self._head and not self.disconnected:
            self._connection.transport.write(self._head)
            self._head = b""
            self.written_at = monotonic()

    def _pass_on(self, body: bytes, more: bool) -> None:
        if 0 <= self._left < len(body) and not self._bodiless:
            raise RuntimeError("the answer is longer than its Content-Length")
        head, self._head = self._head, b""
        if self._bodiless:
            data = head
        elif self._chunked:
            pieces = (head, b"%x\r\n" % len(body), body, b"\r\n") if body else (head,)
            data = b"".join(pieces if more else (*pieces, b"0\r\n\r\n"))
        else:
            if self._left >= 0:
                self._left -= len(body)
            data = head + body if head else body
        if data:
            self._connection.transport.write(data)
            if head:
                self.written_at = monotonic()
        if not more:
            if self._left > 0:
                raise RuntimeError("the answer is shorter than its Content-Length")
            self.complete = True
            self.tell()
            self._connection.answered(self)

    async def _fail(self, refusal: Refusal) -> None:
        if self.begun and not self.complete:
            self._cut()
        elif not self.begun:
            await self.send(
                {"type": "http.response.start", "status": refusal.status, "headers": refusal_headers(refusal)}
            )
            await self.send({"type": "http.response.body", "body": refusal.body()})

    def _cut(self) -> None:
        if self.disconnected:
            return
        self._send_head()
        self.disconnected = True
        transport = self._connection.transport
        if self.old:
            reset = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            transport.abort()
        else:
            transport.close()
