"""Answers: splitters, decoders, the stripper and the readers of every wire format, of any bytes in any chunking."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable
from decimal import Decimal

import brotli

from policy.model import Rate, UsageSource
from policy.pricing import charge
from proxy.metering import UsageStripper, reader_for
from proxy.metering.base import Metered
from proxy.metering.decode import Decoder, Undecodable, zstd
from proxy.metering.jsonarray import ArraySplitter
from proxy.metering.quantities import QUANTITY_MAX
from proxy.metering.sse import LATE_LF, Event, EventSplitter
from tests.fuzz.material import BOUND, pieces, small_bounds

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n?")


def fuzz_events(data: bytes) -> None:
    """No byte is lost, no more than the bound is held, and the events are those of the specification, however cut."""
    with small_bounds():
        whole, cut = _events([data]), _events(pieces(data))
    assert b"".join(event.raw for event in whole) == b"".join(event.raw for event in cut) == data
    short = [_short(events) for events in (whole[:-1], cut[:-1])]
    assert short[0] == short[1]
    if data.rfind(_BOM) <= 0 and all(event.whole for event in whole):
        assert [fields for fields in short[0] if any(fields)] == _by_the_book(data.removeprefix(_BOM))


def _events(chunks: Iterable[bytes]) -> list[Event]:
    splitter = EventSplitter()
    found = []
    for chunk in chunks:
        found += splitter.feed(chunk)
        assert len(splitter.rest()) <= BOUND
    return [*found, Event(splitter.rest())]


def _short(events: list[Event]) -> list[tuple[bytes, bytes]]:
    """The fields of those that no late LF can push over the bound."""
    return [
        event.fields()
        for event in events
        if event is not LATE_LF and event.whole and _is_short(_LINE_END.sub(b"\n", event.raw))
    ]


def _is_short(text: bytes) -> bool:
    return len(text.removeprefix(_BOM).strip(b"\n")) < BOUND // 2


def _by_the_book(data: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    *complete, _ = _LINE_END.sub(b"\n", data).split(b"\n\n")
    for block in complete:
        fields = [line.partition(b":") for line in block.split(b"\n")]
        texts = [value.removeprefix(b" ") for name, _, value in fields if name == b"data"]
        names = [value.removeprefix(b" ") for name, _, value in fields if name == b"event"]
        event = (names[-1] if names else b"", b"\n".join(texts))
        if any(event) and _is_short(block):
            found.append(event)
    return found


def fuzz_array(data: bytes) -> None:
    """The elements of any array, however cut, with no more held than the bound; of no array anything but an error."""
    with small_bounds():
        elements, closed = _elements([data])
        assert (elements, closed) == _elements(pieces(data))
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(document, list) and None not in elements:
        assert closed
        assert [json.loads(element) for element in elements if element] == [
            element for element in document if isinstance(element, (list, dict))
        ]


def _elements(chunks: Iterable[bytes]) -> tuple[list[bytes | None], bool]:
    splitter = ArraySplitter()
    found: list[bytes | None] = []
    for chunk in chunks:
        found += splitter.feed(chunk)
        assert len(splitter.rest()) <= BOUND
    return found, splitter.closed


CODINGS = (
    "gzip",
    "deflate",
    "br",
    "zstd",
    "gzip, br",
    "x-gzip, identity",
    "zstd, deflate, gzip",
    "what",
    "gzip,gzip,gzip,br",
)
_ENCODE = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress}


def fuzz_decoder(data: bytes) -> None:
    """What no encoder wrote is Undecodable or some bytes, in bounded pieces, the same however cut; what one wrote comes
    back.
    """
    coding, data = CODINGS[data[0] % len(CODINGS)] if data else "gzip", data[1:]
    assert _decoded(coding, [data]) == _decoded(coding, pieces(data))
    if coding in _ENCODE:
        encoded = _ENCODE[coding](data)
        assert _decoded(coding, pieces(encoded)) == data


def _decoded(coding: str, chunks: Iterable[bytes]) -> bytes | None:
    try:
        decoder = Decoder(coding)
        found = [piece for chunk in chunks for piece in decoder.feed(chunk)]
    except Undecodable:
        return None
    assert all(len(piece) <= 65536 for piece in found)
    return b"".join(found)


def fuzz_stripper(data: bytes) -> None:
    """What is passed on is what came, without the events that tell usage and nothing else."""
    with small_bounds():
        passed = [_stripped([data]), _stripped(pieces(data))]
        events = _events([data])
    assert passed[0] == passed[1]
    at = 0
    for event in events:
        if passed[0].startswith(event.raw, at):
            at += len(event.raw)
        else:
            told = json.loads((event.fields()[1] or event.raw).decode("utf-8-sig", "replace"))
            assert told["choices"] == []
            assert isinstance(told["usage"], dict)
    assert at == len(passed[0])


def _stripped(chunks: Iterable[bytes]) -> bytes:
    stripper = UsageStripper()
    return b"".join([*(stripper.feed(chunk) for chunk in chunks), stripper.flush()])


SOURCES = (
    UsageSource("seconds", "response", "result.seconds"),
    UsageSource("units", "header", "x-units"),
    UsageSource("frames", "request", "/options/0/frames"),
)
_SSE, _JSON = "text/event-stream", "application/json"
# (meter, path, content type, status, sources)
CASES = (
    ("openai", "/v1/chat/completions", _SSE, 200, ()),
    ("openai", "/v1/chat/completions", _JSON, 200, ()),
    ("openai", "/v1/responses", _SSE, 200, ()),
    ("openai", "/v1/responses", _JSON, 429, ()),
    ("openai", "/v1/embeddings", _JSON, 200, ()),
    ("openai", "/v1/images/generations", _JSON, 200, ()),
    ("openai", "/v1/audio/transcriptions", _JSON, 200, ()),
    ("openai", "/v1/moderations", _JSON, 200, ()),
    ("groq", "/openai/v1/chat/completions", _SSE, 200, ()),
    ("groq", "/openai/v1/audio/translations", "text/plain", 200, ()),
    ("openrouter", "/api/v1/chat/completions", _JSON, 200, ()),
    ("mistral", "/v1/chat/completions", _JSON, 200, ()),
    ("anthropic", "/v1/messages", _SSE, 200, ()),
    ("anthropic", "/v1/messages", _JSON, 200, ()),
    ("anthropic", "/v1/messages/count_tokens", _JSON, 200, ()),
    ("gemini", "/v1/models/g:generateContent", _JSON, 200, ()),
    ("gemini", "/v1/models/g:streamGenerateContent", _JSON, 200, ()),
    ("gemini", "/v1/models/g:streamGenerateContent", _SSE, 200, ()),
    ("bedrock", "/model/anthropic.x/converse", _JSON, 200, ()),
    ("bedrock", "/model/meta.x/invoke", _JSON, 200, ()),
    ("cohere", "/v2/chat", _JSON, 200, ()),
    ("cohere", "/v1/chat", _SSE, 200, ()),
    ("mcp", "/mcp", _JSON, 200, ()),
    ("mcp", "/mcp", _SSE, 200, ()),
    (None, "/render", _JSON, 200, SOURCES),
    (None, "/render", _SSE, 500, SOURCES[:1]),
    ("openai", "/v1/chat/completions", _SSE, 200, SOURCES[:1]),
    (None, "/elsewhere", "image/png", 200, SOURCES[2:]),
)
RATES = tuple(
    Rate(f"{kind}_rate", kind, nano, per, tiers)
    for kind, nano, per, tiers in (
        ("input_tokens", 2_500_000_000, 1_000_000, ((200_000, 5_000_000_000),)),
        ("cache_read_tokens", 1_250_000_000, 1_000_000, ()),
        ("output_tokens", 10_000_000_000, 1_000_000, ()),
        ("output_reasoning_tokens", 3, 1_000_000, ()),
        ("input_audio_seconds", 100_000, 1, ()),
        ("seconds", 7, 1, ()),
        ("cost", 1_000_000_000, 1, ()),
        ("request", 1, 1, ()),
    )
)


def fuzz_reader(data: bytes) -> None:
    """Usage is quantities within bounds that can be charged, or None; the same however the answer is cut."""
    case, data = CASES[data[0] % len(CASES)] if data else CASES[0], data[1:]
    with small_bounds():
        metered = _metered(case, "", [data])
        assert metered == _metered(case, "", pieces(data))
        assert metered == _metered(case, "gzip", pieces(gzip.compress(data)))
    assert metered.seen >= 0
    if metered.usage is not None:
        for quantity in metered.usage.values():
            assert type(quantity) in (int, Decimal)
            assert 0 <= quantity <= QUANTITY_MAX
        assert charge(RATES, metered.usage) >= 0


def _metered(
    case: tuple[str | None, str, str, int, tuple[UsageSource, ...]], coding: str, chunks: Iterable[bytes]
) -> Metered:
    meter, path, kind, status, sources = case
    request = {"id": 1, "input": "text", "model": "tts-1", "options": [{"frames": 3}]}
    reader = reader_for(meter, path, status, kind, coding, sources, [(b"x-units", b"2.50")], request)
    for chunk in chunks:
        reader.feed(chunk)
    return reader.finish()
