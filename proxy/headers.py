"""Which headers pass, and which are one connection's own. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

Headers = list[tuple[bytes, bytes]]

# RFC 9110, 7.6.1, and what older peers send; Connection names more. Content-Length and Transfer-Encoding are not here:
# they say whether there is a body, and are dealt with by name.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
        b"http2-settings",
        b"x-agent-id",  # ours, as is x-ledger-…
    }
)
_NOT_SENT = _HOP_BY_HOP | {b"host", b"expect"}
_NOT_PASSED = _HOP_BY_HOP | {b"transfer-encoding"}


def request_headers(raw: Sequence[tuple[bytes, bytes]], replace: Mapping[str, str]) -> Headers:
    """What goes upstream: ``raw`` (names in lower case) in its order, then ``replace``, whose names it loses.

    Host is left to the forwarder, and so is the framing: of Content-Length and Transfer-Encoding only one stays, to say
    that there is a body. Expect has been answered by our own server.
    """
    replaced, dropped = _replacing(tuple(replace.items()))
    names = dict(raw)
    if b"connection" in names:
        dropped |= _named(raw)
    if b"transfer-encoding" in names:
        dropped |= {b"content-length"}
    kept = [header for header in raw if header[0] not in dropped]
    joined = b"\n".join(names)  # a look at all names at once, where one at each costs more than all the rest
    if b"_" in joined or b"x-ledger-" in joined:
        kept = [header for header in kept if not _own(header[0]) and b"_" not in header[0]]
    if names.get(b"content-length", b"").startswith(b"0"):
        kept = [_plain_length(header) if header[0] == b"content-length" else header for header in kept]
    kept += replaced
    return kept


@lru_cache(1024)
def _replacing(replace: tuple[tuple[str, str], ...]) -> tuple[Headers, frozenset[bytes]]:
    """Those headers as they are sent, and all names that then are not. Few: an upstream's, by what clients accept."""
    replaced = {name.lower().encode(): value.encode() for name, value in replace}
    return list(replaced.items()), _NOT_SENT.union(replaced)


def response_headers(raw: Sequence[tuple[bytes, bytes]]) -> Headers:
    """What goes back to the client: ``raw`` in its order and spelling; our server frames a chunked body anew."""
    names = [name.lower() for name, _ in raw]
    dropped = _NOT_PASSED
    if b"connection" in names:
        dropped |= _named(raw)
    if b"transfer-encoding" in names:
        dropped |= {b"content-length"}
    kept = [header for header, name in zip(raw, names, strict=True) if name not in dropped]
    if b"x-ledger-" in b"\n".join(names):
        kept = [header for header in kept if not _own(header[0].lower())]
    return kept


def _plain_length(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """Without the zeros before it, which some would read as octal."""
    return header[0], b"%d" % int(header[1])


def _named(raw: Sequence[tuple[bytes, bytes]]) -> set[bytes]:
    """What Connection says is for this connection; what says where a body ends is never taken off by it."""
    named = {
        token.strip(b" \t").lower()
        for name, value in raw
        if name.lower() == b"connection"
        for token in value.split(b",")
    }
    return named - {b"content-length", b"transfer-encoding"}


def _own(name: bytes) -> bool:
    """Ours alone: no upstream is told who asks, and none speaks in the ledger's name."""
    return name.startswith(b"x-ledger-")
