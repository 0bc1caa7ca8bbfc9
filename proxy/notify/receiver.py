"""One POST to a webhook's url: over the transport that upstreams are called by, so no redirect is followed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import ssl
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import httpx

from proxy.forward import tls
from proxy.headers import Headers
from proxy.transport import Raw, Transport

_IDLE_S = 4.0
_ANSWER_MAX = 64 * 1024
_ANSWER_S = 1.0


class Failure(NamedTuple):
    """Why it was not taken, in words without the url. ``status`` 0: there was no answer. ``retry_after_s`` as asked."""

    words: str
    status: int = 0
    retry_after_s: float = 0.0


class Receiver:
    def __init__(self, url: str, attempt_s: float) -> None:
        self._url = url
        self._attempt_s = attempt_s
        self._transport: Transport | None = None

    async def post(self, headers: Headers, body: bytes, now_s: float) -> Failure | None:
        """None: it answered 2xx. ``headers`` without the Host."""
        try:
            async with asyncio.timeout(self._attempt_s):
                response = await self._send(headers, body)
        except (TimeoutError, httpx.TimeoutException):
            return Failure(f"no answer within {self._attempt_s:g} s")
        except (httpx.TransportError, httpx.InvalidURL, OSError, ValueError) as error:
            return Failure(_words(error))
        status = response.status_code
        await _drain(response)
        if 200 <= status <= 299:
            return None
        return Failure(f"status {status}", status, _retry_after_s(response.headers.get("retry-after", ""), now_s))

    async def _send(self, headers: Headers, body: bytes) -> httpx.Response:
        url = httpx.URL(self._url)
        if self._transport is None:
            self._transport = Transport(url, tls(), idle_s=_IDLE_S)
        request = httpx.Request("POST", url, stream=httpx.ByteStream(body), extensions={"target": url.raw_path})
        request.headers = Raw([(b"host", url.netloc), *headers])
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        if self._transport is not None:
            await self._transport.aclose()


async def _drain(response: httpx.Response) -> None:
    """What it answers is of no interest, but read to its end the connection serves again."""
    stream, seen = response.stream, 0
    assert isinstance(stream, httpx.AsyncByteStream)
    with contextlib.suppress(TimeoutError, httpx.TransportError, OSError):
        async with asyncio.timeout(_ANSWER_S):
            async for chunk in stream:
                seen += len(chunk)
                if seen > _ANSWER_MAX:
                    break
    await stream.aclose()


def _retry_after_s(text: str, now_s: float) -> float:
    """A Retry-After's seconds or date; 0 for none, or for what is neither."""
    if re.fullmatch(r"\d{1,9}", text, re.ASCII):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except (ValueError, OverflowError):
        return 0.0


def _words(error: Exception) -> str:
    match error.__cause__ or error:
        case ssl.SSLCertVerificationError():
            return "its certificate is not trusted"
        case ssl.SSLError():
            return "no TLS with it"
        case socket.gaierror():
            return "its host's name is not known"
        case OSError(errno=int(number)):
            return os.strerror(number).lower()
        case httpx.InvalidURL() | ValueError():
            return "its url can't be used"
        case httpx.ProtocolError():
            return "a malformed answer"
        case _:
            return "the connection broke off"
