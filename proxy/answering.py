"""An answer's head as bytes. What an app says in it is judged first: no name or value may end its line."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from proxy.framing import Refusal

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_STATUS_LINES: Final = {code: f"HTTP/1.1 {code} {_PHRASES.get(code, '')}\r\n".encode() for code in range(100, 600)}
_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PRINTED: Final = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))

_LENGTH, _CODING, _CONNECTION = b"content-length: ", b"transfer-encoding: ", b"connection: "
_FRAMING: Final = frozenset((_LENGTH, _CODING, _CONNECTION))


def head_lines(status: int, headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, int | None, bool]:
    """The status line and the headers, without the empty line behind them, so that more can be added; the length that
    they state; and whether they say that the connection closes.

    A Transfer-Encoding is the server's to say, and left out (as ASGI has it). Raises ValueError for what is no header.
    """
    pieces = [_STATUS_LINES[status]]
    length, closes = None, False
    for name, value in headers:
        prefix = _prefix(name)
        if prefix in _FRAMING:
            if prefix is _CODING:
                continue
            if prefix is _LENGTH:
                length = int(value)
            elif any(token.strip() == b"close" for token in value.lower().split(b",")):
                closes = True
        pieces += (prefix, value, b"\r\n")
    lines = b"".join(pieces)
    # All of them at once: what doesn't print must be the ends of their lines, and nothing else.
    if lines.translate(None, _PRINTED) != b"\r\n" * (len(pieces) // 3 + 1):
        raise ValueError("a header holds a control character")
    return lines, length, closes


@lru_cache(256)
def _prefix(name: bytes) -> bytes:
    if not name or name.translate(None, _TOKEN):
        raise ValueError("a header's name is no token")
    prefix = name.lower() + b": "
    return next((known for known in _FRAMING if known == prefix), prefix)


def refusal_answer(refusal: Refusal) -> bytes:
    """The whole of it."""
    lines, _, _ = head_lines(refusal.status, refusal_headers(refusal))
    return lines + b"\r\n" + refusal.body()


def refusal_headers(refusal: Refusal) -> list[tuple[bytes, bytes]]:
    length = b"%d" % len(refusal.body())
    headers = [(b"content-type", b"application/json"), (b"content-length", length), (b"connection", b"close")]
    if refusal.status == 405:  # a CONNECT or TRACE, on any path
        headers.append((b"allow", b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"))
    return [*headers, (b"retry-after", b"1")] if refusal.status == 503 else headers
