"""Which headers pass, and which are one connection's own. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    }
)


def request_headers(raw: Sequence[tuple[bytes, bytes]], replace: Mapping[str, str]) -> Headers:
    """What goes upstream: ``raw`` (names in lower case) in its order, then ``replace``, whose names it loses.

    Host is left to the forwarder, and so is the framing: of Content-Length and Transfer-Encoding only one stays, to say
    that there is a body. Expect has been answered by our own server.
    """
    replaced = {name.lower().encode(): value.encode() for name, value in replace.items()}
    dropped = {b"host", b"expect", *replaced}
    if any(name == b"transfer-encoding" for name, _ in raw):
        dropped.add(b"content-length")
    kept = [(name, value) for name, value in _end_to_end(raw) if name not in dropped and b"_" not in name]
    return [_plain_length(header) for header in kept] + list(replaced.items())


def _plain_length(header: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """A Content-Length without the zeros before it, which some would read as octal."""
    return (header[0], b"%d" % int(header[1])) if header[0] == b"content-length" else header


def response_headers(raw: Sequence[tuple[bytes, bytes]]) -> Headers:
    """What goes back to the client: ``raw`` in its order and spelling; our server frames a chunked body anew."""
    dropped = {b"transfer-encoding"}
    if any(name.lower() == b"transfer-encoding" for name, _ in raw):
        dropped.add(b"content-length")
    return [(name, value) for name, value in _end_to_end(raw) if name.lower() not in dropped]


def _end_to_end(raw: Sequence[tuple[bytes, bytes]]) -> Headers:
    hop_by_hop = _HOP_BY_HOP
    for name, value in raw:
        if name.lower() == b"connection":
            named = {token.strip(b" \t").lower() for token in value.split(b",")}
            hop_by_hop = hop_by_hop | (named - {b"content-length", b"transfer-encoding"})
    return [(name, value) for name, value in raw if not _own(low := name.lower()) and low not in hop_by_hop]


def _own(name: bytes) -> bool:
    """Ours alone: no upstream is told who asks, and none speaks in the ledger's name."""
    return name == b"x-agent-id" or name.startswith(b"x-ledger-")
