"""The one rewriting on by default: an OpenAI stream that didn't ask for its usage is asked for it, unseen."""

from __future__ import annotations

from typing import Any

from proxy.metering.openai import OpenAITally
from proxy.metering.reader import Account, StreamReader
from proxy.metering.sources import Sources
from proxy.metering.sse import LATE_LF, Event
from proxy.rewriting import written


def ask_for_usage(path: str, raw: bytes, body: Any) -> bytes | None:
    """The request's body with `stream_options.include_usage`; None where there is nothing to ask, or it is asked.

    ``body`` is ``raw`` parsed. All but that option stays byte for byte as it was written.
    """
    if not path.endswith("/completions") or not isinstance(body, dict) or body.get("stream") is not True:
        return None
    options = body.get("stream_options")
    if options is not None and (not isinstance(options, dict) or options.get("include_usage") is True):
        return None
    return written(raw, [(("stream_options", "include_usage"), True)])


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
