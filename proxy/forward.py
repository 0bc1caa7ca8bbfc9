"""Forward: one request to an upstream and its answer back, byte for byte, by a pool of connections for each upstream.

httpx's transport is called directly: there is no cookie jar, no redirect followed, nothing decoded, no header added.

ForwardError         no whole answer came; ``status`` and the message are fit for the client, ``of_upstream`` is False
│                    where it tells of the request alone
├── NotSent          the upstream certainly did not act: it costs nothing
└── Uncertain        it may have acted, though its answer never came whole
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import cache

import httpx

from policy.model import Upstream
from proxy.headers import Headers
from proxy.transport import Raw, Transport

# An idle connection that the upstream has closed is noticed before it is used again. One that it closes while our
# request is on its way is Uncertain, and never retried: the request may have been read. So idle connections are given
# up before common servers (Node and uvicorn: 5 s) do.
_KEEPALIVE_S = 4.0

_WRITABLE = bytes(byte for byte in range(256) if byte == 0x09 or (byte >= 0x20 and byte != 0x7F))
_FRAMING = (b"content-length", b"transfer-encoding")
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class ForwardError(Exception):
    def __init__(self, status: int, message: str, *, of_upstream: bool = True) -> None:
        super().__init__(message)
        self.status = status
        self.of_upstream = of_upstream


class NotSent(ForwardError):
    pass


class Uncertain(ForwardError):
    pass


class UpstreamAnswer:
    """``headers`` as they came, order and duplicates kept, but for the Content-Length of a body that never follows.

    ``chunks`` are the raw body bytes as they arrive, still content-encoded; it raises Uncertain where the answer breaks
    off. ``aclose`` on every way out: a connection whose answer was not read to its end is closed, not reused.
    """

    __slots__ = ("aclose", "chunks", "headers", "status")

    def __init__(self, status: int, headers: Headers, stream: httpx.AsyncByteStream, upstream: Upstream) -> None:
        self.status = status
        self.headers = headers
        self.chunks = _Chunks(stream, upstream)
        self.aclose: Callable[[], Awaitable[None]] = stream.aclose


class _Chunks:
    """A class, for an async generator costs several times as much, and its end is not its caller's."""

    __slots__ = ("_next", "_upstream")

    def __init__(self, stream: httpx.AsyncByteStream, upstream: Upstream) -> None:
        self._next = aiter(stream).__anext__
        self._upstream = upstream

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._next()
        except (httpx.TransportError, OSError) as error:
            raise _told(error, self._upstream) from error


@dataclass(frozen=True, slots=True)
class _Route:
    transport: httpx.AsyncBaseTransport
    url: httpx.URL
    host: tuple[bytes, bytes]
    prefix: bytes


