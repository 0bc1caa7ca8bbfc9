"""Content-Encoding of the copy that is metered: gzip, deflate, br and zstd, in bounded memory."""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Final, Protocol

import brotli  # type: ignore[import-untyped]  # it has no stubs

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DECODED_MAX = 256 * 1024 * 1024  # bytes out of one answer: past it, its usage is not worth the time
LAYERS_MAX = 3

_PIECE = 64 * 1024
_ACCEPTED_HELD: Final = 64  # a client may send anything, and most send one of a few
_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's wbits
# 8 MiB: all that HTTP allows (RFC 9659)
_ZSTD_OPTIONS: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: 23}
_ACCEPTED = re.compile(
    r"\s*(gzip|x-gzip|deflate|br|zstd|identity)\s*(?:;\s*q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*)?", re.I | re.A
)


class Undecodable(ValueError):
    """The bytes are not in the encoding they claim, or decode to more than DECODED_MAX."""


@lru_cache(_ACCEPTED_HELD)
def decodable(accept_encoding: str | None) -> str:
    """The client's Accept-Encoding, limited to what can be metered; ``identity`` where nothing is left.

    No header means identity too: it says that anything will do, which not every such client could read.
    """
    accepted: dict[str, str | None] = {}
    for entry in (accept_encoding or "").split(","):
        if found := _ACCEPTED.fullmatch(entry):
            accepted.setdefault(found[1].lower(), found[2])
    if all(quality is not None and float(quality) == 0 for quality in accepted.values()):
        return "identity"
    return ", ".join(coding if quality is None else f"{coding};q={quality}" for coding, quality in accepted.items())


class Decoder:
    """Undoes the encodings named by a Content-Encoding header, in their order."""

    def __init__(self, content_encoding: str) -> None:
        """Raises Undecodable for an encoding it doesn't know, and for more than LAYERS_MAX."""
        codings = [coding.strip().lower() for coding in content_encoding.split(",")]
        codings = [coding for coding in codings if coding not in ("", "identity")]
        if len(codings) > LAYERS_MAX or not all(coding in _LAYERS for coding in codings):
            raise Undecodable
        self._layers = [_LAYERS[coding]() for coding in reversed(codings)]
        self._left = DECODED_MAX

    def feed(self, chunk: bytes, depth: int = 0) -> Iterator[bytes]:
        """The decoded bytes, in pieces of at most 64 KiB. Raises Undecodable; it is then of no more use."""
        if depth == len(self._layers):
            yield chunk
            return
        try:
            for piece in self._layers[depth].feed(chunk):
                self._left -= len(piece)
                if self._left < 0:
                    raise Undecodable
                yield from self.feed(piece, depth + 1)
        except (zlib.error, brotli.error, zstd.ZstdError) as error:
            raise Undecodable from error


class _Layer(Protocol):
    def feed(self, chunk: bytes) -> Iterator[bytes]: ...


class _Zlib:
    def __init__(self, wbits: int | None) -> None:
        """``wbits`` None: deflate, which some send in zlib's wrapping and some without; its first two bytes tell."""
        self._wbits = wbits
        self._head = b""
        self._inflater = None if wbits is None else zlib.decompressobj(wbits)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        if self._inflater is None:
            self._head += chunk
            if len(self._head) < 2:
                return
            chunk = self._head
            wrapped = chunk[0] & 15 == 8 and int.from_bytes(chunk[:2]) % 31 == 0
            self._inflater = zlib.decompressobj(_ZLIB if wrapped else _RAW)
        more = bool(chunk)
        while more:
            if self._inflater.eof and not self._next_member(chunk):
                return
            piece = self._inflater.decompress(chunk, _PIECE)
            if piece:
                yield piece
            chunk = self._inflater.unused_data or self._inflater.unconsumed_tail
            # zlib may hold more, though all its input is consumed
            more = bool(chunk) or (len(piece) == _PIECE and not self._inflater.eof)

    def _next_member(self, chunk: bytes) -> bool:
        """A gzip file may have several members; what else follows its end is no part of it."""
        if self._wbits != _GZIP or not chunk.startswith(b"\x1f"):
            self._wbits = None
            return False
        self._inflater = zlib.decompressobj(_GZIP)
        return True


class _Brotli:
    def __init__(self) -> None:
        self._decompressor = brotli.Decompressor()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        # The limit is where its buffer stops growing, and it grows by doubling blocks of 32 KiB.
        while piece := self._decompressor.process(chunk, output_buffer_limit=_PIECE // 4):
            yield piece
            chunk = b""


class _Zstd:
    def __init__(self) -> None:
        self._decompressor = self._frame()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        more = bool(chunk)
        while more:
            if self._decompressor.eof:  # another frame follows
                self._decompressor = self._frame()
            if piece := self._decompressor.decompress(chunk, _PIECE):
                yield piece
            chunk = self._decompressor.unused_data
            more = bool(chunk) if self._decompressor.eof else not self._decompressor.needs_input

    @staticmethod
    def _frame() -> zstd.ZstdDecompressor:
        return zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)


_LAYERS: Final[Mapping[str, Callable[[], _Layer]]] = MappingProxyType(
    {
        "gzip": partial(_Zlib, _GZIP),
        "x-gzip": partial(_Zlib, _GZIP),
        "deflate": partial(_Zlib, None),
        "br": _Brotli,
        "zstd": _Zstd,
    }
)
