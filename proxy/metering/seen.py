"""The output that came of a stream, counted without parsing it: what a stream that breaks off has cost at least."""

from __future__ import annotations

import re
from typing import Final

from proxy.metering.mold import Mold, mold_of
from proxy.metering.sse import BLANK

MOLDS_MAX: Final = 8  # of one stream: those of a server that writes each event in its own way are of no use

_BYTES_PER_TOKEN = 3  # of text as JSON writes it

_IN_STRING = rb'([^"\\]*+(?:\\.[^"\\]*+)*+)'
# The keys that a model's words stand under, in whatever format.
_WORDS = (
    *(b"content", b"text", b"delta", b"arguments", b"partial_json", b"thinking", b"reasoning", b"reasoning_content"),
    *(b"refusal", b"transcript", b"tool_plan", b"name", b"input", b"stringValue"),
)
# Those of output that isn't words: it counts as some, its base64 not at all.
_OTHER = (b"functionCall", b"executableCode", b"inlineData", b"audio", b"b64_json", b"partial_image_b64", b"images")
# Those of lists that repeat the words of the `reasoning` beside them, or quote a source's.
_REPEATS = (b"reasoning_details", b"thinking_blocks", b"annotations")
# One flat choice of literals: nested ones take twice the time.
_CHOICES = (
    *(key + rb'"\s*:\s*"' for key in _WORDS),
    *(key + rb'"(?=\s*:\s*["{[])' for key in _OTHER),
    *(key + rb'"\s*:\s*\[[^]]*' for key in _REPEATS),
)
_OUTPUT = re.compile(rb'"(?:' + b"|".join(_CHOICES) + rb")" + _IN_STRING, re.DOTALL)
# OpenAI's responses say all of it again when it is done: only what comes as a delta counts.
_RESPONSES = "/responses"
_DELTA = re.compile(rb'"delta"\s*:\s*"' + _IN_STRING, re.DOTALL)
_BASE64_DELTA = b"audio.delta"


class Seen:
    """Counts the events of one stream; ``path`` is that of its call.

    ``tokens`` are what the output is taken for, rather too many than too few: one for each event that brought some, or
    one for each three bytes of text. More that comes never makes it less.
    """

    __slots__ = ("_bytes", "_events", "_mold", "_molds_left", "_output")

    def __init__(self, path: str) -> None:
        self._output = _DELTA if _RESPONSES in path else _OUTPUT
        self._events = 0
        self._bytes = 0
        self._mold: Mold | None = None
        self._molds_left = MOLDS_MAX

    def add(self, event: bytes) -> None:
        """An event as it came, or what came of one that was cut."""
        if self._mold is not None and (words := self._mold.words(event)) >= 0:
            self.add_words(words)
            return
        found = self._output.findall(event)
        if found:
            self._events += 1
            if self._output is _OUTPUT or _BASE64_DELTA not in event:
                self._bytes += sum(map(len, found))
        if self._molds_left and len(found) == 1:
            self._molds_left -= 1
            self._mold = self.mold_of(event) or self._mold

    def add_run(self, run: bytes) -> None:
        """Many events, each with the blank line that ends it."""
        for event in run.split(BLANK)[:-1]:
            self.add(event + BLANK)

    def add_words(self, size: int) -> None:
        """An event that has the mold of one of this stream."""
        self._events += 1
        self._bytes += size

    def mold_of(self, event: bytes) -> Mold | None:
        """Its mold, where it has words in one place: all events of that mold count by the size of theirs."""
        return mold_of(event, _OUTPUT) if self._output is _OUTPUT else None

    @property
    def tokens(self) -> int:
        return max(self._events, -(-self._bytes // _BYTES_PER_TOKEN))
