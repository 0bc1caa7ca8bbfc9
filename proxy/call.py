"""One run of the app for a request: what uvicorn would let through of it, or answer otherwise, on either side.

What is used of uvicorn's `RequestResponseCycle` beyond its documentation is named in `proxy.protocol`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from proxy.framing import Refusal

if TYPE_CHECKING:
    from proxy import protocol as server_protocol

logger = logging.getLogger("agent_ledger.server")

_SHUTTING_DOWN = Refusal(503, "shutting_down", "the server is shutting down")
_INTERNAL = Refusal(500, "internal_error", "the server failed on this request")
_GONE: Message = {"type": "http.disconnect"}


CLIENT = "agent_ledger"  # the scope's extension: the request's `Client`


class Client(Protocol):
    """What the gate may know of a request's client beside ASGI.

    ``whole_body`` is the request's body where all of it has arrived; asking for it is receiving it.
    """

    @property
    def whole_body(self) -> bytes | None: ...

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        """Have it called, once and soon, when the client has left, be that already; None: no longer."""


class Call:
    """One run of the app: whatever it raises becomes a JSON error or, once the answer has begun, an abort.

    To break an answer off, an app raises ConnectionAbortedError. Under uvicorn that must end in the connection closing
    before the promised end (the Content-Length, or the last chunk); an HTTP/1.0 answer without a length promises none,
    and is reset.
    """

    __slots__ = ("app", "cycle", "protocol", "receive", "watcher")

    cycle: RequestResponseCycle

    def __init__(self, app: ASGIApp, protocol: server_protocol.Protocol) -> None:
        self.app = app
        self.protocol = protocol
        self.watcher: asyncio.Task[None] | None = None
        self.receive: Receive

    whole_body = None

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        if callback is None and self.watcher is not None:
            self.watcher.cancel()
        elif callback is not None and self.watcher is None:
            self.watcher = asyncio.get_running_loop().create_task(self._watch(callback))

    async def _watch(self, callback: Callable[[], None]) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        callback()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.protocol.running = self.cycle
        if scope["http_version"] == "1.0":
            send = _unchunked(self.cycle, send)
        if self.protocol.stage == "body":
            send = self.closing(send)
        try:
            self.receive = receive = self.attending(receive)
            await self.app({**scope, "extensions": {CLIENT: self}}, receive, send)
        except ConnectionAbortedError:
            self.cut()
        except asyncio.CancelledError:
            await self.fail(_SHUTTING_DOWN, send)
        except Exception as error:
            # The frames, but not the message: an exception may quote a header or a body.
            frames = "".join(traceback.format_tb(error.__traceback__))
            logger.error("%s in the application\n%s", type(error).__name__, frames)
            await self.fail(_INTERNAL, send)

    def attending(self, receive: Receive) -> Receive:
        """A client that sends no more may have left: the app is told so, and what it answers is sent all the same."""
        whole = False

        async def wrapped() -> Message:
            nonlocal whole
            if not (whole and self.protocol.half_closed):
                message = await receive()
            if whole and self.protocol.half_closed:
                return _GONE
            whole = not message.get("more_body", False)
            return message

        return wrapped

    def closing(self, send: Send) -> Send:
        """Tells a client whose body is not all there when its answer begins that this connection ends with it."""

        async def wrapped(message: Message) -> None:
            if message["type"] != "http.response.start" or self.protocol.stage != "body":
                await send(message)
                return
            await send({**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]})
            self.cycle.keep_alive = True  # uvicorn would close at once, and reset an answer on its way: we linger

        return wrapped

    async def fail(self, refusal: Refusal, send: Send) -> None:
        if self.cycle.response_complete or self.cycle.disconnected:
            return
        if self.cycle.response_started:
            self.cut()
            return
        await send({"type": "http.response.start", "status": refusal.status, "headers": refusal_headers(refusal)})
        await send({"type": "http.response.body", "body": refusal.body()})

    def cut(self) -> None:
        if self.cycle.disconnected:
            return
        self.cycle.disconnected = True  # uvicorn then neither writes nor complains
        transport = self.protocol.transport
        if self.cycle.scope["http_version"] == "1.0":
            reset = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            transport.abort()
        else:
            transport.close()


def _unchunked(cycle: RequestResponseCycle, send: Send) -> Send:
    """HTTP/1.0 knows no chunks, which uvicorn would send it: an answer without a length ends with the connection."""
    framed = True

    async def wrapped(message: Message) -> None:
        nonlocal framed
        if message["type"] == "http.response.start":
            framed = any(name.lower() == b"content-length" for name, _ in message["headers"])
            if not framed:
                cycle.chunked_encoding = False
        elif not framed:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    return wrapped


def refusal_headers(refusal: Refusal) -> list[tuple[bytes, bytes]]:
    length = b"%d" % len(refusal.body())
    headers = [(b"content-type", b"application/json"), (b"content-length", length), (b"connection", b"close")]
    if refusal.status == 405:  # a CONNECT or TRACE, on any path
        headers.append((b"allow", b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"))
    return [*headers, (b"retry-after", b"1")] if refusal.status == 503 else headers
