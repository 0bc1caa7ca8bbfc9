"""Receive: the head of a proxied call, and its body, whole where a price has to read it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.types import Receive, Scope

from policy.match import reads_body
from policy.model import Policy, Price, Upstream
from proxy.denials import Refused

BODY_MAX = 32 * 1024 * 1024


class ClientGone(Exception):
    """The client left before its request was whole."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A proxied call's head. ``path`` is what follows the upstream's name, as sent, and begins with a slash."""

    upstream: Upstream
    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]

    def header(self, name: bytes) -> str:
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")


def receive_head(scope: Scope, policy: Policy) -> Incoming:
    """Raises Refused: 404 where the first segment of the path names no upstream, 403 to a browser that would show it.

    What an upstream answers must not run as a page of the dashboard's origin.
    """
    name, _, rest = scope["raw_path"][1:].decode("latin-1").partition("/")
    upstream = policy.upstreams.get(name)
    if upstream is None:
        raise Refused(404, "upstream_not_found", "Agent Ledger: the policy names no such upstream.")
    incoming = Incoming(upstream, scope["method"], "/" + rest, scope["query_string"], scope["headers"])
    if incoming.header(b"sec-fetch-dest") not in ("", "empty"):
        raise Refused(403, "browser_navigation", "Agent Ledger: a proxied path can't be opened as a page.")
    return incoming


async def receive_body(
    incoming: Incoming, candidates: tuple[Price, ...], meter: str | None, receive: Receive
) -> bytes | None:
    """The whole body where a price has to read it (or a denial to echo its id); None: it will stream.

    Raises Refused: 413 above 32 MiB, 415 where it is compressed; ClientGone.
    """
    if not reads_body(candidates) and meter != "mcp":
        return None
    if incoming.header(b"content-encoding").lower() not in ("", "identity"):
        message = "Agent Ledger: a compressed request body can't be priced; send it plain."
        raise Refused(415, "unsupported_encoding", message)
    too_large = Refused(413, "body_too_large", f"Agent Ledger: a body that is priced may have {BODY_MAX} bytes.")
    stated = incoming.header(b"content-length")
    if stated.isdigit() and int(stated) > BODY_MAX:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    while True:
        message_in = await receive()
        if message_in["type"] == "http.disconnect":
            raise ClientGone
        chunk = message_in.get("body", b"")
        size += len(chunk)
        if size > BODY_MAX:
            raise too_large
        chunks.append(chunk)
        if not message_in.get("more_body", False):
            return b"".join(chunks)


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
