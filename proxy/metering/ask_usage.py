"""The one rewriting on by default: an OpenAI stream that didn't ask for its usage is asked for it, unseen."""

from __future__ import annotations

from typing import Any, Final

from proxy.metering.account import NO_SOURCES, Account
from proxy.metering.mold import Mold
from proxy.metering.openai import OpenAITally
from proxy.metering.seen import MOLDS_MAX
from proxy.metering.sse import LATE_LF, Event
from proxy.metering.streams import StreamReader
from proxy.rewriting import with_member, written

_ASKED: Final = b'"stream_options":{"include_usage":true}'


def ask_for_usage(path: str, raw: bytes, body: Any) -> bytes | None:
    """The request's body with `stream_options.include_usage`; None where there is nothing to ask, or it is asked.

    ``body`` is ``raw`` parsed. All but that option stays byte for byte as it was written.
    """
    if not path.endswith("/completions") or not isinstance(body, dict) or body.get("stream") is not True:
        return None
    if "stream_options" not in body:
        return with_member(raw, _ASKED)
    options = body["stream_options"]
    if options is not None and (not isinstance(options, dict) or options.get("include_usage") is True):
        return None
    return written(raw, [(("stream_options", "include_usage"), True)])


class UsageStripper:
    """Takes the usage-only chunk out of a stream whose client didn't ask for it; all other bytes pass unchanged.

    It feeds ``reader`` too: a stream is split once, and its usage parsed once. An event is held back only while it is
    incomplete.
    """

    __slots__ = ("_idle", "_mold", "_molds_left", "_reader", "_splitter", "_taken")

    def __init__(self, reader: StreamReader | None = None) -> None:
        self._reader = reader or StreamReader(Account(OpenAITally(), NO_SOURCES, promised=True, failed=False))
        self._splitter = self._reader.splitter
        self._taken = False  # whether the latest event was taken out
        self._idle = True  # whether no event is held
        self._mold: Mold | None = None  # of an event in which there was nothing to take
        self._molds_left = MOLDS_MAX

    def feed(self, chunk: bytes) -> bytes:
        """What may be passed on now."""
        if self._mold is not None and self._idle and self._reader.passes(chunk, self._mold):
            return chunk
        run = self._splitter.run(chunk)
        if run is None:
            return self._passed(chunk)
        self._idle = run is chunk
        places = self._reader.note(run)
        if places:
            return self._stripped(run, places)
        if self._idle and self._molds_left:
            self._molds_left -= 1
            self._mold = self._reader.mold_of(run) or self._mold
        return run

    def _stripped(self, run: bytes, places: list[int]) -> bytes:
        passed, at = [], 0
        for begin, end, document in self._reader.read_at(run, places):
            if _only_usage(document):
                passed.append(run[at:begin])
                at = end
        return b"".join((*passed, run[at:]))

    def _passed(self, chunk: bytes) -> bytes:
        """What may be passed on of events that have to be told apart."""
        passed = []
        self._idle = False
        for event in self._splitter.feed(chunk):
            if event is not LATE_LF:  # which belongs to the event before it
                self._taken = _only_usage(self._reader.read(event))
            if not self._taken:
                passed.append(event.raw)
        return b"".join(passed)

    def flush(self) -> bytes:
        """The incomplete event with which the stream ended, unless it is the one to be taken out."""
        rest = self._splitter.rest()
        return b"" if _only_usage(self._reader.read(Event(rest))) else rest


def _only_usage(document: Any) -> bool:
    return isinstance(document, dict) and document.get("choices") == [] and isinstance(document.get("usage"), dict)
