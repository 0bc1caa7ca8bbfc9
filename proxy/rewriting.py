"""Values written into a request's JSON, all other bytes staying as they came."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from json.decoder import JSONDecoder
from typing import Any

Write = tuple[tuple[str, ...], Any]

_DECODER = JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_dumps = json.JSONEncoder(separators=(",", ":")).encode


def with_member(raw: bytes, member: bytes) -> bytes:
    """The object ``raw``, of some members but none of that key, with one more: as its first."""
    begin = raw.index(b"{") + 1
    return b"%b%b,%b" % (raw[:begin], member, raw[begin:])


def written(raw: bytes, writes: Sequence[Write]) -> bytes:
    """The object ``raw`` with each value set at its path of keys: in place of the value that stands there, or as the
    first member of its object. Objects on the way are made; what else stands there gives way to one.

    ``raw`` was parsed before, as UTF-8 and without a key that stands twice in one object.
    """
    text = raw.decode("utf-8")
    for path, value in writes:
        text = _written(text, path, value)
    return text.encode()


def _written(text: str, path: tuple[str, ...], value: Any) -> str:
    begin, end = text.index("{"), len(text)
    for depth, key in enumerate(path):
        if text[begin] != "{":
            return text[:begin] + _dumps(_nested(path[depth:], value)) + text[end:]
        found = _value_span(text, begin, key)
        if found is None:
            member = _dumps(_nested(path[depth:], value))[1:-1]
            comma = "" if text[_past_space(text, begin + 1)] == "}" else ","
            return f"{text[: begin + 1]}{member}{comma}{text[begin + 1 :]}"
        begin, end = found
    return text[:begin] + _dumps(value) + text[end:]


def _nested(path: tuple[str, ...], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def _value_span(text: str, at: int, wanted: str) -> tuple[int, int] | None:
    """Where the value of a key stands in the object that begins at ``at``; None where there is no such key."""
    at = _past_space(text, at + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        begin = _past_space(text, _past_space(text, at) + 1)  # past the colon
        _, end = _DECODER.raw_decode(text, begin)
        if key == wanted:
            return begin, end
        at = _past_space(text, end)
        if text[at] == ",":
            at = _past_space(text, at + 1)
    return None


def _past_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None  # it matches nothing too
    return found.end()
