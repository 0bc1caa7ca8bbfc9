"""Server-sent events, split out of a stream of bytes as they complete, without losing a byte."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

EVENT_MAX = 8 * 1024 * 1024
BLANK = b"\n\n"  # what ends an event, most often

_BOM = b"\xef\xbb\xbf"
_BLANK_LINE = re.compile(rb"[\r\n](?:(?<=\n)(?:\n|\r\n?)|(?<=\r)(?:\n(?:\n|\r\n?)|\r\n?))")


class Event(NamedTuple):
    """``raw`` is the event as it came, its blank line included; ``whole`` False: a piece of one above the bound."""

    raw: bytes
    whole: bool = True

    def fields(self) -> tuple[bytes, bytes]:
        """(event name, data with its lines joined by LF); empty where there is none."""
        name, data = b"", []
        for line in self.raw.removeprefix(_BOM).splitlines():
            field, _, value = line.partition(b":")
            if field == b"data":
                data.append(value.removeprefix(b" "))
            elif field == b"event":
                name = value.removeprefix(b" ")
        return name, b"\n".join(data)


LATE_LF = Event(b"\n")


class EventSplitter:
    """Bytes in, split anywhere; complete events out. The raws of all events, then `rest`, are the bytes that came.

    An event of more than EVENT_MAX bytes comes out in pieces: no more than that is ever held. An event that ended with
    CR is not kept waiting for an LF: if one follows in the next chunk, it comes out as LATE_LF.
    """

    __slots__ = ("_after_cr", "_held", "_oversize")

    def __init__(self) -> None:
        self._held = bytearray()
        self._oversize = False
        self._after_cr = False

    def run(self, chunk: bytes) -> bytes | None:
        """Most chunks' complete events in one piece, where telling them apart is as easy as finding each BLANK (and is
        left to who wants to). None: nothing is done yet, and `feed` has to split the chunk.
        """
        if self._oversize or self._after_cr or (self._held and chunk.find(BLANK) < 0):
            return None
        run = bytes(self._held) + chunk if self._held else chunk
        first, size = run.find(BLANK), len(run)
        if size > EVENT_MAX or run.find(b"\r") >= 0:
            return None
        if first < 0 or first < size - len(BLANK):  # more than one event, or less
            if run.find(b"\n\n\n", max(first, 0)) >= 0:
                return None
            end = run.rfind(BLANK) + len(BLANK) if first >= 0 else 0
            self._held[:] = run[end:]
            return run[:end]
        if self._held:
            self._held.clear()
        return run

    def feed(self, chunk: bytes) -> list[Event]:
        if not chunk:
            return []
        events = []
        if self._after_cr and chunk.startswith(b"\n"):
            events.append(LATE_LF)
            chunk = chunk[1:]
        held = self._held
        if held:
            searched = max(0, len(held) - 2)  # a blank line may have begun in the last two bytes
            held += chunk
            ends = list(_ends(held, searched))
            if not ends:
                return self._piece()
            chunk = bytes(held)
            held.clear()
        else:
            ends = list(_ends(chunk, 0))
        begin = 0
        for end in ends:
            events.append(Event(chunk[begin:end], not self._oversize and end - begin <= EVENT_MAX))
            self._oversize = False
            begin = end
        held += chunk[begin:]
        self._after_cr = begin == len(chunk) and chunk.endswith(b"\r")
        return events + self._piece()

    def rest(self) -> bytes:
        """What came of an event that is not complete."""
        return bytes(self._held)

    def _piece(self) -> list[Event]:
        if len(self._held) <= (2 if self._oversize else EVENT_MAX):
            return []
        self._oversize = True
        piece = Event(bytes(self._held[:-2]), whole=False)
        del self._held[:-2]
        return [piece]


def _ends(buffer: bytes | bytearray, at: int) -> Iterator[int]:
    """Where events end: behind each blank line, whose line ends may be LF, CR or CRLF."""
    if buffer.find(b"\r", at) >= 0:
        yield from (found.end() for found in _BLANK_LINE.finditer(buffer, at))
        return
    while (at := buffer.find(b"\n\n", at)) >= 0:
        at += 2
        yield at
