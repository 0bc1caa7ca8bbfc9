from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from policy.estimate import Estimate, estimate
from policy.input import RequestFacts
from policy.model import Match, Price, Rates
from policy.units import make_rate

PRICE = Price("p", Match(), "catalog")
MEGABYTE = 1 << 20


def rates(**usd: str) -> Rates:
    return tuple(make_rate(key, Decimal(amount)) for key, amount in usd.items())


def of(path: str, body: Any, priced: Rates, file_bytes: int = 0) -> Estimate:
    return estimate(PRICE, priced, RequestFacts(path, body, 100, file_bytes))


HEARD = "/v1/audio/transcriptions"
DRAWN = "/v1/images/generations"
EDITED = "/v1/images/edits"
PICTURES = rates(input_mtok="5", input_image_mtok="10", output_mtok="40")


@pytest.mark.parametrize("keys", [["input_audio_hours"], ["audio_hours"], ["audio_hours", "input_audio_hours"]])
def test_a_recording_costs_by_its_seconds(keys):
    # 3,200,001 bytes, 3,200 a second: 1,001 seconds at 0.36 USD an hour
    priced = rates(**dict.fromkeys(keys, "0.36"))
    assert of(HEARD, {"model": "whisper-1"}, priced, 3_200_001).nano == 100_100_000
    assert of("/v1/files", {}, priced, 3_200_001).nano == 0


def test_or_by_its_tokens():
    found = of(HEARD, {"model": "m"}, rates(input_mtok="1", input_audio_mtok="6", output_mtok="10"), 320_001)
    assert found.usage["input_audio_tokens"] == 3201
    assert found.nano == 80 * 1_000 + 3201 * 6_000 + 4096 * 10_000


def test_pictures_to_edit_cost_their_tokens():
    found = of(EDITED, {"prompt": "a" * 30, "quality": "low"}, PICTURES, MEGABYTE + 1)
    assert found.usage["input_image_tokens"] == 2 * 6_400
    assert found.nano == 91 * 5_000 + 12_800 * 10_000 + 408 * 40_000


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({}, 6_240),
        ({"quality": "auto", "size": "auto"}, 6_240),
        ({"quality": ["low"]}, 6_240),
        ({"quality": "high", "size": "1024x1024"}, 4_160),
        ({"quality": "medium", "size": "1024x1536"}, 1_584),
        ({"quality": "low", "size": "1024x1024"}, 272),
        ({"quality": "low", "n": 3}, 1_224),
        ({"quality": "low", "n": "3"}, 1_224),  # of a form
        ({"quality": "low", "partial_images": 3}, 708),
    ],
)
def test_pictures_asked_for_cost_by_quality_and_size(body, tokens):
    assert of(DRAWN, body, PICTURES).usage["output_tokens"] == tokens


def test_the_rule_may_say_otherwise():
    rule = Price("p", Match(), "catalog", estimate={"output_tokens": 100})  # type: ignore[dict-item]
    assert estimate(rule, PICTURES, RequestFacts(DRAWN, {"n": 2}, 10)).usage["output_tokens"] == 200


def test_speech_costs_by_what_is_said():
    priced = rates(input_mtok="1", output_audio_mtok="12")
    assert of("/v1/audio/speech", {"input": "hé"}, priced).usage["output_tokens"] == 2 * 3
    assert of("/v1/audio/speech", {"input": 5}, priced).usage["output_tokens"] == 4096
    assert of("/v1/audio/speech", {"input": ""}, priced).usage["output_tokens"] == 1


@pytest.mark.parametrize(("documents", "searches"), [([], 0), (["a"], 1), (["a"] * 100, 1), (["a"] * 101, 2)])
def test_documents_are_ranked_by_the_hundred(documents, searches):
    priced = rates(rerank_searches_kcount="2")
    assert of("/v2/rerank", {"documents": documents}, priced).nano == searches * 2_000_000
    assert of("/v2/rerank", {"documents": "x"}, priced).nano == 0


def test_a_recording_that_is_only_named_is_taken_for_an_hour():
    assert of(HEARD, {"file_url": "https://example.org/a.mp3"}, rates(audio_hours="0.36")).nano == 360_000_000


READ = "/v1/ocr"
SCAN = {"type": "document_url", "document_url": "https://example.org/a.pdf"}


@pytest.mark.parametrize(
    ("body", "pages"),
    [
        ({"document": SCAN}, 100),
        ({"document": SCAN, "pages": [0, 3, 4]}, 3),
        ({"document": SCAN, "pages": []}, 100),
        ({"document": {"type": "image_url", "image_url": "data:image/png;base64,AA"}}, 1),
        ({"document": "x", "pages": "0-2"}, 100),
    ],
)
def test_a_document_is_read_by_the_page_and_may_be_annotated(body, pages):
    priced = rates(input_document_kpages="1", input_annotated_document_kpages="3")
    assert of(READ, body, priced).nano == pages * 3_000_000
    assert of(READ, body, rates(input_document_kpages="1")).nano == pages * 1_000_000
