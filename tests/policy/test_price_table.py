"""What providers charge, worked out by hand: list prices as their pages state them, and each charge to the nano-dollar.

A rate of r USD per million tokens is r × 1000 nano-dollars a token; of r USD per thousand calls, r × 1,000,000 a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from policy.catalog import Catalog
from policy.model import Rates
from policy.pricing import Quantity, charge
from policy.units import make_rate

CATALOG = Catalog()
NOON = "2026-11-22T12:00:00Z"


class Row(NamedTuple):
    """``rates`` in USD by key, ``(base, above this many input_tokens, then)`` where they have a tier. ``model`` is
    provider:model of the catalog's, which must have these rates and no others; empty where a rule states them.
    """

    name: str
    model: str
    rates: Mapping[str, str | tuple[str, int, str]]
    usage: Mapping[str, Quantity]
    nano: int
    terms: Mapping[str, str] = {}
    at: str = NOON


def tokens(told: str) -> dict[str, Quantity]:
    """``input 1000, cache_read 600``: usage by the kinds' names."""
    return {f"{kind}_tokens": int(count) for kind, count in (part.split() for part in told.split(", "))}


def above(start: int, **usd: str) -> dict[str, tuple[str, int, str]]:
    """``input_mtok="3 6"``: base and tier."""
    return {key: (stated.split()[0], start, stated.split()[1]) for key, stated in usd.items()}


SEARCHES = {"web_searches_kcount": "10", "storage_searches_kcount": "2.5"}
GPT_52 = {"input_mtok": "1.75", "cache_read_mtok": "0.175", "output_mtok": "14"} | SEARCHES
GPT_52_USED = tokens("input 12_345, cache_read 9_600, output 2_048, output_reasoning 1_536")
GPT_52_PRIORITY = {"input_mtok": "3.5", "cache_read_mtok": "0.35", "output_mtok": "28"} | SEARCHES
GPT_52_FLEX = {"input_mtok": "0.875", "cache_read_mtok": "0.0875", "output_mtok": "7"} | SEARCHES
GPT_54 = above(272_000, input_mtok="2.5 5", cache_read_mtok="0.25 0.5", output_mtok="15 22.5") | SEARCHES
GPT_54_FLEX = above(272_000, input_mtok="1.25 2.5", cache_read_mtok="0.13 0.25", output_mtok="7.5 11.25") | SEARCHES
GPT_54_PRIORITY = {"input_mtok": "5", "cache_read_mtok": "0.5", "output_mtok": "30"} | SEARCHES
GPT_4O = {"input_mtok": "2.5", "cache_read_mtok": "1.25", "output_mtok": "10"} | SEARCHES
O3 = {"cache_read_mtok": "0.5"} | SEARCHES
REALTIME = {
    "input_mtok": "4", "cache_read_mtok": "0.4", "output_mtok": "16",
    "input_audio_mtok": "32", "cache_audio_read_mtok": "0.4", "output_audio_mtok": "64",
    "input_image_mtok": "5", "cache_image_read_mtok": "0.5",
}  # fmt: skip
IMAGE = {
    "input_mtok": "5", "cache_read_mtok": "1.25", "output_mtok": "40",
    "input_image_mtok": "10", "cache_image_read_mtok": "2.5",
}  # fmt: skip
SONNET_45 = above(
    200_000, input_mtok="3 6", cache_write_mtok="3.75 7.5", cache_write_1h_mtok="6 12", cache_read_mtok="0.3 0.6",
    output_mtok="15 22.5",
) | {"web_searches_kcount": "10"}  # fmt: skip
OPUS_5 = {
    "input_mtok": "5", "cache_write_mtok": "6.25", "cache_write_1h_mtok": "10", "cache_read_mtok": "0.5",
    "output_mtok": "25", "web_searches_kcount": "10",
}  # fmt: skip
OPUS_5_FAST = {
    "input_mtok": "10", "cache_write_mtok": "12.5", "cache_write_1h_mtok": "20", "cache_read_mtok": "1",
    "output_mtok": "50", "web_searches_kcount": "10",
}  # fmt: skip
OPUS_5_USED = tokens("input 4_000, cache_write 1_500, cache_write_1h 1_500, output 300")
GEMINI_25_PRO = above(200_000, input_mtok="1.25 2.5", cache_read_mtok="0.125 0.25", output_mtok="10 15") | {
    "web_searches_kcount": "35"
}
GEMINI_25_FLASH = {
    "input_mtok": "0.3", "cache_read_mtok": "0.03", "output_mtok": "2.5", "input_audio_mtok": "1",
    "cache_audio_read_mtok": "0.1", "web_searches_kcount": "35",
}  # fmt: skip
BEDROCK_SONNET_45 = {
    "input_mtok": "3.3", "cache_write_mtok": "4.125", "cache_write_1h_mtok": "6.6", "cache_read_mtok": "0.33",
    "output_mtok": "16.5",
}  # fmt: skip
COMMAND_R7B = {"input_mtok": "0.0375", "output_mtok": "0.15"}
DEEPSEEK = {"input_mtok": "0.27", "cache_read_mtok": "0.07", "output_mtok": "1.1"}
DEEPSEEK_NIGHT = {"input_mtok": "0.135", "cache_read_mtok": "0.035", "output_mtok": "0.55"}
DEEPSEEK_USED = tokens("input 1000, cache_read 640, output 100")
OCR = {"input_document_kpages": "4", "input_annotated_document_kpages": "5"}

