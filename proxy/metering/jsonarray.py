"""The elements of a JSON array, split out of a stream of bytes as they complete."""

from __future__ import annotations

import re
from collections.abc import Iterator

ELEMENT_MAX = 8 * 1024 * 1024

_OPENING = (b"[", b"{")
_IN_STRING = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
_STRING_END = re.compile(_IN_STRING + rb'("?)', re.DOTALL)
_FLAT = rb'[^"\[\]{}]*+'
_MARK = re.compile(_FLAT + rb'(?:"' + _IN_STRING + rb'"' + _FLAT + rb')*+(["\[\]{}]?)', re.DOTALL)


class Held:
    """What came of one element. No more than ELEMENT_MAX bytes are held: for an element above that, None comes out."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._oversize = False

    def rest(self) -> bytes:
        """What came of an element that is not complete."""
        return bytes(self._held)

    def _complete(self, end: bytes) -> list[bytes | None]:
        found = self._hold(end)
        if not self._oversize:
            found.append(bytes(self._held))
        self._held.clear()
        self._oversize = False
        return found

    def _hold(self, piece: bytes) -> list[bytes | None]:
        if self._oversize:
            return []
        self._held += piece
        if len(self._held) <= ELEMENT_MAX:
            return []
        self._oversize = True
        self._held.clear()
        return [None]


class ArraySplitter(Held):
    """The bytes of one array in, split anywhere; its objects and arrays out (numbers, strings and null say nothing).

    ``closed``: the array ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self._depth = 0
        self._in_string = False
        self._late = b""  # a backslash whose other half has not come

    def feed(self, chunk: bytes) -> list[bytes | None]:
        found: list[bytes | None] = []
        if self.closed:
            return found
        chunk = self._late + chunk
        begin = 0
        for at, mark in self._brackets(chunk):
            if mark in _OPENING:
                self._depth += 1
                if self._depth == 2:
                    begin = at
                continue
            self._depth -= 1
            if self._depth == 1:
                found += self._complete(chunk[begin : at + 1])
            elif self._depth < 1:
                self.closed = True
                return found
        if self._depth > 1:
            found += self._hold(chunk[begin : len(chunk) - len(self._late)])
        return found

    def _brackets(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """Where brackets stand that are in no string, and which."""
        at = 0
        while True:
            if self._in_string:
                string = _STRING_END.match(chunk, at)
                assert string is not None
                at = string.end()
                if not string[1]:
                    break
            found = _MARK.match(chunk, at)
            assert found is not None
            at, mark = found.end(), found[1]
            self._in_string = mark == b'"'  # of a string that doesn't end here
            if not mark:
                break
            if not self._in_string:
                yield at - 1, mark
        self._late = chunk[at:]
