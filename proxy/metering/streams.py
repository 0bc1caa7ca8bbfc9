"""Readers of answers that come in many documents: server-sent events, JSON arrays, JSON lines."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, Final

from proxy.metering.account import Account
from proxy.metering.base import Metered
from proxy.metering.jsonarray import ArraySplitter
from proxy.metering.jsonlines import LineSplitter
from proxy.metering.mold import Mold
from proxy.metering.quantities import document_of
from proxy.metering.seen import Seen
from proxy.metering.sse import BLANK, Event, EventSplitter

BATCH: Final = 16 * 1024  # bytes of a stream that may wait to be read, and to be counted: an answer often has no more

_KEYS_HELD: Final = 256
_ERROR: Final = re.compile(b"error")


def quoted(key: str) -> bytes:
    """A key as JSON writes it."""
    return json.dumps(key).encode()


class Marks:
    """How documents look that may carry usage under one of the ``keys``, or an error, before they are parsed."""

    __slots__ = ("_keys", "_telling")

    def __init__(self, keys: tuple[str, ...]) -> None:
        names = [quoted(key) for key in keys]
        stated = b"|".join(map(re.escape, names))
        self._telling = re.compile(rb'(?:%s)\s*:\s*[^\sn]|"error"\s*:\s*["{]|"type"\s*:\s*"error"' % stated)
        # Most chunks of OpenAI's say `"usage":null`.
        self._keys = [(name, re.compile(re.escape(name) + b"(?!: ?null)")) for name in names] + [(b"error", _ERROR)]

    def places(self, text: bytes) -> list[int]:
        """Where it is that documents, of which the text holds some, may be worth parsing."""
        found: list[int] = []
        for name, stated in self._keys:
            if text.find(name) >= 0:  # which takes half the time of `in`
                found += [place.start() for place in stated.finditer(text)]
        if len(found) > 1:
            found.sort()
        return found

    def told(self, data: bytes) -> bool:
        """Whether one document is worth parsing."""
        return self._telling.search(data) is not None


_marks = lru_cache(_KEYS_HELD)(Marks)


class Documents:
    """The documents of a stream. Only those that may carry usage, or an error, are parsed; the output of all of them is
    counted, though only where the stream breaks off, or is long.
    """

    __slots__ = ("_account", "_marks", "_seen", "_uncounted")

    def __init__(self, account: Account) -> None:
        tally = account.tally
        self._account = account
        self._marks: Marks = _marks(account.keys)
        self._seen = Seen(tally.facts.path if tally else "") if tally is None or tally.generates else None
        self._uncounted = bytearray()

    def note(self, raw: bytes) -> bool:
        """Count the output of one document, as it came; whether it may be worth parsing."""
        if self._seen is not None:
            self._seen.add(raw)
        return bool(self._marks.places(raw))

    def note_all(self, run: bytes) -> list[int]:
        """Count the output of a run of events, if ever it matters; the places of those that may be worth parsing."""
        if self._seen is not None:
            self._uncounted += run
            if len(self._uncounted) > BATCH:
                self._count()
        return self._marks.places(run)

    def mold_of(self, run: bytes) -> Mold | None:
        return self._seen.mold_of(run) if self._seen is not None else None

    def add_words(self, size: int) -> None:
        if self._seen is not None:
            self._seen.add_words(size)

    def skipped(self) -> None:
        self._account.flag("event_skipped")

    def read(self, data: bytes, *, error: bool = False) -> Any:
        """Take one document into account; its JSON, or None where it had no need to be parsed. ``error``: it is one by
        the name of its event.
        """
        if not error and not self._marks.told(data):
            return None
        document = document_of(data, exact=self._account.exact)
        if not self._account.read(document) and (error or _is_error(document)):
            self._account.stream_error()
        elif document is None:
            self._account.unreadable = True
        return document

    def metered(self) -> Metered:
        return self._account.metered(self._tokens)

    def _tokens(self) -> int:
        self._count()
        return self._seen.tokens if self._seen else 0

    def _count(self) -> None:
        if self._seen is not None and self._uncounted:
            self._seen.add_run(bytes(self._uncounted))
            self._uncounted.clear()


class StreamReader:
    """Server-sent events. They are read in batches, as nobody waits for what they say."""

    __slots__ = ("_documents", "_unread", "splitter")

    def __init__(self, account: Account) -> None:
        self.splitter = EventSplitter()
        self._documents = Documents(account)
        self._unread = bytearray()

    def feed(self, chunk: bytes) -> None:
        self._unread += chunk
        if len(self._unread) > BATCH:
            self._read_on()

    def _read_on(self) -> None:
        batch = bytes(self._unread)
        self._unread.clear()
        run = self.splitter.run(batch)
        if run is not None:
            self.read_at(run, self.note(run))
            return
        for event in self.splitter.feed(batch):
            self.read(event)

    def note(self, run: bytes) -> list[int]:
        """Count the events of one of the splitter's runs; the places of those that have to be read."""
        return self._documents.note_all(run)

    def read_at(self, run: bytes, places: list[int]) -> list[tuple[int, int, Any]]:
        """Take those events into account; where each begins and ends, and its JSON if there was a need to parse it."""
        read, end = [], 0
        for place in places:
            if place >= end:
                before = run.rfind(BLANK, end, place)
                begin = end if before < 0 else before + len(BLANK)
                end = run.index(BLANK, place) + len(BLANK)
                read.append((begin, end, self._parsed(run[begin:end])))
        return read

    def mold_of(self, run: bytes) -> Mold | None:
        """The mold of a run without such places, if it is one event with words: all events of that mold have none."""
        return self._documents.mold_of(run)

    def passes(self, chunk: bytes, mold: Mold) -> bool:
        """Whether the chunk, where the last one ended with an event, is one event of that mold: it is then read."""
        words = mold.words(chunk)
        if words < 0:
            return False
        self._documents.add_words(words)
        return True

    def read(self, event: Event) -> Any:
        """Take one event into account; its JSON, or None where it had no need to be parsed."""
        if not event.whole:
            self._documents.skipped()
            return None
        return self._parsed(event.raw) if self._documents.note(event.raw) else None

    def _parsed(self, raw: bytes) -> Any:
        name, data = Event(raw).fields()
        if not data and raw.startswith(b"{"):
            data = raw  # an error of Gemini's halfway may come as bare JSON
        return self._documents.read(data, error=name == b"error")

    def finish(self) -> Metered:
        if self._unread:
            self._read_on()
        self.read(Event(self.splitter.rest()))
        return self._documents.metered()


class ElementReader:
    """The elements of one JSON array, or the lines of a stream."""

    __slots__ = ("_account", "_documents", "_splitter")

    def __init__(self, account: Account, splitter: ArraySplitter | LineSplitter) -> None:
        self._account = account
        self._splitter = splitter
        self._documents = Documents(account)

    def feed(self, chunk: bytes) -> None:
        for element in self._splitter.feed(chunk):
            if element is None:
                self._documents.skipped()
            elif self._documents.note(element):
                self._documents.read(element)

    def finish(self) -> Metered:
        rest = self._splitter.rest()
        if self._documents.note(rest):
            self._documents.read(rest)
        if not self._splitter.closed:
            self._account.unreadable = True
        return self._documents.metered()


def _is_error(document: Any) -> bool:
    if not isinstance(document, dict):
        return False
    error = document.get("error")
    return isinstance(error, dict) or (isinstance(error, str) and error != "") or document.get("type") == "error"