class _Upload(httpx.AsyncByteStream):
    """A streamed request body, as httpx wants it."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._source


class Forwarder:
    """``builtin`` answers, and if need be starts, the url of the stand-in that ``builtin:`` urls name.

    An upstream's connections stay while its name and url do, until it is forgotten. Each call in flight has one, and
    never waits for another's: those who call bound how many there are (`Places`).
    """

    def __init__(
        self,
        *,
        builtin: Callable[[], Awaitable[str]] | None = None,
        transport_for: Callable[[Upstream], httpx.AsyncBaseTransport] | None = None,
        connect_s: float = 10.0,
    ) -> None:
        self._builtin = builtin
        self._transport_for = transport_for
        self._tls = tls()
        self._connect_s = connect_s
        self._routes: dict[tuple[str, str], _Route] = {}

    async def send(
        self, upstream: Upstream, method: str, target: bytes, headers: Headers, body: bytes | AsyncIterator[bytes]
    ) -> UpstreamAnswer:
        """The answer, once its head is there. ``target`` is the raw path and query after the upstream's url.

        ``headers`` as `request_headers` makes them; a streamed ``body`` is framed as they say, bytes by their length.
        Raises ForwardError, and whatever a streamed body raises.
        """
        route = self._routes.get((upstream.name, upstream.url)) or await self._open(upstream)
        timeout = {"connect": self._connect_s, "read": upstream.timeout_s, "write": upstream.timeout_s}
        request = httpx.Request(
            method,
            route.url,
            stream=httpx.ByteStream(body) if isinstance(body, bytes) else _Upload(body),
            extensions={"target": route.prefix + target, "timeout": timeout},
        )
        request.headers = Raw(_sent(headers, route.host, method, body))
        try:
            response = await route.transport.handle_async_request(request)
        except (httpx.TransportError, OSError) as error:
            raise _told(error, upstream) from error
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        status, answered = response.status_code, response.headers.raw
        # What is no answer, and what our own server could not say.
        if not 200 <= status <= 599 or b"".join([value for _, value in answered]).translate(None, _WRITABLE):
            await stream.aclose()
            raise Uncertain(502, f"the upstream {upstream.name} sent a malformed answer")
        if status in (204, 304):
            answered = [(name, value) for name, value in answered if name.lower() != b"content-length"]
        return UpstreamAnswer(status, answered, stream, upstream)

    async def forget(self, upstream: Upstream) -> None:
        """Close its connections; answers still being read break off."""
        if route := self._routes.pop((upstream.name, upstream.url), None):
            await route.transport.aclose()

    async def aclose(self) -> None:
        """Close every connection; answers still being read break off."""
        routes = list(self._routes.values())
        self._routes.clear()
        for route in routes:
            await route.transport.aclose()

    async def _open(self, upstream: Upstream) -> _Route:
        text = upstream.url
        if text.startswith("builtin:"):
            assert self._builtin is not None, "no stand-in was given"
            text = await self._builtin()
        url, key = httpx.URL(text), (upstream.name, upstream.url)
        # Another call may have opened it while the stand-in was starting.
        if key not in self._routes:
            made = self._transport_for
            transport = made(upstream) if made else Transport(url, self._tls, idle_s=_KEEPALIVE_S)
            self._routes[key] = _Route(transport, url, (b"host", url.netloc), url.raw_path.rstrip(b"/"))
        return self._routes[key]


@cache
def tls() -> ssl.SSLContext:
    """Reading the roots takes 150 ms."""
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _sent(headers: Headers, host: tuple[bytes, bytes], method: str, body: bytes | AsyncIterator[bytes]) -> Headers:
    """With a host, and framed: a body at hand by its length, whatever it was before."""
    names = {name for name, _ in headers}
    sent = headers if b"host" in names else [host, *headers]
    if not isinstance(body, bytes):
        # Our server takes no other coding, but that one in any case.
        return [(name, b"chunked" if name == b"transfer-encoding" else value) for name, value in sent]
    framed = not names.isdisjoint(_FRAMING)
    if framed:
        sent = [header for header in sent if header[0] not in _FRAMING]
    if body or framed or method in _WITH_BODY:
        sent = [*sent, (b"content-length", b"%d" % len(body))]
    return sent


def _told(error: Exception, upstream: Upstream) -> ForwardError:
    """A failure of the wire as ours, in words that hold nothing of the request."""
    name = f"the upstream {upstream.name}"
    match error:
        case httpx.ConnectTimeout():
            return NotSent(504, f"{name} did not accept a connection in time")
        case httpx.ConnectError() | httpx.UnsupportedProtocol() | httpx.ProxyError():
            return NotSent(502, f"{name} could not be connected to")
        case httpx.TimeoutException():
            return Uncertain(504, f"{name} did not answer in time")
        case httpx.LocalProtocolError():
            return Uncertain(502, f"{name} can't be sent this request", of_upstream=False)
        case httpx.ProtocolError():
            return Uncertain(502, f"{name} sent a malformed answer, or broke it off")
        case _:
            return Uncertain(502, f"{name} broke the connection off")
