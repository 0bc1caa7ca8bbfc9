"""Streams closed early, in every wire format: an explained charge of at least the input and what was seen."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.ledger.port import Action
from tests.proxy.line.chat import END, SSE, chunk
from tests.proxy.line.governed import governed, post, until
from tests.proxy.upstreams import Line, Seen, says

# 1,000 and 4,000 nano-dollars a token. So small an estimate of the output that what is seen exceeds the reservation.
POLICY = """
version: 1
upstreams:
  openai: {url: "URL", meter: openai}
  anthropic: {url: "URL", meter: anthropic}
  gemini: {url: "URL", meter: gemini}
  cohere: {url: "URL", meter: cohere}
agents:
  - {id: worker, monthly_budget: 10}
prices:
  - {name: tokens, rates: {input_mtok: 1, output_mtok: 4}, estimate: {output_tokens: 1}}
"""
WORDS = 200
INPUT = 40
ARRAY = SSE.replace(b"text/event-stream", b"application/json")


@dataclass
class Format:
    """One streamed answer of WORDS words to a question of INPUT tokens: head, events, and what `usage` it ends at.

    ``told`` is whether the input stands in the first events, or only in the last.
    """

    path: str
    body: dict[str, Any]
    events: list[bytes]
    head: bytes = SSE
    told: bool = False


def sse(*documents: dict[str, Any], end: bytes = b"\n\n", named: bool = False) -> list[bytes]:
    return [
        (b"event: %s\n" % document["type"].encode() if named else b"") + b"data: " + json.dumps(document).encode() + end
        for document in documents
    ]


def gemini(word: str, **more: Any) -> dict[str, Any]:
    usage = {"promptTokenCount": INPUT, "totalTokenCount": INPUT}
    content = {"role": "model", "parts": [{"text": word}]}
    return {"candidates": [{"content": content, **more.pop("candidate", {})}], "usageMetadata": usage, **more}


GEMINI_LAST = gemini(
    "word ",
    candidate={"finishReason": "STOP"},
    usageMetadata={"promptTokenCount": INPUT, "candidatesTokenCount": WORDS, "totalTokenCount": INPUT + WORDS},
)
GEMINI_BODY = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}

FORMATS = {
    "openai chat": Format(
        "/openai/v1/chat/completions",
        {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]},
        [
            *sse(*[{"choices": [{"index": 0, "delta": {"content": "word "}}]}] * WORDS),
            *sse({"choices": [], "usage": {"prompt_tokens": INPUT, "completion_tokens": WORDS}}),
            b"data: [DONE]\n\n",
        ],
    ),
    "openai responses": Format(
        "/openai/v1/responses",
        {"model": "m", "stream": True, "input": "hi"},
        [
            *sse({"type": "response.created", "response": {"model": "m", "usage": None}}, named=True),
            *sse(*[{"type": "response.output_text.delta", "delta": "word "}] * WORDS, named=True),
            *sse(
                {
                    "type": "response.completed",
                    "response": {"model": "m", "usage": {"input_tokens": INPUT, "output_tokens": WORDS}},
                },
                named=True,
            ),
        ],
    ),
    "anthropic": Format(
        "/anthropic/v1/messages",
        {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]},
        [
            *sse(
                {"type": "message_start", "message": {"usage": {"input_tokens": INPUT, "output_tokens": 1}}}, named=True
            ),
            *sse(
                *[{"type": "content_block_delta", "delta": {"type": "text_delta", "text": "word "}}] * WORDS, named=True
            ),
            *sse({"type": "message_delta", "delta": {}, "usage": {"output_tokens": WORDS}}, named=True),
            *sse({"type": "message_stop"}, named=True),
        ],
        told=True,
    ),
    "gemini": Format(
        "/gemini/v1beta/models/m:streamGenerateContent?alt=sse",
        GEMINI_BODY,
        sse(*[gemini("word ")] * (WORDS - 1), GEMINI_LAST, end=b"\r\n\r\n"),
        told=True,
    ),
    "gemini as an array": Format(
        "/gemini/v1beta/models/m:streamGenerateContent",
        GEMINI_BODY,
        [
            b"[" + json.dumps(gemini("word ")).encode(),
            *[b"\r\n,\r\n" + json.dumps(gemini("word ")).encode()] * (WORDS - 2),
            b"\r\n,\r\n" + json.dumps(GEMINI_LAST).encode() + b"\r\n]",
        ],
        head=ARRAY,
        told=True,
    ),
    "cohere": Format(
        "/cohere/v2/chat",
        {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]},
        [
            *sse({"type": "message-start", "delta": {"message": {"role": "assistant"}}}, named=True),
            *sse(
                *[{"type": "content-delta", "delta": {"message": {"content": {"text": "word "}}}}] * WORDS, named=True
            ),
            *sse(
                {
                    "type": "message-end",
                    "delta": {"usage": {"billed_units": {"input_tokens": INPUT, "output_tokens": WORDS}}},
                },
                named=True,
            ),
        ],
    ),
}
CUTS = pytest.mark.parametrize("percent", [1, 10, 50])
EACH = pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)


def least(action: Action, form: Format, events: int) -> int:
    """The charge of the input and of the words in the first ``events``, which are a token each."""
    words = sum(b"word " in event for event in form.events[:events])
    tokens = INPUT if form.told else action.estimated["input_tokens"]
    return int(tokens * 1_000 + words * 4_000)


def explained(action: Action) -> int:
    """The charge that the row's own usage and rates make."""
    usage = action.usage
    return int(usage["input_tokens"] * 1_000 + usage["output_tokens"] * 4_000)


