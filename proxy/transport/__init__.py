"""The upstream's end: our own HTTP/1.1 client, behind httpx's transport interface.

A bare call costs a third of what it costs through an adapter over aiohttp, and a twentieth of httpx over httpcore. Each
has a connection of its own for as long as its answer comes, and waits for no other's.

    Transport   one upstream's: a request in, its answer out
    Pool        its connections, those in use and those idle
    dial        a new one: look-up, addresses, TLS
    Connection  one request at a time: writing, parsing, the clock
    Answer      what has come of one answer, for its reader
    upload      a body that is sent as it comes
"""

from __future__ import annotations

import asyncio
import ssl

import httpx

from proxy.transport.connection import Connection
from proxy.transport.dialing import Origin, dial
from proxy.transport.pool import Pool
from proxy.transport.raw import Line, Raw
from proxy.transport.upload import upload

__all__ = ["Raw", "Transport"]

_IDLE_MAX = 256
_FOREVER = float("inf")
_VISIBLE = bytes(range(0x21, 0x7F))


class Transport(httpx.AsyncBaseTransport):
    """All requests go to ``url``'s origin, whatever their own urls say. ``tls`` is for https.

    Headers pass as they are, and the body is framed as they say; nothing is added, followed, decoded or retried. Raises
    httpx's errors, httpx.ConnectError and httpx.ConnectTimeout only where nothing was sent, and what a streamed
    body raises.
    """

    def __init__(self, url: httpx.URL, tls: ssl.SSLContext, *, idle_s: float, idle_max: int = _IDLE_MAX) -> None:
        self._scheme = url.scheme
        secure = url.scheme == "https"
        self._origin = Origin(url.raw_host.decode(), url.port or (443 if secure else 80), tls if secure else None)
        self._pool = Pool(asyncio.get_running_loop(), idle_max, idle_s)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer, once its head is there. Extensions: ``target``, and ``timeout`` with connect, read and write, in
        seconds, each optional: ``read`` and ``write`` are of a silence, not of the whole.
        """
        headers, stream = request.headers.raw, request.stream
        timeout = request.extensions.get("timeout") or {}
        head = _head(request, headers)
        connection = self._pool.take()
        if connection is None:
            connection = await self._dial(timeout.get("connect"))
        answer = connection.ask(
            _seconds(timeout, "read"), _seconds(timeout, "write"), bodiless=request.method == "HEAD"
        )
        if isinstance(stream, httpx.ByteStream):
            connection.send(head + b"".join(stream))
            await answer.begun()
        else:
            assert isinstance(stream, httpx.AsyncByteStream)
            connection.send(head)
            await upload(connection, answer, headers, stream)
        response = httpx.Response(answer.status, stream=answer)
        response.headers = Raw(answer.headers)
        return response

    async def aclose(self) -> None:
        """Close every connection; answers still being read break off, and no request is taken any more."""
        self._pool.close()

    async def _dial(self, timeout_s: float | None) -> Connection:
        if self._scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol(f"{self._scheme} is not spoken")
        return await dial(self._origin, self._pool, timeout_s)


def _seconds(timeout: dict[str, float | None], name: str) -> float:
    seconds = timeout.get(name)
    return _FOREVER if seconds is None else seconds


def _head(request: httpx.Request, headers: list[Line]) -> bytes:
    """Raises httpx.LocalProtocolError where it would be read as anything else than these lines."""
    target = request.extensions.get("target") or request.url.raw_path
    lines = [b"%b %b HTTP/1.1" % (request.method.encode(), target), *map(b": ".join, headers), b"\r\n"]
    head = b"\r\n".join(lines)
    breaks = len(lines)
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head or target.translate(None, _VISIBLE):
        raise httpx.LocalProtocolError("a request that can't be written as HTTP/1.1")
    return head