TABLE = [
    # -- OpenAI --------------------------------------------------------------------------------------------------------
    # (12,345 - 9,600) × 1,750 + 9,600 × 175 + 2,048 × 14,000 = 4,803,750 + 1,680,000 + 28,672,000
    Row("chat: cached, and reasoning within the output", "openai:gpt-5.2", GPT_52, GPT_52_USED, 35_155_750),
    Row("chat, as served by default", "openai:gpt-5.2", GPT_52, GPT_52_USED, 35_155_750, {"service_tier": "default"}),
    # 2,745 × 3,500 + 9,600 × 350 + 2,048 × 28,000 = 9,607,500 + 3,360,000 + 57,344,000
    Row("priority", "openai:gpt-5.2", GPT_52_PRIORITY, GPT_52_USED, 70_311_500, {"service_tier": "priority"}),
    # 2,745 × 875 + 9,600 × 87.5 + 2,048 × 7,000 = 2,401,875 + 840,000 + 14,336,000
    Row("flex", "openai:gpt-5.2", GPT_52_FLEX, GPT_52_USED, 17_577_875, {"service_tier": "flex"}),
    # 2,745 × 1,750 … : priority was not on the list yet
    Row("priority, a day too early", "openai:gpt-5.2", GPT_52, GPT_52_USED, 35_155_750,
        {"service_tier": "priority"}, "2026-10-11T23:59:59Z"),
    # 271,000 × 2,500 + 1,000 × 250 + 100 × 15,000 = 677,500,000 + 250,000 + 1,500,000
    Row("a long context, at its start", "openai:gpt-5.4", GPT_54,
        tokens("input 272_000, cache_read 1_000, output 100"), 679_250_000),
    # 271,001 × 5,000 + 1,000 × 500 + 100 × 22,500 = 1,355,005,000 + 500,000 + 2,250,000
    Row("a long context", "openai:gpt-5.4", GPT_54,
        tokens("input 272_001, cache_read 1_000, output 100"), 1_357_755_000),
    # 271,001 × 2,500 + 1,000 × 250 + 100 × 11,250 = 677,502,500 + 250,000 + 1,125,000
    Row("a long context, flex", "openai:gpt-5.4", GPT_54_FLEX,
        tokens("input 272_001, cache_read 1_000, output 100"), 678_877_500, {"service_tier": "flex"}),
    # 10 × 5,000 + 1 × 30,000
    Row("priority replaces the tiers too", "openai:gpt-5.4", GPT_54_PRIORITY, tokens("input 10, output 1"), 80_000,
        {"service_tier": "priority"}),
    # 1,000 × 2,500 + 500 × 10,000 + 2 × 10,000,000 + 3 × 2,500,000
    Row("responses with hosted searches", "openai:gpt-4o", GPT_4O,
        tokens("input 1000, output 500") | {"web_searches": 2, "storage_searches": 3}, 35_000_000),
    # 1,000 × 10,000 + 10 × 40,000
    Row("before a price fell", "openai:o3", O3 | {"input_mtok": "10", "output_mtok": "40"},
        tokens("input 1000, output 10"), 10_400_000, at="2025-06-09T23:59:59Z"),
    # 1,000 × 2,000 + 10 × 8,000
    Row("and after", "openai:o3", O3 | {"input_mtok": "2", "output_mtok": "8"},
        tokens("input 1000, output 10"), 2_080_000, at="2025-06-10T00:00:00Z"),
    # cached audio 200 × 400, other cached 100 × 400, other audio 400 × 32,000, other input 300 × 4,000;
    # audio 350 × 64,000, text 50 × 16,000:
    # 80,000 + 40,000 + 12,800,000 + 1,200,000 + 22,400,000 + 800,000
    Row("audio in and out, partly cached", "openai:gpt-realtime", REALTIME,
        tokens("input 1000, input_audio 600, cache_read 300, cache_audio_read 200, output 400, output_audio 350"),
        37_320_000),
    # 20 × 2,500 + 130 × 6,000 + 45 × 10,000
    Row("transcription by tokens", "openai:gpt-4o-transcribe",
        {"input_mtok": "2.5", "input_audio_mtok": "6", "output_mtok": "10"},
        tokens("input 150, input_audio 130, output 45"), 1_280_000),
    # 7.3 × 0.36 USD / 3,600
    Row("transcription by time", "openai:whisper-1", {"audio_hours": "0.36", "input_audio_hours": "0.36"},
        {"input_audio_seconds": Decimal("7.3")}, 730_000),
    # 4,096 × 15,000
    Row("speech by characters", "openai:tts-1", {"input_mchars": "15"}, {"input_characters": 4_096}, 61_440_000),
    # text 50 × 5,000, pictures 300 × 10,000 in and 1,056 × 40,000 out
    Row("an edited picture", "openai:gpt-image-1", IMAGE,
        tokens("input 350, input_image 300, output 1056, output_image 1056"), 45_490_000),
    # 8,191 × 20
    Row("embeddings", "openai:text-embedding-3-small", {"input_mtok": "0.02"}, tokens("input 8_191"), 163_820),
    Row("moderation is free", "openai:omni-moderation-latest", {}, tokens("input 500"), 0),
    # 1,000 × 2,500 + 100 × 10,000
    Row("Azure, by OpenAI's list", "azure:gpt-4o", GPT_4O, tokens("input 1000, output 100"), 3_500_000),
    # -- Anthropic -----------------------------------------------------------------------------------------------------
    # 1,000 × 3,000 + 6,000 × 300 + 2,000 × 3,750 + 1,000 × 6,000 + 800 × 15,000 + 2 × 10,000,000
    Row("caches of 5 minutes and of 1 hour, and searches", "anthropic:claude-sonnet-4-5", SONNET_45,
        tokens("input 10_000, cache_read 6_000, cache_write 3_000, cache_write_5m 2_000, cache_write_1h 1_000")
        | {"output_tokens": 800, "web_searches": 2}, 50_300_000),
    # 10,000 × 6,000 + 240,000 × 600 + 1,000 × 22,500
    Row("a long context, mostly cached", "anthropic:claude-sonnet-4-5", SONNET_45,
        tokens("input 250_000, cache_read 240_000, output 1_000"), 226_500_000),
    # 2,500 × 5,000 + 1,500 × 10,000 + 300 × 25,000
    Row("at its standard speed", "anthropic:claude-opus-5", OPUS_5, OPUS_5_USED, 35_000_000, {"speed": "standard"}),
    # 2,500 × 10,000 + 1,500 × 20,000 + 300 × 50,000
    Row("fast", "anthropic:claude-opus-5", OPUS_5_FAST, OPUS_5_USED, 70_000_000, {"speed": "fast"}),
    # -- Gemini --------------------------------------------------------------------------------------------------------
    # 50,000 × 1,250 + 150,000 × 125 + 2,000 × 10,000: thoughts are output
    Row("cached, and thoughts", "google:gemini-2.5-pro", GEMINI_25_PRO,
        tokens("input 200_000, cache_read 150_000, output 2_000, output_reasoning 1_500"), 101_250_000),
    # 50,001 × 2,500 + 150,000 × 250 + 2,000 × 15,000
    Row("cached, and thoughts, past 200k", "google:gemini-2.5-pro", GEMINI_25_PRO,
        tokens("input 200_001, cache_read 150_000, output 2_000, output_reasoning 1_500"), 192_502_500),
    # cached audio 400 × 100, other cached 600 × 30, other audio 2,600 × 1,000, other input 1,400 × 300;
    # 900 × 2,500; one grounded answer: 40,000 + 18,000 + 2,600,000 + 420,000 + 2,250,000 + 35,000,000
    Row("sound, grounded", "google:gemini-2.5-flash", GEMINI_25_FLASH,
        tokens("input 5_000, input_audio 3_000, cache_read 1_000, cache_audio_read 400")
        | tokens("output 900, output_reasoning 600") | {"web_searches": 1}, 40_328_000),
    # what tools brought in is input: 700 × 300
    Row("input of tools", "google:gemini-2.5-flash", GEMINI_25_FLASH, tokens("input 700, input_tool 500"), 210_000),
    # 15 × 300 + 1,290 × 30,000 + 20 × 2,500
    Row("a picture", "google:gemini-2.5-flash-image",
        {"input_mtok": "0.3", "output_mtok": "2.5", "output_image_mtok": "30"},
        tokens("input 15, output 1310, output_image 1290"), 38_754_500),
    # 40 × 900 + 500 × 16,200
    Row("speech, priority", "google:gemini-3.8-flash-tts", {"input_mtok": "0.9", "output_mtok": "16.2"},
        tokens("input 40, output 500"), 8_136_000, {"service_tier": "priority"}),
    # -- others --------------------------------------------------------------------------------------------------------
    # 200 × 3,300 + 1,000 × 330 + 300 × 4,125 + 77 × 16,500 = 660,000 + 330,000 + 1,237,500 + 1,270,500
    Row("Bedrock, in a region", "aws:us.anthropic.claude-sonnet-4-5-20250929-v1:0", BEDROCK_SONNET_45,
        tokens("input 1_500, cache_read 1_000, cache_write 300, output 77"), 3_498_000),
    # 333 × 60 + 11 × 240
    Row("Bedrock's own", "aws:us.amazon.nova-lite-v1:0",
        {"input_mtok": "0.06", "cache_read_mtok": "0.015", "output_mtok": "0.24"},
        tokens("input 333, output 11"), 22_620),
    # 489 × 150 + 512 × 15 + 77 × 600
    Row("Mistral", "mistral:mistral-small-latest",
        {"input_mtok": "0.15", "cache_read_mtok": "0.015", "output_mtok": "0.6"},
        tokens("input 1_001, cache_read 512, output 77"), 127_230),
    # 9 × 4,000,000 + 3 × 5,000,000
    Row("Mistral, by pages", "mistral:mistral-ocr-latest", OCR,
        {"input_document_pages": 12, "input_annotated_document_pages": 3}, 51_000_000),
    # 1,234 × 37.5 + 56 × 150
    Row("Cohere", "cohere:command-r7b-12-2024", COMMAND_R7B, tokens("input 1_234, output 56"), 54_675),
    # 360 × 270 + 640 × 70 + 100 × 1,100
    Row("DeepSeek, cache hits", "deepseek:deepseek-chat", DEEPSEEK, DEEPSEEK_USED, 252_000, at="2025-03-15T12:00:00Z"),
    # 360 × 135 + 640 × 35 + 100 × 550
    Row("DeepSeek, off-peak", "deepseek:deepseek-chat", DEEPSEEK_NIGHT, DEEPSEEK_USED, 126_000,
        at="2025-03-15T16:30:00Z"),
    Row("DeepSeek, a moment before", "deepseek:deepseek-chat", DEEPSEEK, DEEPSEEK_USED, 252_000,
        at="2025-03-15T16:29:59.999Z"),
    # 1,000 × 590 + 100 × 790
    Row("Groq", "groq:llama-3.3-70b-versatile", {"input_mtok": "0.59", "output_mtok": "0.79"},
        tokens("input 1000, output 100"), 669_000),
    # 33 × 2,000 + 1,200 × 8,000 + 3,000 × 3,000 + 800 × 2,000 + 18 × 5,000,000
    Row("Perplexity, research", "perplexity:sonar-deep-research",
        {"input_mtok": "2", "output_mtok": "8", "output_reasoning_mtok": "3", "output_citation_mtok": "2",
         "web_searches_kcount": "5"},
        tokens("input 33, output 5_000, output_reasoning 3_000, output_citation 800") | {"web_searches": 18},
        110_266_000),
    # 12 USD / 1,000 + 10 × 1,000 + 20 × 1,000
    Row("Perplexity, a price a call", "perplexity:sonar",
        {"input_mtok": "1", "output_mtok": "1", "requests_kcount": "12"}, tokens("input 10, output 20"), 12_030_000),
    # -- rules of the policy's own -------------------------------------------------------------------------------------
    Row("OpenRouter's stated cost", "", {"cost": "1"},
        tokens("input 1000, output 100") | {"cost": Decimal("0.00492")}, 4_920_000),
    # 123.4567 nano-dollars
    Row("OpenRouter's stated cost, finer", "", {"cost": "1"}, {"cost": Decimal("0.0000001234567")}, 124),
    Row("an MCP tool, or any flat price", "", {"request": "0.01"}, {}, 10_000_000),
    # 10,000,000 + 12.345 × 2,000,000
    Row("a call and its seconds", "", {"request": "0.01", "seconds": "0.002"},
        {"seconds": Decimal("12.345")}, 34_690_000),
    # 1,048,576 × 0.5 + 333 × 1: half a nano-dollar a byte
    Row("bytes", "", {"response_bytes": "0.0000000005", "request_bytes": "0.000000001"},
        {"request_bytes": 333, "response_bytes": 1_048_576}, 524_621),
    # -- fractions of a nano-dollar, rounded up once -------------------------------------------------------------------
    # 37.5 + 150
    Row("half a nano-dollar", "cohere:command-r7b-12-2024", COMMAND_R7B, tokens("input 1, output 1"), 188),
    # 875 + 87.5 + 87.5: two halves are one, not two
    Row("halves add up first", "openai:gpt-5.2", GPT_52_FLEX, tokens("input 3, cache_read 2"), 1_050,
        {"service_tier": "flex"}),
    # 1 × 0.041666666666666664 USD per million: 41.666666666666664
    Row("a repeating rate", "", {"input_mtok": "0.041666666666666664"}, tokens("input 1"), 42),
    # 10 × 0.04 USD / 3,600 = 111,111.1…
    Row("a rate that no decimal says", "groq:whisper-large-v3-turbo",
        {"audio_hours": "0.04", "input_audio_hours": "0.04"}, {"input_audio_seconds": 10}, 111_112),
    # 0.000001
    Row("a millionth", "", {"output_mtok": "0.000000001"}, tokens("output 1"), 1),
]  # fmt: skip
IDS = [row.name.replace(" ", "-") for row in TABLE]


def hand_written(row: Row) -> Rates:
    return tuple(
        make_rate(key, Decimal(usd))
        if isinstance(usd, str)
        else make_rate(key, Decimal(usd[0]), [(usd[1], Decimal(usd[2]))])
        for key, usd in row.rates.items()
    )


@pytest.mark.parametrize("row", TABLE, ids=IDS)
def test_a_charge_is_exact_to_the_nano_dollar(row: Row) -> None:
    assert charge(hand_written(row), row.usage) == row.nano


@pytest.mark.parametrize("row", [row for row in TABLE if row.model], ids=[row.model for row in TABLE if row.model])
def test_the_catalog_has_the_hand_written_rates(row: Row) -> None:
    provider, _, model = row.model.partition(":")
    tariff = CATALOG.tariff(provider, model, int(datetime.fromisoformat(row.at).timestamp() * 1000))
    assert tariff is not None
    assert by_key(tariff.rates(row.terms)) == by_key(hand_written(row))
    assert charge(tariff.rates(row.terms), row.usage) == row.nano


def by_key(rates: Rates) -> dict[str, Any]:
    return {rate.key: rate for rate in rates}