def some(form: Format, percent: int) -> int:
    return max(2, len(form.events) * percent // 100)


async def closed(folder: Path, form: Format, events: int, drained: int | None = None) -> Action:
    """The call whose client leaves once ``events`` came; what comes then is read up to ``drained`` bytes."""
    left = asyncio.Event()

    async def script(seen: Seen, line: Line) -> None:
        await line.say(form.head, *map(chunk, form.events[:events]))
        await left.wait()
        await line.say(*map(chunk, form.events[events:]), END)

    async with governed(folder, POLICY, script) as line:
        if drained is not None:
            line.drains.bytes_max = drained
        async with line.connect() as raw:
            await raw.send(post(form.path, form.body))
            await raw.reader.readuntil(b"word ")
            raw.reset()
        await until(lambda: line.drains.open == 1)
        left.set()
        return await line.ended()


@EACH
@CUTS
async def test_promise_7_closing_past_the_drains_costs_at_least_the_input_and_what_was_seen(
    tmp_path: Path, form: Format, percent: int
) -> None:
    action = await closed(tmp_path, form, some(form, percent), drained=0)
    assert (action.ending, action.unconfirmed, action.outcome) == ("settled", True, "failure")
    assert action.cost >= max(least(action, form, some(form, percent)), action.reserved or 0)
    assert action.cost == max(explained(action), action.reserved or 0)


@EACH
@CUTS
async def test_hazard_25_closing_within_the_drains_costs_what_the_upstream_says(
    tmp_path: Path, form: Format, percent: int
) -> None:
    action = await closed(tmp_path, form, some(form, percent))
    assert (action.cost, action.unconfirmed) == (INPUT * 1_000 + WORDS * 4_000, False)


@EACH
@CUTS
async def test_hazard_23_an_upstream_that_breaks_off_costs_at_least_the_input_and_what_was_seen(
    tmp_path: Path, form: Format, percent: int
) -> None:
    events = some(form, percent)

    async def script(seen: Seen, line: Line) -> None:
        await line.say(form.head, *map(chunk, form.events[:events]))
        line.close()

    async with governed(tmp_path, POLICY, script) as line:
        got = await line.post(form.path, form.body)
        action = await line.ended()
    assert not got.complete
    assert (action.ending, action.unconfirmed, action.outcome) == ("settled", True, "failure")
    assert action.cost >= max(least(action, form, events), action.reserved or 0)
    assert action.cost == max(explained(action), action.reserved or 0)


@EACH
async def test_a_whole_stream_is_metered(tmp_path: Path, form: Format) -> None:
    async with governed(tmp_path, POLICY, says(form.head, *map(chunk, form.events), END)) as line:
        assert (await line.post(form.path, form.body)).complete
        action = await line.ended()
    assert (action.cost, action.unconfirmed) == (INPUT * 1_000 + WORDS * 4_000, False)
