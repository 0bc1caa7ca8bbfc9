"""What the events of a stream have in common: most of them are the same but for their few words.

Finding an event's words, and whether it says more than these, takes several searches through it. Whether it has the
same bytes as the event before it, up to its words and from there on, is told in a fraction of that time; and then it
says as much, and as little, as that one did.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.metering.sse import BLANK

_STRING: Final = re.compile(rb'[^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+)*+')  # as far as it stays within its line
_MEMBER: Final = re.compile(rb'"\w+"\s*:\s*"')  # up to its text
_CLOSINGS: Final = (b'",', b'"}', b'"]')  # of a text that is no key

# OpenAI pads its chunks to hide their lengths.
_PADDING: Final = b'"obfuscation":"'
_PADDED: Final = re.compile(rb"[0-9A-Za-z]*+")


class Mold:
    """One event without its words, and without its padding."""

    __slots__ = ("_after", "_before", "_begin", "_between", "_between_size")

    def __init__(self, before: bytes, between: bytes, after: bytes) -> None:
        self._before = before
        self._begin = len(before)
        self._between = between
        self._between_size = len(between)
        self._after = after  # of the padding, if there is any

    def words(self, event: bytes) -> int:
        """How many bytes the words take of an event that is the same but for them; -1 of one that isn't."""
        if not event.startswith(self._before):
            return -1
        end = _end(_STRING, event, self._begin)
        if not event.startswith(self._between, end):
            return -1
        rest = end + self._between_size
        if self._after:
            rest = _end(_PADDED, event, rest)
            if not event.startswith(self._after, rest):
                return -1
            rest += len(self._after)
        return end - self._begin if rest == len(event) else -1


def mold_of(event: bytes, words: re.Pattern[bytes]) -> Mold | None:
    """The mold of an event that has words (the pattern's first group) in one place. None: it has none, for it is no
    event that ends with its first BLANK, or those words are no member's text.
    """
    if event.find(BLANK) != len(event) - len(BLANK) or event.find(b"\r") >= 0:
        return None
    found = list(words.finditer(event))
    if len(found) != 1:
        return None
    begin, end = found[0].span(1)
    rest, after = event[end:], b""
    if not _MEMBER.fullmatch(event, found[0].start(), begin) or not rest.startswith(_CLOSINGS):
        return None
    if (padding := rest.find(_PADDING)) >= 0:
        padding += len(_PADDING)
        after = rest[_end(_PADDED, rest, padding) :]
        rest = rest[:padding]
        if not after.startswith(_CLOSINGS):
            return None
    return Mold(event[:begin], rest, after)


def _end(pattern: re.Pattern[bytes], text: bytes, at: int) -> int:
    found = pattern.match(text, at)
    assert found is not None  # they match nothing, too
    return found.end()
