"""Usage readers: a copy of an answer's bytes in, what it used out. One for each way an answer comes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from policy.model import UsageSource
from proxy.metering.base import Facts, Metered, Tally, Usage, UsageReader
from proxy.metering.decode import Decoder, Undecodable
from proxy.metering.formats import promises_usage, tally_for, wire_format
from proxy.metering.jsonarray import ArraySplitter
from proxy.metering.jsonlines import LINES, LineSplitter
from proxy.metering.quantities import QUANTITY_MAX, Unreadable, document_of
from proxy.metering.seen import Seen
from proxy.metering.sources import Measure, Sources, measures_nothing
from proxy.metering.sse import Event, EventSplitter

BODY_MAX = 32 * 1024 * 1024
LARGE = 1024 * 1024  # bytes of JSON (embeddings) whose end is read first: parsing it all would hold up other calls
TAIL = 64 * 1024

_TRIES_MAX = 8
_BOM = b"\xef\xbb\xbf"
_FIELDS = (b":", b"d", b"e", b"i", b"r")  # of events (a comment, data, event, id, retry): no JSON begins so


def reader_for(
    meter: str | None,
    path: str,
    status: int,
    content_type: str,
    content_encoding: str,
    sources: tuple[UsageSource, ...] = (),
    headers: Sequence[tuple[bytes, bytes]] = (),
    request_body: Any = None,
    measure: Measure = measures_nothing,
) -> UsageReader:
    """The reader of one answer. ``meter`` is the upstream's, None: told by the path. ``headers`` are the answer's,
    ``request_body`` is the request's parsed JSON: what ``sources`` may name, beside what ``measure`` says at the end.
    """
    account = Account(
        tally=tally_for(wire_format(meter, path), Facts(path, request_body, headers)),
        sources=Sources(sources, headers, request_body, measure),
        promised=promises_usage(path),
        failed=status >= 400,
    )
    kind = content_type.partition(";")[0].strip().lower()
    reader: UsageReader
    if not account.keys:
        return UnreadBody(account)
    if kind == "text/event-stream":
        reader = StreamReader(account)
    elif LINES.search(kind):
        reader = ElementReader(account, LineSplitter())
    elif not kind or "json" in kind or kind.startswith("text/"):
        reader = BodyReader(account) if account.tally is None else JsonReader(account)
    else:
        return UnreadBody(account)
    if content_encoding.strip().lower() in ("", "identity"):
        return reader
    try:
        return DecodingReader(reader, Decoder(content_encoding), account)
    except Undecodable:
        account.unreadable = True
        return UnreadBody(account)


class Account:
    """What one answer said it used: by its wire format, and by its rule's own sources. ``promised``: an answer to this
    path has usage in its wire format, or what it used is not known.
    """

    def __init__(self, tally: Tally | None, sources: Sources, *, promised: bool, failed: bool) -> None:
        self.tally = tally
        self.sources = sources
        self.keys = (tally.keys if tally else ()) + sources.keys
        self.exact = bool(sources.keys) or (tally is not None and tally.exact)
        self.unreadable = False
        self.broken = False  # no more can be read, though there was more
        self._required = tally is not None and promised
        self._failed = failed
        self._final = False
        self._flags: list[str] = []

    def read(self, document: Any, *, whole: bool = False) -> bool:
        """Whether the document told the answer's final usage. ``whole``: no other will follow."""
        if not isinstance(document, dict):
            return False
        self.sources.read(document)
        told = self.tally is not None and self.tally.read(document)
        self._final = self._final or told or whole
        return told

    def stream_error(self) -> None:
        self._final = False
        if not self._failed:
            self.flag("stream_error")

    def flag(self, name: str) -> None:
        if name not in self._flags:
            self._flags.append(name)

    def metered(self, seen: int = 0) -> Metered:
        """``seen`` tokens came of a stream: told where it didn't come to its end."""
        usage, final = self._usage()
        if usage is not None and any(quantity > QUANTITY_MAX for quantity in usage.values()):
            self.flag("usage_clamped")
            usage = {unit: min(quantity, QUANTITY_MAX) for unit, quantity in usage.items()}
        if usage and not any(usage.values()):
            self.flag("usage_zero")
        if usage is None and self.unreadable and not self._failed:
            self.flag("unreadable")
        partial = usage is not None and (self.broken or not final)
        if usage is not None and not partial:
            seen = 0
        if self.tally is None:
            return Metered(usage, None, partial, tuple(self._flags), seen=seen)
        flags = (*self._flags, *self.tally.flags)
        return Metered(usage, self.tally.model, partial, flags, self.tally.terms, seen)

    def _usage(self) -> tuple[Usage | None, bool]:
        """What all told together (None: one that has to didn't), and whether that is the last word."""
        try:
            told = self.tally.usage() if self.tally else None
            own = self.sources.usage()
        except Unreadable:
            self.unreadable = True
            return None, False
        if own is None:
            return None, False
        if told is not None:
            return {**told, **own}, self._final
        implied = self.tally.implied() if self.tally and not self._failed and not self._flags else None
        if implied is not None:
            return {**implied, **own}, True
        # What the request alone says is not what a failed answer used.
        known = own and not self._required and (self.sources.said_by_answer or not self._failed)
        return (own, True) if known else (None, False)


