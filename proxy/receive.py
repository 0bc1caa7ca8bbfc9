"""Receive: the head of a proxied call, and its body, whole where a price has to read it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

from starlette.types import Message, Receive, Scope

from policy.match import reads_body
from policy.model import Policy, Price, Upstream
from proxy.denials import Refused
from proxy.jsontext import values_most
from proxy.load import Hold, Load

BODY_MAX = 32 * 1024 * 1024
BODY_S = 120.0  # until all of a priced body must be there: it holds memory meanwhile

_REQUEST_ID_MAX = 128
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

# What a body takes of memory, beside its bytes the text parsed of it, and at most so many bytes for each value.
_COPIES = 2
_VALUE_BYTES = 100


class ClientGone(Exception):
    """The client left before its request was whole."""


class Incoming(NamedTuple):
    """A proxied call's head. ``path`` is what follows the upstream's name, as sent, and begins with a slash.

    ``fields`` are the headers by name; the first, where one is there twice.
    """

    upstream: Upstream
    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    fields: dict[bytes, bytes]

    def header(self, name: bytes) -> str:
        return self.fields.get(name, b"").decode("latin-1")


def receive_head(scope: Scope, policy: Policy) -> Incoming:
    """Raises Refused: 404 where the first segment of the path names no upstream, 403 to a browser that would show it.

    What an upstream answers must not run as a page of the dashboard's origin.
    """
    name, _, rest = scope["raw_path"][1:].decode("latin-1").partition("/")
    upstream = policy.upstreams.get(name)
    if upstream is None:
        raise Refused(404, "upstream_not_found", "Agent Ledger: the policy names no such upstream.")
    headers = scope["headers"]
    fields = dict(reversed(headers))
    if fields.get(b"sec-fetch-dest", b"empty") not in (b"", b"empty"):
        raise Refused(403, "browser_navigation", "Agent Ledger: a proxied path can't be opened as a page.")
    return Incoming(upstream, scope["method"], "/" + rest, scope["query_string"], headers, fields)


def request_id(fields: Mapping[bytes, bytes]) -> str | None:
    """What the client calls its request by, for the log."""
    given = fields.get(b"x-request-id")
    return None if given is None else given[:_REQUEST_ID_MAX].decode("ascii", "backslashreplace")


def trace_id(fields: Mapping[bytes, bytes]) -> str | None:
    """Of the trace that the client says its request is part of (W3C's `traceparent`), for the log."""
    given = fields.get(b"traceparent")
    found = None if given is None else _TRACEPARENT.fullmatch(given)
    return None if found is None else found[1].decode()


def turn_away(scope: Scope, load: Load) -> None:
    """Raises Refused (503) for a call that came over the bound of connections, or to a sidecar that is stopping."""
    if load.closing:
        raise Refused(503, "shutting_down", "Agent Ledger: it is stopping, and takes no new calls.", retry_after_s=1)
    if "spare" in scope["state"]:
        raise _overloaded("too many connections are open")


async def receive_body(
    incoming: Incoming,
    candidates: tuple[Price, ...],
    meter: str | None,
    receive: Receive,
    arrived: bytes | None,
    hold: Hold,
) -> bytes | None:
    """The whole body where a price has to read it (or a denial to echo its id); None: it will stream.

    ``arrived`` is the body where all of it is there already: then nothing is awaited.

    Raises Refused: 413 above 32 MiB, 415 where it is compressed, 503 where the bodies held already leave no room for
    it and its values (of which ``hold`` is taken), 408 after BODY_S; ClientGone.
    """
    if not reads_body(candidates) and meter != "mcp":
        return None
    if b"content-encoding" in incoming.fields and any(map(_is_compressed, incoming.headers)):
        message = "Agent Ledger: a compressed request body can't be priced; send it plain."
        raise Refused(415, "unsupported_encoding", message)
    body = arrived if arrived is not None else await _gather(incoming, receive, hold)
    _take(hold, _COPIES * len(body) - hold.size + values_most(body) * _VALUE_BYTES)
    return body


async def _gather(incoming: Incoming, receive: Receive, hold: Hold) -> bytes:
    """The body as it comes, holding memory for what is stated of it, or is there."""
    stated = incoming.header(b"content-length")
    if stated.isdigit():
        _hold_body(hold, int(stated))
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in stream_body(receive):
                size += len(chunk)
                _hold_body(hold, size)
                chunks.append(chunk)
    except TimeoutError as error:
        raise Refused(408, "request_timeout", "Agent Ledger: the body took too long to arrive.") from error
    return b"".join(chunks)


def _hold_body(hold: Hold, size: int) -> None:
    if size > BODY_MAX:
        raise Refused(413, "body_too_large", f"Agent Ledger: a body that is priced may have {BODY_MAX} bytes.")
    _take(hold, _COPIES * size - hold.size)


def _is_compressed(header: tuple[bytes, bytes]) -> bool:
    return header[0] == b"content-encoding" and header[1].lower() not in (b"", b"identity")


def _take(hold: Hold, size: int) -> None:
    if size > 0 and not hold.take(size):
        raise _overloaded("the bodies of calls in flight leave no room for this one")


def _overloaded(why: str) -> Refused:
    return Refused(503, "overloaded", f"Agent Ledger: {why}; try again in a moment.", retry_after_s=1)


def counting(receive: Receive, hold: Hold) -> Receive:
    """``receive`` for a body of the API's: it raises Refused (503) where there is no room for more of it."""

    async def counted() -> Message:
        message = await receive()
        _take(hold, _COPIES * len(message.get("body", b"")))
        return message

    return counted


async def stream_body(receive: Receive) -> AsyncIterator[bytes]:
    """The request's body as it comes. Raises ClientGone where it breaks off."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        if chunk := message.get("body", b""):
            yield chunk
        more = message.get("more_body", False)
