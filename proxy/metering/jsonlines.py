"""JSON documents that come one a line (`application/x-ndjson`; Cohere's v1 streams: `application/stream+json`)."""

from __future__ import annotations

import re
from typing import Final

from proxy.metering.jsonarray import Held

LINES: Final = re.compile(r"ndjson|jsonl|stream\+json")  # in a content type


class LineSplitter(Held):
    """The bytes of such a stream in, split anywhere; its documents out, as from `ArraySplitter`."""

    closed = True  # after each line

    def feed(self, chunk: bytes) -> list[bytes | None]:
        *ends, begin = chunk.split(b"\n")
        found: list[bytes | None] = []
        for end in ends:
            found += self._complete(end)
        return found + self._hold(begin)
