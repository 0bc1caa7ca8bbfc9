"""Forward: one request to an upstream and its answer back, byte for byte, by a pool of connections for each upstream.

httpx's transport is called directly: there is no cookie jar, no redirect followed, nothing decoded, no header added.

ForwardError         no whole answer came; ``status`` and the message are fit for the client, ``of_upstream`` is False
│                    where it tells of the request alone
├── NotSent          the upstream certainly did not act: it costs nothing
└── Uncertain        it may have acted, though its answer never came whole
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx

from policy.model import Upstream
from proxy.headers import Headers

# An idle connection that the upstream has closed is noticed before it is used again. One that it closes while our
# request is on its way is Uncertain, and never retried: the request may have been read. So idle connections are given
# up before common servers (Node and uvicorn: 5 s) do.
_KEEPALIVE_S = 4.0
# httpcore looks at every idle connection, for each of them, at each request: few must be kept.
_KEPT_ALIVE_MAX = 32

_UNWRITABLE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
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


@dataclass(frozen=True, slots=True)
class UpstreamAnswer:
    """``headers`` as they came, order and duplicates kept, but for the Content-Length of a body that never follows.

    ``chunks`` are the raw body bytes as they arrive, still content-encoded; it raises Uncertain where the answer breaks
    off. ``aclose`` on every way out: a connection whose answer was not read to its end is closed, not reused.
    """

    status: int
    headers: Headers
    chunks: AsyncGenerator[bytes, None]
    stream: httpx.AsyncByteStream

    async def aclose(self) -> None:
        await self.chunks.aclose()
        await self.stream.aclose()


@dataclass(frozen=True, slots=True)
class _Route:
    transport: httpx.AsyncBaseTransport
    url: httpx.URL
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
        self._transport_for = transport_for or self._pooled
        self._tls = _tls()
        self._limits = httpx.Limits(max_keepalive_connections=_KEPT_ALIVE_MAX, keepalive_expiry=_KEEPALIVE_S)
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
        if isinstance(body, bytes):
            headers = _framed(headers, method, len(body))
        if not any(name == b"host" for name, _ in headers):
            headers = [(b"host", route.url.netloc), *headers]
        timeout = {"connect": self._connect_s, "read": upstream.timeout_s, "write": upstream.timeout_s}
        request = httpx.Request(
            method,
            route.url,
            headers=headers,
            stream=httpx.ByteStream(body) if isinstance(body, bytes) else _Upload(body),
            extensions={"target": route.prefix + target, "timeout": timeout},
        )
        try:
            response = await route.transport.handle_async_request(request)
        except (httpx.TransportError, OSError) as error:
            raise _told(error, upstream) from error
        assert isinstance(response.stream, httpx.AsyncByteStream)
        status, answered = response.status_code, response.headers.raw
        # What h11 lets through, and our own server could not say.
        if not 200 <= status <= 599 or _UNWRITABLE.search(b"".join(value for _, value in answered)):
            await response.stream.aclose()
            raise Uncertain(502, f"the upstream {upstream.name} sent a malformed answer")
        if status in (204, 304):
            answered = [(name, value) for name, value in answered if name.lower() != b"content-length"]
        return UpstreamAnswer(status, answered, _chunks(response, response.stream, upstream), response.stream)

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
            self._routes[key] = _Route(self._transport_for(upstream), url, url.raw_path.rstrip(b"/"))
        return self._routes[key]

    def _pooled(self, upstream: Upstream) -> httpx.AsyncBaseTransport:
        return httpx.AsyncHTTPTransport(verify=self._tls, limits=self._limits)


@cache
def _tls() -> ssl.SSLContext:
    """Reading the roots takes 150 ms."""
    return httpx.create_ssl_context()


def _framed(headers: Headers, method: str, length: int) -> Headers:
    framing = (b"content-length", b"transfer-encoding")
    kept = [header for header in headers if header[0] not in framing]
    if length or method in _WITH_BODY or len(kept) < len(headers):
        kept.append((b"content-length", b"%d" % length))
    return kept


async def _chunks(
    response: httpx.Response, stream: httpx.AsyncByteStream, upstream: Upstream
) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in stream:
            yield chunk
    except (httpx.TransportError, OSError) as error:
        raise _told(error, upstream) from error
    if _surplus(stream):
        await response.extensions["network_stream"].aclose()


def _surplus(stream: Any) -> bool:
    """Whether more came than the answer. httpcore keeps it, and would give it as the answer to the next call."""
    pooled = getattr(stream, "_httpcore_stream", None)
    return pooled is not None and pooled._stream._connection._h11_state.trailing_data[0] != b""


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
