"""Calls by the transport alone, to an upstream that a test scripts."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpx

from proxy.transport import Raw, Transport
from tests.proxy.rawhttp import WAIT_S

Line = tuple[bytes, bytes]


class Pieces(httpx.AsyncByteStream):
    """A body that is streamed."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._source


@contextlib.asynccontextmanager
async def transport_to(url: str, tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[Transport]:
    transport = Transport(
        httpx.URL(url), tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), **{"idle_s": WAIT_S, **options}
    )
    try:
        yield transport
    finally:
        await transport.aclose()


def request(
    target: bytes = b"/x",
    method: str = "GET",
    headers: list[Line] | None = None,
    body: bytes | AsyncIterator[bytes] = b"",
    **timeout: float | None,
) -> httpx.Request:
    """``timeout``: connect, read, write; `WAIT_S` where it is not said."""
    stream = httpx.ByteStream(body) if isinstance(body, bytes) else Pieces(body)
    waits = {"connect": WAIT_S, "read": WAIT_S, "write": WAIT_S, **timeout}
    made = httpx.Request(method, "http://up.test", stream=stream, extensions={"target": target, "timeout": waits})
    made.headers = Raw([(b"host", b"up.test"), *(headers or [])])
    return made


async def ask(transport: Transport, target: bytes = b"/x", **more: Any) -> httpx.Response:
    return await transport.handle_async_request(request(target, **more))


async def whole(response: httpx.Response) -> bytes:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    try:
        return b"".join([chunk async for chunk in response.stream])
    finally:
        await response.stream.aclose()


async def answer_of(transport: Transport, target: bytes = b"/x", **more: Any) -> tuple[int, list[Line], bytes]:
    response = await ask(transport, target, **more)
    return response.status_code, response.headers.raw, await whole(response)
