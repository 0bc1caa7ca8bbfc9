"""What llhttp lets through and we do not: each would be read otherwise by somebody else, or without end."""

from __future__ import annotations

from proxy.transport.raw import Line

HEAD_BYTES_MAX = 131_072
HEADERS_MAX = 512
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))


class Refused(Exception):
    """Leaves a parser's callback: the parser gives up."""


def judge(headers: list[Line], came: int) -> None:
    """Raises Refused: too many, too long, or a transfer coding other than `chunked`. ``came``: all bytes so far."""
    if len(headers) > HEADERS_MAX:
        raise Refused
    if came > HEAD_BYTES_MAX and sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_BYTES_MAX:
        raise Refused  # in one piece
    codings = [value for name, value in headers if len(name) == 17 and name.lower() == b"transfer-encoding"]
    if codings and (len(codings) > 1 or codings[0].lower() != b"chunked"):
        raise Refused


def ends_with_connection(headers: list[Line]) -> bool:
    return not any(name.lower() in _FRAMING for name, _ in headers)
