from __future__ import annotations

import gzip
import tracemalloc
import zlib

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.metering import decode
from proxy.metering.decode import Decoder, Undecodable, decodable, zstd


def raw_deflate(text):
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(text) + compressor.flush()


def packed(text: bytes) -> bytes:
    """Without the time: the tests' names hold it, and must be the same in each process that runs them."""
    return gzip.compress(text, mtime=0)


def decoded(encoding, *chunks):
    decoder = Decoder(encoding)
    return b"".join(piece for chunk in chunks for piece in decoder.feed(chunk))


TEXT = b'{"usage": {"prompt_tokens": 1}}' * 50
SKIPPABLE = b"\x50\x2a\x4d\x18\x03\0\0\0abc"  # a frame of zstd's that holds no content
ENCODED = [
    ("", TEXT),
    ("identity", TEXT),
    ("gzip", packed(TEXT)),
    ("X-GZIP", packed(TEXT)),
    ("gzip", packed(TEXT[:100]) + packed(b"") + packed(TEXT[100:])),
    ("gzip", packed(TEXT) + b"\0\0 padding"),
    ("deflate", zlib.compress(TEXT)),
    ("deflate", raw_deflate(TEXT)),
    ("br", brotli.compress(TEXT)),
    ("zstd", zstd.compress(TEXT)),
    ("zstd", zstd.compress(TEXT[:100]) + zstd.compress(b"") + SKIPPABLE + zstd.compress(TEXT[100:])),
    ("gzip, gzip", packed(packed(TEXT))),
    ("br, zstd", zstd.compress(brotli.compress(TEXT))),
    ("deflate,identity , gzip", packed(zlib.compress(TEXT))),
]


@pytest.mark.parametrize(("encoding", "encoded"), ENCODED)
def test_whole_and_one_byte_at_a_time(encoding, encoded):
    assert decoded(encoding, encoded) == TEXT
    assert decoded(encoding, *(encoded[at : at + 1] for at in range(len(encoded)))) == TEXT


def test_what_was_flushed_is_decoded_at_once():
    compressor = zlib.compressobj(wbits=31)
    assert decoded("gzip", compressor.compress(b"event") + compressor.flush(zlib.Z_SYNC_FLUSH)) == b"event"
    compressor = brotli.Compressor()
    assert decoded("br", compressor.process(b"event") + compressor.flush()) == b"event"
    compressor = zstd.ZstdCompressor()
    assert decoded("zstd", compressor.compress(b"event", compressor.FLUSH_BLOCK)) == b"event"


COMPRESS = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstd.compress}


@pytest.mark.parametrize("encoding", COMPRESS)
@pytest.mark.parametrize("size", [16 * 1024, 64 * 1024 * 3, 64 * 1024 * 3 + 1])
def test_output_of_exactly_one_piece_and_more(encoding, size):
    text = b"x" * size
    assert decoded(encoding, COMPRESS[encoding](text)) == text


@pytest.mark.parametrize("encoding", ["compress", "gzip, dcb", "gzip;q=1", "gzip, br, zstd, gzip"])
def test_unknown_encodings_and_too_many_are_undecodable(encoding):
    with pytest.raises(Undecodable):
        Decoder(encoding)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, deflate", "br, zstd"])
def test_other_bytes_than_claimed_are_undecodable(encoding):
    with pytest.raises(Undecodable):
        decoded(encoding, b"\x1f\x8b\x00 plain text")


@pytest.mark.parametrize("encoding", ["br", "zstd"])
def test_bytes_behind_the_end_are_undecodable(encoding):
    with pytest.raises(Undecodable):
        decoded(encoding, COMPRESS[encoding](TEXT), b"more than that")


@settings(deadline=None)
@given(
    st.sampled_from(["gzip", "deflate", "br", "zstd", "gzip, deflate", "br, zstd"]),
    st.lists(st.binary(max_size=40), max_size=5),
)
def test_hostile_bytes_raise_nothing_else(encoding, chunks):
    try:
        decoded(encoding, *chunks)
    except Undecodable:
        pass


class Deflater:
    """zlib's compressor by the words of the other two."""

    def __init__(self):
        self._inner = zlib.compressobj(1, wbits=31)
        self.process, self.finish = self._inner.compress, self._inner.flush


class Zstandard:
    def __init__(self, **options):
        self._inner = zstd.ZstdCompressor(
            options={zstd.CompressionParameter[name]: value for name, value in options.items()}
        )
        self.process, self.finish = self._inner.compress, self._inner.flush


COMPRESSORS = {"gzip": Deflater, "br": lambda: brotli.Compressor(quality=2), "zstd": Zstandard}


def bomb(megabytes, encoding="gzip"):
    compressor = COMPRESSORS[encoding]()
    block = bytes(1024 * 1024)
    return b"".join([compressor.process(block) for _ in range(megabytes)]) + compressor.finish()


@pytest.mark.parametrize("encoding", COMPRESSORS)
def test_hazard_21_a_bomb_is_decoded_in_bounded_memory(encoding):
    packed = bomb(200, encoding)
    decoder = Decoder(encoding)
    sizes = [0, 0]
    tracemalloc.start()
    try:
        for piece in decoder.feed(packed):
            sizes = [sizes[0] + len(piece), max(sizes[1], len(piece))]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sizes[0] == 200 * 1024 * 1024
    assert sizes[1] <= 64 * 1024
    assert peak < 4 * 1024 * 1024


def test_hazard_21_a_zstd_window_that_http_does_not_allow_is_not_made():
    for window_log, readable in ((23, True), (24, False)):
        compressor = Zstandard(window_log=window_log)
        packed = compressor.process(TEXT) + compressor.finish()
        if readable:
            assert decoded("zstd", packed) == TEXT
        else:
            with pytest.raises(Undecodable):
                decoded("zstd", packed)


def test_hazard_21_a_bomb_within_a_bomb_is_given_up_early(monkeypatch):
    monkeypatch.setattr(decode, "DECODED_MAX", 8 * 1024 * 1024)
    pieces = Decoder("gzip, gzip").feed(gzip.compress(bomb(32)))
    seen: list[int] = []
    with pytest.raises(Undecodable):
        seen.extend(map(len, pieces))
    assert sum(seen) <= 8 * 1024 * 1024


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (None, "identity"),
        ("", "identity"),
        ("identity", "identity"),
        ("gzip, deflate, br, zstd", "gzip, deflate, br, zstd"),
        ("compress, br;q=1.0, *;q=0.1", "br;q=1.0"),
        ("dcb, dcz", "identity"),
        ("*", "identity"),
        ("GZIP ; Q=0.5 , identity; q=0.250", "gzip;q=0.5, identity;q=0.250"),
        ("gzip;q=0", "identity"),
        ("gzip;q=0.000, deflate;q=0", "identity"),
        ("gzip;q=0, deflate", "gzip;q=0, deflate"),
        ("gzip, identity;q=0", "gzip, identity;q=0"),
        ("gzip;q=2, deflate;q=-1, identity;q=x", "identity"),
        ("gzip;q=nan, deflate;q=0.1234", "identity"),
        ("gzip, gzip;q=0", "gzip"),
        ("gzip;level=9", "identity"),
        ("notgzip, x-gzip", "x-gzip"),
        (",,;q=1,", "identity"),
    ],
)
def test_hazard_22_the_upstream_is_asked_for_what_the_client_and_the_meter_can_read(asked, sent):
    assert decodable(asked) == sent
