"""The one rewriting on by default: an OpenAI stream that didn't ask for its usage is asked for it, unseen."""

from __future__ import annotations

import json
from json.decoder import JSONDecoder
from typing import Any

from proxy.metering.openai import OpenAITally
from proxy.metering.reader import Account, StreamReader
from proxy.metering.sources import Sources
from proxy.metering.sse import LATE_LF, Event

_OPTIONS = "stream_options"
_DECODER = JSONDecoder()


def ask_for_usage(path: str, raw: bytes, body: Any) -> bytes | None:
    """The request's body with `stream_options.include_usage`; None where there is nothing to ask, or it is asked.

    ``body`` is ``raw`` parsed. All but that option stays byte for byte as it was written.
    """
    if not path.endswith("/completions") or not isinstance(body, dict) or body.get("stream") is not True:
        return None
    if _OPTIONS not in body:
        at = raw.index(b"{") + 1
        return raw[:at] + b'"stream_options":{"include_usage":true},' + raw[at:]
    options = body[_OPTIONS]
    if options is None:
        options = {}
    if not isinstance(options, dict) or options.get("include_usage") is True:
        return None
    text = raw.decode("utf-8")
    begin, end = _value_span(text, _OPTIONS)
    return (text[:begin] + json.dumps({**options, "include_usage": True}) + text[end:]).encode()


def _value_span(text: str, wanted: str) -> tuple[int, int]:
    """Where the value of a key of the outermost object stands."""
    at = text.index("{") + 1
    while True:
        key, at = _DECODER.raw_decode(text, _past_space(text, at))
        begin = _past_space(text, _past_space(text, at) + 1)  # past the colon
        _, at = _DECODER.raw_decode(text, begin)
        if key == wanted:
            return begin, at
        at = _past_space(text, at) + 1  # past the comma


def _past_space(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at


class UsageStripper:
    """Takes the usage-only chunk out of a stream whose client didn't ask for it; all other bytes pass unchanged.

    It feeds ``reader`` too: a stream is split once, and its usage parsed once. An event is held back only while it is
    incomplete.
    """

    def __init__(self, reader: StreamReader | None = None) -> None:
        self._reader = reader or StreamReader(
            Account(OpenAITally(), Sources((), (), None), promised=True, failed=False)
        )
        self._taken = False  # whether the latest event was taken out

    def feed(self, chunk: bytes) -> bytes:
        """What may be passed on now."""
        passed = []
        for event in self._reader.splitter.feed(chunk):
            if event is not LATE_LF:  # which belongs to the event before it
                self._taken = _only_usage(self._reader.read(event))
            if not self._taken:
                passed.append(event.raw)
        return b"".join(passed)

    def flush(self) -> bytes:
        """The incomplete event with which the stream ended, unless it is the one to be taken out."""
        rest = self._reader.splitter.rest()
        return b"" if _only_usage(self._reader.read(Event(rest))) else rest


def _only_usage(document: Any) -> bool:
    return isinstance(document, dict) and document.get("choices") == [] and isinstance(document.get("usage"), dict)
