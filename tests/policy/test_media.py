from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from policy.media import Media, media


def says(*parts: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def beside_text(body: Any) -> Media:
    return replace(media(body), texts=[], keys=0, digits=0, opaque=0)


def text_of(body: Any) -> str:
    return "|".join(media(body).texts)


DATA = "A" * 9000
URL = "data:image/png;base64," + DATA
SOURCE = {"type": "base64", "media_type": "image/png", "data": DATA}
SCREENSHOT = {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": URL}}
INLINE = {"mimeType": "image/jpeg", "data": DATA}


@pytest.mark.parametrize(
    "body",
    [
        says({"type": "image_url", "image_url": {"url": URL}}),
        says({"type": "image_url", "image_url": URL}),
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": URL}]}]},
        {"input": [SCREENSHOT]},
        says({"type": "image", "source": SOURCE}),
        says({"type": "tool_result", "content": [{"type": "image", "source": SOURCE}]}),
        {"contents": [{"parts": [{"inlineData": INLINE}]}]},
        {"contents": {"parts": [{"inline_data": {"mime_type": "image/jpeg", "data": DATA}}]}},
        {"contents": [{"parts": [{"function_response": {"parts": [{"inlineData": INLINE}]}}]}]},
        says({"image": {"format": "png", "source": {"bytes": DATA}}}),
        says({"type": "input_file", "file_data": URL}),
        says({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}),
        says({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}),
    ],
)
def test_a_picture_is_one_picture_in_any_dialect_and_its_base64_no_text(body):
    assert beside_text(body) == Media(images=1)
    assert DATA not in text_of(body)
    assert "https" not in text_of(body)


def test_pictures_are_counted_one_by_one():
    part = {"type": "image_url", "image_url": {"url": URL}}
    assert beside_text(says(part, {"type": "text", "text": "and"}, part, part)) == Media(images=3)


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        # 6,750 bytes, 100 for a token, and one for the rest
        ({"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}, 68),
        ({"type": "input_audio", "input_audio": DATA}, 68),
        ({"type": "input_file", "file_data": "data:audio/mpeg;base64," + DATA}, 68),
        ({"inlineData": {"mimeType": "video/mp4", "data": DATA}}, 68),
    ],
)
def test_sound_by_its_length(part, tokens):
    assert beside_text(says(part)) == Media(sound_tokens=tokens)
    assert DATA not in text_of(says(part))


PDF = "data:application/pdf;base64," + "A" * 80_000


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        # 80,000 of base64 are 60,000 bytes: a third of that, and one over
        ({"type": "document", "source": {"media_type": "application/pdf", "data": PDF[28:]}}, 20_001),
        ({"document": {"format": "pdf", "source": {"bytes": PDF[28:]}}}, 20_001),
        ({"type": "file", "file": {"file_data": PDF}}, 20_008),
        ({"type": "input_file", "filename": "a.pdf", "file_data": PDF}, 20_008),
        ({"type": "document_url", "document_url": PDF[:100]}, 5_000),  # a page at least
    ],
)
def test_a_file_by_its_size_and_a_page_at_least(part, tokens):
    assert beside_text(says(part)) == Media(file_tokens=tokens)
    assert "AAAA" not in text_of(says(part))


@pytest.mark.parametrize(
    "content",
    [
        URL,
        [{"type": "text", "text": URL}],
        [{"type": "text", "text": "look", "data": DATA}],
        [{"type": "tool_use", "input": {"data": DATA, "bytes": DATA}}],
        [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "many words " * 300}}],
        [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "word" * 300}}],
        [{"type": "document", "source": {"media_type": "text/plain", "data": "many words " * 300}}],
        [{"toolUse": {"input": {"document": {"data": DATA, "file_id": DATA, "signature": DATA}}}}],
        [{"functionCall": {"args": {"image": {"bytes": DATA}, "id": DATA}}}],
        [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "许多字" * 300}}],
        [{"type": "web", "url": "https://example.com"}],
    ],
)
def test_text_is_never_taken_for_a_blob(content):
    body = {"messages": [{"role": "user", "content": content}]}
    assert beside_text(body) == Media()
    assert media(body).opaque == 0
    assert len(text_of(body)) > len(str(content)) // 2


def test_text_in_the_place_of_a_picture_stays_text():
    body = says({"type": "image", "source": {"data": "many words"}})
    assert beside_text(body) == Media(images=1)
    assert "many words" in text_of(body)


@pytest.mark.parametrize("key", ["tools", "response_format", "whatever"])
def test_only_content_is_looked_into_for_pictures(key):
    body = {key: [{"type": "image_url", "image_url": {"url": URL}}]}
    assert beside_text(body) == Media()
    assert URL in text_of(body)


def test_keys_and_numbers_are_counted_and_names_that_are_no_protocols_are_text():
    found = media({"tools": [{"name": "f", "parameters": {"properties": {"city": {"default": 1.25, "strict": True}}}}]})
    assert (found.keys, found.digits, found.texts) == (6, 0 + len("1.25"), ["f", "city"])
    assert media({"tools": [{"default": Decimal("1.25")}, 1234, None]}).digits == 4 + 4


@pytest.mark.parametrize("number", [0, 7, 99, -99, 10**30, 2**64, -(10**4000)], ids=lambda number: number.bit_length())
def test_no_number_is_written_with_more_digits(number):
    assert media({"tools": [number]}).digits >= len(str(abs(number)))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "reasoning", "encrypted_content": DATA},
        {"type": "thinking", "signature": DATA},
        {"thoughtSignature": DATA},
        {"type": "function_call_output", "call_id": DATA},
    ],
)
def test_what_only_the_provider_can_read_is_no_text(part):
    assert media({"input": [part]}).opaque == media({"contents": [{"parts": [part]}]}).opaque == 9000
    assert DATA not in text_of({"input": [part]})
    assert DATA in text_of({"tools": [part]})


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_file", "file_id": "file_1"},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {"fileData": {"mimeType": "audio/wav", "fileUri": "gs://bucket/a.wav"}},
    ],
)
def test_what_only_the_provider_holds(part):
    assert beside_text(says(part)) == Media(stored=True)


@pytest.mark.parametrize(
    ("body", "cached"),
    [
        ({"cache_control": {"type": "ephemeral"}}, "5m"),
        ({"system": [{"type": "text", "cache_control": {"type": "ephemeral", "ttl": "5m"}}]}, "5m"),
        ({"tools": [{"name": "f", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}, "1h"),
        (says({"cache_control": {"ttl": "1h"}}, {"cache_control": {"ttl": "5m"}}), "1h"),
        (says({"cache_control": {"ttl": "5m"}}, {"cache_control": {"ttl": "1h"}}), "1h"),
        (says({"cachePoint": {"type": "default"}}), "5m"),
        (says({"cache_control": None}), None),
        ({"tools": [{"name": "f"}], "messages": "cache_control"}, None),
    ],
)
def test_caching_is_told_by_its_longest_mark(body, cached):
    assert beside_text(body) == Media(cached=cached)
