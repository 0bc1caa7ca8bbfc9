"""Usage readers: a copy of an answer's bytes in, what it used out. One for each way an answer comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

from policy.model import UsageSource
from proxy.metering.account import NO_SOURCES, Account
from proxy.metering.base import Facts, Metered, UsageReader
from proxy.metering.decode import Decoder, Undecodable
from proxy.metering.formats import promises_usage, tally_for, wire_format
from proxy.metering.jsonarray import ArraySplitter
from proxy.metering.jsonlines import LINES, LineSplitter
from proxy.metering.quantities import document_of
from proxy.metering.sources import Measure, Sources, measures_nothing
from proxy.metering.streams import ElementReader, StreamReader, quoted

BODY_MAX = 32 * 1024 * 1024
LARGE = 1024 * 1024  # bytes of JSON (embeddings) whose end is read first: parsing it all would hold up other calls
SMALL = 4 * 1024  # bytes of JSON that are built as soon as not
TAIL = 64 * 1024

_TRIES_MAX = 8
_KINDS_HELD: Final = 256
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
        tally_for(wire_format(meter, path), Facts(path, request_body, headers)),
        Sources(sources, headers, request_body, measure) if sources else NO_SOURCES,
        promised=promises_usage(path),
        failed=status >= 400,
    )
    made = _reader_of(content_type)
    if made is None or not account.keys:
        return UnreadBody(account)
    if not content_encoding or content_encoding.strip().lower() in ("", "identity"):
        return made(account)
    try:
        return DecodingReader(made(account), Decoder(content_encoding), account)
    except Undecodable:
        account.unreadable = True
        return UnreadBody(account)


@lru_cache(_KINDS_HELD)
def _reader_of(content_type: str) -> Callable[[Account], UsageReader] | None:
    """What reads answers of that content type; None: nothing does."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return StreamReader
    if LINES.search(kind):
        return _lines_reader
    return _text_reader if not kind or "json" in kind or kind.startswith("text/") else None


def _lines_reader(account: Account) -> UsageReader:
    return ElementReader(account, LineSplitter())


def _text_reader(account: Account) -> UsageReader:
    return BodyReader(account) if account.tally is None else JsonReader(account)


class UnreadBody:
    """For an answer whose body says nothing that is asked for, or nothing that can be read."""

    __slots__ = ("_account",)

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

    __slots__ = ("_account", "_head", "_reader")

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

    __slots__ = ("_account", "_cut", "_kept")

    def __init__(self, account: Account) -> None:
        self._account = account
        self._kept: bytes | bytearray = b""
        self._cut = False

    def feed(self, chunk: bytes) -> None:
        if not self._kept:
            kept: bytes | bytearray = chunk  # all of it, most often: not worth a copy
        else:
            kept = bytearray(self._kept) if isinstance(self._kept, bytes) else self._kept
            kept += chunk
        if len(kept) > (2 * TAIL if self._cut else BODY_MAX):
            self._cut = True
            kept = bytearray(kept[-TAIL:])
        self._kept = kept

    def finish(self) -> Metered:
        if self._kept:
            document = self._document()
            self._account.unreadable = document is None
            self._account.read(document, whole=True)
            self._kept = b""
        return self._account.metered()

    def _document(self) -> Any:
        document = None
        account, kept = self._account, self._kept
        if len(kept) > LARGE and not account.sources.keys and not self._goes_deep():
            document = self._end()
        if document is None and not self._cut:
            document = document_of(kept, exact=account.exact, shape=self._shape())
        return self._end() if document is None else document

    def _shape(self) -> type[Struct] | None:
        """What of the document is worth building, where that saves time."""
        account = self._account
        if account.tally is None or account.sources.keys or len(self._kept) < SMALL:
            return None
        return account.tally.shape

    def _goes_deep(self) -> bool:
        tally = self._account.tally
        return tally is not None and any(quoted(key) in self._kept for key in tally.deep)

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
                at = tail.rfind(quoted(key), 0, at)
                if at < 0:
                    break
                document = document_of(b"{" + tail[at:], exact=self._account.exact)
                if document is not None:
                    return document
        return None


class DecodingReader:
    """Undoes the Content-Encoding of the copy that another reader reads."""

    __slots__ = ("_account", "_decoder", "_reader")

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
