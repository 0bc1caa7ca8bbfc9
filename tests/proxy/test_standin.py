"""The real SDKs, pointed at the stand-in itself: what they parse there is what they will parse through the gate."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from proxy.standin import StandIn

MESSAGES: Any = [{"role": "user", "content": "Say hello to the ledger."}]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    standin = StandIn()
    yield await standin.url()
    await standin.stop()


@pytest.fixture
async def gpt(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def claude(url: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0) as client:
        yield client


async def test_it_starts_once_and_stops() -> None:
    standin = StandIn()
    await standin.stop()
    url = await standin.url()
    assert await standin.url() == url
    await standin.stop()
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(url)


async def test_chat_counts_the_same_request_the_same(gpt: openai.AsyncOpenAI) -> None:
    first, second = [await gpt.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES) for _ in range(2)]
    assert first == second
    assert first.choices[0].message.content
    assert first.choices[0].finish_reason == "stop"
    assert first.usage
    assert first.usage.prompt_tokens == len("Say hello to the ledger.") / 4
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens
    longer = [{"role": "user", "content": [{"type": "text", "text": "Say hello to the ledger." * 2}]}]
    third = await gpt.chat.completions.create(model="gpt-4o-mini", messages=longer)  # type: ignore[arg-type]
    assert third.usage
    assert third.usage.prompt_tokens == 2 * first.usage.prompt_tokens


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_chat_keeps_the_ceiling_and_counts_each_choice(name: str, gpt: openai.AsyncOpenAI) -> None:
    ceiling: Any = {name: 3}
    answer = await gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES, n=2, **ceiling)
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    assert answer.usage
    assert answer.usage.completion_tokens == 6


@pytest.mark.parametrize("asked", [True, False])
async def test_chat_stream_tells_its_usage_only_if_asked(asked: bool, gpt: openai.AsyncOpenAI) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if asked else {}
    plain = await gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    stream = await gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True, **options)
    chunks = [chunk async for chunk in stream]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == plain.choices[0].message.content
    told = [chunk.usage for chunk in chunks if chunk.usage]
    assert told == ([plain.usage] if asked else [])
    assert (chunks[-1].choices == []) is asked


@pytest.mark.parametrize(("ceiling", "status"), [(2, "incomplete"), (4096, "completed")])
async def test_responses_end_with_their_usage(ceiling: int, status: str, gpt: openai.AsyncOpenAI) -> None:
    answer = await gpt.responses.create(
        model="gpt-4o", instructions="Be brief.", input="Hello", max_output_tokens=ceiling
    )
    assert (answer.status, bool(answer.output_text)) == (status, True)
    stream = await gpt.responses.create(
        model="gpt-4o", instructions="Be brief.", input="Hello", max_output_tokens=ceiling, stream=True
    )
    events = [event async for event in stream]
    last = events[-1]
    assert last.type == f"response.{status}"
    assert last.response.usage == answer.usage  # type: ignore[union-attr]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == answer.output_text


async def test_responses_take_a_list_of_messages(gpt: openai.AsyncOpenAI) -> None:
    answer = await gpt.responses.create(model="gpt-4o", input=MESSAGES)
    assert "Say hello to the ledger." in answer.output_text


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings(encoding: Any, gpt: openai.AsyncOpenAI) -> None:
    texts = ["a cat", "a dog"]
    answer = await gpt.embeddings.create(model="text-embedding-3-small", input=texts, encoding_format=encoding)
    default = await gpt.embeddings.create(model="text-embedding-3-small", input="a dog", dimensions=3)
    assert answer.usage.prompt_tokens == 4
    assert [item.index for item in answer.data] == [0, 1]
    assert len(default.data[0].embedding) == 3


async def test_models_are_listed_in_each_dialect(gpt: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic) -> None:
    listed = [model.id async for model in gpt.models.list()]
    assert "gpt-4o" in listed
    assert [model.id async for model in claude.models.list()] == listed


async def test_messages_count_as_count_tokens_says(claude: anthropic.AsyncAnthropic) -> None:
    system = "You are brief."
    answer = await claude.messages.create(model="claude-haiku-4-5", system=system, messages=MESSAGES, max_tokens=99)
    counted = await claude.messages.count_tokens(model="claude-haiku-4-5", system=system, messages=MESSAGES)
    assert answer.stop_reason == "end_turn"
    assert answer.usage.input_tokens == counted.input_tokens
    cut = await claude.messages.create(model="claude-haiku-4-5", messages=MESSAGES, max_tokens=2)
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 2)


async def test_messages_stream_to_the_same_message(claude: anthropic.AsyncAnthropic) -> None:
    plain = await claude.messages.create(model="claude-haiku-4-5", messages=MESSAGES, max_tokens=99)
    async with claude.messages.stream(model="claude-haiku-4-5", messages=MESSAGES, max_tokens=99) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    assert text == plain.content[0].text  # type: ignore[union-attr]
    assert final.usage.output_tokens == plain.usage.output_tokens
    assert final.usage.input_tokens == plain.usage.input_tokens
    assert final.stop_reason == plain.stop_reason


async def test_errors_are_the_sdks_own(gpt: openai.AsyncOpenAI, claude: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        await gpt.chat.completions.create(model="", messages=MESSAGES)
    assert (bad.value.param, bad.value.type) == ("model", "invalid_request_error")
    with pytest.raises(openai.BadRequestError):
        await gpt.chat.completions.create(model="gpt-4o", messages=MESSAGES, max_tokens=0)
    with pytest.raises(openai.NotFoundError):
        await gpt.files.list()
    with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
        await claude.messages.create(model="claude-haiku-4-5", messages=MESSAGES, max_tokens=0)
    with pytest.raises(anthropic.NotFoundError):
        await claude.messages.batches.list()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"model": 1, "messages": [[[3]]]}'])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings"])
async def test_no_body_breaks_it(path: str, body: bytes, url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        answer = await client.post(path, content=body)
    assert answer.status_code in (200, 400)
    assert json.loads(answer.content)