class UnreadBody:
    """For an answer whose body says nothing that is asked for, or nothing that can be read."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def feed(self, chunk: bytes) -> None:
        """Nothing is kept."""

    def finish(self) -> Metered:
        return self._account.metered()


class JsonReader:
    """An answer in JSON: one document, or an array of them, as they come in a stream of Gemini's without `alt=sse`; or
    server-sent events that the server calls JSON.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._head = b""
        self._reader: UsageReader | None = None

    def feed(self, chunk: bytes) -> None:
        if self._reader is None:
            self._head = chunk = (self._head + chunk).removeprefix(_BOM).lstrip()
            if _BOM.startswith(chunk):
                return
            self._reader = self._chosen(chunk[:1])
        self._reader.feed(chunk)

    def finish(self) -> Metered:
        return (self._reader or UnreadBody(self._account)).finish()

    def _chosen(self, first: bytes) -> UsageReader:
        if first in _FIELDS:
            return StreamReader(self._account)
        return ElementReader(self._account, ArraySplitter()) if first == b"[" else BodyReader(self._account)


class BodyReader:
    """One JSON document: kept whole up to BODY_MAX, of a larger one only its end."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._kept = bytearray()
        self._cut = False

    def feed(self, chunk: bytes) -> None:
        self._kept += chunk
        if len(self._kept) > (2 * TAIL if self._cut else BODY_MAX):
            self._cut = True
            del self._kept[:-TAIL]

    def finish(self) -> Metered:
        if self._kept:
            document = self._document()
            self._account.unreadable = document is None
            self._account.read(document, whole=True)
            self._kept.clear()
        return self._account.metered()

    def _document(self) -> Any:
        document = None
        if len(self._kept) > LARGE and not self._account.sources.keys and not self._goes_deep():
            document = self._end()
        if document is None and not self._cut:
            document = document_of(self._kept, exact=self._account.exact)
        return self._end() if document is None else document

    def _goes_deep(self) -> bool:
        tally = self._account.tally
        return tally is not None and any(_quoted(key) in self._kept for key in tally.deep)

    def _end(self) -> Any:
        """The end of the document, from its usage on: `{"usage": …` parses with it only if usage is a key of the
        outermost object. So it is found behind megabytes of vectors, or what is nested too deep to follow.
        """
        if self._account.tally is None:
            return None
        tail = bytes(self._kept[-TAIL:])
        for key in self._account.tally.keys:
            at = len(tail)
            for _ in range(_TRIES_MAX):
                at = tail.rfind(_quoted(key), 0, at)
                if at < 0:
                    break
                document = document_of(b"{" + tail[at:], exact=self._account.exact)
                if document is not None:
                    return document
        return None


class Documents:
    """The documents of a stream. Only those that may carry usage, or an error, are parsed; the output of all of them is
    counted.
    """

    def __init__(self, account: Account) -> None:
        tally = account.tally
        self._account = account
        self._seen = Seen(tally.facts.path if tally else "") if tally is None or tally.generates else None
        keys = [_quoted(key) for key in account.keys]
        self._marks = (*keys, b"error")
        stated = b"|".join(map(re.escape, keys))
        self._telling = re.compile(rb'(?:%s)\s*:\s*[^\sn]|"error"\s*:\s*["{]|"type"\s*:\s*"error"' % stated)

    def note(self, raw: bytes) -> bool:
        """Count the output of one document, as it came; whether it may be worth parsing."""
        if self._seen is not None:
            self._seen.add(raw)
        return any(map(raw.__contains__, self._marks))

    def skipped(self) -> None:
        self._account.flag("event_skipped")

    def read(self, data: bytes, *, error: bool = False) -> Any:
        """Take one document into account; its JSON, or None where it had no need to be parsed. ``error``: it is one by
        the name of its event.
        """
        if not error and not self._telling.search(data):
            return None
        document = document_of(data, exact=self._account.exact)
        if not self._account.read(document) and (error or _is_error(document)):
            self._account.stream_error()
        elif document is None:
            self._account.unreadable = True
        return document

    def metered(self) -> Metered:
        return self._account.metered(self._seen.tokens if self._seen else 0)


class StreamReader:
    """Server-sent events."""

    def __init__(self, account: Account) -> None:
        self.splitter = EventSplitter()
        self._documents = Documents(account)

    def feed(self, chunk: bytes) -> None:
        for event in self.splitter.feed(chunk):
            self.read(event)

    def read(self, event: Event) -> Any:
        """Take one event into account; its JSON, or None where it had no need to be parsed."""
        if not event.whole:
            self._documents.skipped()
            return None
        if not self._documents.note(event.raw):
            return None
        name, data = event.fields()
        if not data and event.raw.startswith(b"{"):
            data = event.raw  # an error of Gemini's halfway may come as bare JSON
        return self._documents.read(data, error=name == b"error")

    def finish(self) -> Metered:
        self.read(Event(self.splitter.rest()))
        return self._documents.metered()


class ElementReader:
    """The elements of one JSON array, or the lines of a stream."""

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


class DecodingReader:
    """Undoes the Content-Encoding of the copy that another reader reads."""

    def __init__(self, reader: UsageReader, decoder: Decoder, account: Account) -> None:
        self._reader = reader
        self._decoder = decoder
        self._account = account

    def feed(self, chunk: bytes) -> None:
        if self._account.broken:
            return
        try:
            for piece in self._decoder.feed(chunk):
                self._reader.feed(piece)
        except Undecodable:
            self._account.broken = True
            self._account.unreadable = True

    def finish(self) -> Metered:
        return self._reader.finish()


def _quoted(key: str) -> bytes:
    return json.dumps(key).encode()


def _is_error(document: Any) -> bool:
    if not isinstance(document, dict):
        return False
    error = document.get("error")
    return isinstance(error, dict) or (isinstance(error, str) and error != "") or document.get("type") == "error"
