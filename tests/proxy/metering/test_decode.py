from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.metering import decode
from proxy.metering.decode import Decoder, Undecodable, decodable


def raw_deflate(text):
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(text) + compressor.flush()


def decoded(encoding, *chunks):
    decoder = Decoder(encoding)
    return b"".join(piece for chunk in chunks for piece in decoder.feed(chunk))


TEXT = b'{"usage": {"prompt_tokens": 1}}' * 50
ENCODED = [
    ("", TEXT),
    ("identity", TEXT),
    ("gzip", gzip.compress(TEXT)),
    ("X-GZIP", gzip.compress(TEXT)),
    ("gzip", gzip.compress(TEXT[:100]) + gzip.compress(b"") + gzip.compress(TEXT[100:])),
    ("gzip", gzip.compress(TEXT) + b"\0\0 padding"),
    ("deflate", zlib.compress(TEXT)),
    ("deflate", raw_deflate(TEXT)),
    ("gzip, gzip", gzip.compress(gzip.compress(TEXT))),
    ("deflate,identity , gzip", gzip.compress(zlib.compress(TEXT))),
]


@pytest.mark.parametrize(("encoding", "encoded"), ENCODED)
def test_whole_and_one_byte_at_a_time(encoding, encoded):
    assert decoded(encoding, encoded) == TEXT
    assert decoded(encoding, *(encoded[at : at + 1] for at in range(len(encoded)))) == TEXT


def test_what_was_flushed_is_decoded_at_once():
    compressor = zlib.compressobj(wbits=31)
    assert decoded("gzip", compressor.compress(b"event") + compressor.flush(zlib.Z_SYNC_FLUSH)) == b"event"


def test_output_of_exactly_one_piece_and_more():
    text = b"x" * (64 * 1024 * 3)
    assert decoded("gzip", gzip.compress(text)) == text


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "gzip;q=1", "gzip, gzip, gzip, gzip"])
def test_unknown_encodings_and_too_many_are_undecodable(encoding):
    with pytest.raises(Undecodable):
        Decoder(encoding)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, deflate"])
def test_other_bytes_than_claimed_are_undecodable(encoding):
    with pytest.raises(Undecodable):
        decoded(encoding, b"\x1f\x8b\x00 plain text")


@settings(deadline=None)
@given(st.sampled_from(["gzip", "deflate", "gzip, deflate"]), st.lists(st.binary(max_size=40), max_size=5))
def test_hostile_bytes_raise_nothing_else(encoding, chunks):
    try:
        decoded(encoding, *chunks)
    except Undecodable:
        pass


def bomb(megabytes):
    compressor = zlib.compressobj(1, wbits=31)
    block = bytes(1024 * 1024)
    return b"".join([compressor.compress(block) for _ in range(megabytes)]) + compressor.flush()


def test_hazard_21_a_gzip_bomb_is_decoded_in_bounded_memory():
    packed = bomb(200)
    decoder = Decoder("gzip")
    tracemalloc.start()
    try:
        size = sum(len(piece) for piece in decoder.feed(packed))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == 200 * 1024 * 1024
    assert peak < 4 * 1024 * 1024


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
        ("gzip, deflate, br, zstd", "gzip, deflate"),
        ("br", "identity"),
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
