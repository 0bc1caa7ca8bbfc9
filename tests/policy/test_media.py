from __future__ import annotations

import pytest

from policy.media import Media, media


def says(*parts: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


DATA = "A" * 9000
URL = "data:image/png;base64," + DATA
SOURCE = {"type": "base64", "media_type": "image/png", "data": DATA}
SCREENSHOT = {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": URL}}
INLINE = {"mimeType": "image/jpeg", "data": DATA}


@pytest.mark.parametrize(
    ("body", "base64"),
    [
        (says({"type": "image_url", "image_url": {"url": URL}}), 9022),
        (says({"type": "image_url", "image_url": URL}), 9022),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": URL}]}]}, 9022),
        ({"input": [SCREENSHOT]}, 9022),
        (says({"type": "image", "source": SOURCE}), 9000),
        (says({"type": "tool_result", "content": [{"type": "image", "source": SOURCE}]}), 9000),
        ({"contents": [{"parts": [{"inlineData": INLINE}]}]}, 9000),
        ({"contents": {"parts": [{"inline_data": {"mime_type": "image/jpeg", "data": DATA}}]}}, 9000),
        ({"contents": [{"parts": [{"function_response": {"parts": [{"inlineData": INLINE}]}}]}]}, 9000),
        (says({"image": {"format": "png", "source": {"bytes": DATA}}}), 9000),
        (says({"type": "input_file", "file_data": URL}), 9022),
        (says({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}), 0),
        (says({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}), 0),
    ],
)
def test_a_picture_is_one_picture_in_any_dialect(body, base64):
    assert media(body) == Media(blob_bytes=base64, images=1)


def test_pictures_are_counted_one_by_one():
    part = {"type": "image_url", "image_url": {"url": URL}}
    assert media(says(part, {"type": "text", "text": "and"}, part, part)) == Media(blob_bytes=3 * 9022, images=3)


@pytest.mark.parametrize(
    ("part", "base64", "tokens"),
    [
        # 6,750 bytes, 100 for a token, and one for the rest
        ({"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}, 9000, 68),
        ({"type": "input_audio", "input_audio": DATA}, 9000, 68),
        ({"type": "input_file", "file_data": "data:audio/mpeg;base64," + DATA}, 9023, 68),
        ({"inlineData": {"mimeType": "video/mp4", "data": DATA}}, 9000, 68),
    ],
)
def test_sound_by_its_length(part, base64, tokens):
    assert media(says(part)) == Media(blob_bytes=base64, sound_tokens=tokens)


PDF = "data:application/pdf;base64," + "A" * 80_000


@pytest.mark.parametrize(
    ("part", "base64", "tokens"),
    [
        # 80,000 of base64 are 60,000 bytes: a third of that, and one over
        ({"type": "document", "source": {"media_type": "application/pdf", "data": PDF[28:]}}, 80_000, 20_001),
        ({"document": {"format": "pdf", "source": {"bytes": PDF[28:]}}}, 80_000, 20_001),
        ({"type": "file", "file": {"file_data": PDF}}, 80_028, 20_008),
        ({"type": "input_file", "filename": "a.pdf", "file_data": PDF}, 80_028, 20_008),
        ({"type": "document_url", "document_url": PDF[:100]}, 100, 5_000),  # a page at least
    ],
)
def test_a_file_by_its_size_and_a_page_at_least(part, base64, tokens):
    assert media(says(part)) == Media(blob_bytes=base64, file_tokens=tokens)


@pytest.mark.parametrize(
    "content",
    [
        URL,
        [{"type": "text", "text": URL}],
        [{"type": "text", "text": "look", "data": DATA}],
        [{"type": "tool_use", "input": {"data": DATA, "bytes": DATA}}],
        [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "many words " * 300}}],
        [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "许多字" * 300}}],
        [{"type": "web", "url": "https://example.com"}],
    ],
)
def test_text_is_never_taken_for_a_blob(content):
    assert media({"messages": [{"role": "user", "content": content}]}) == Media()


def test_text_in_the_place_of_a_picture_stays_text():
    assert media(says({"type": "image", "source": {"data": "many words"}})) == Media(images=1)


@pytest.mark.parametrize("key", ["tools", "metadata", "response_format", "whatever"])
def test_only_content_is_looked_into(key):
    assert media({key: [{"type": "image_url", "image_url": {"url": URL}}]}) == Media()


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
    assert media(says(part)) == Media(stored=True)


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
    assert media(body) == Media(cached=cached)
