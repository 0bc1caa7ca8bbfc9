"""The calls that the tests make, by SDK and way of calling: what the SDK answered, as plain data."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import litellm
from pydantic import BaseModel

from tests.e2e.sdks.clients import Side

QUESTION = "Say hello to the ledger."
Tokens = tuple[int, int]
# One for all: litellm keeps clients for later calls, and they don't outlive their loop.
LOOP = asyncio.Runner()
_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_TOOL = {"name": "weather", "description": "How it is there.", "parameters": _SCHEMA}
_OPENAI_TOOLS = [{"type": "function", "function": _TOOL}]
_CLAUDE_TOOLS = [{"name": "weather", "description": "How it is there.", "input_schema": _SCHEMA}]
_GEMINI_TOOLS = [{"function_declarations": [_TOOL]}]
_NOVA_TOOLS = {"tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": _SCHEMA}}}]}


@dataclass(frozen=True)
class Call:
    """One way to call one SDK. ``used`` are the input and output tokens that the SDK's answer says; None: it says none,
    and (30, 12) is what the provider bills. ``confirmed``: the sidecar can read them from the answer.
    """

    name: str
    upstream: str
    model: str
    run: Callable[[Side, str, str], Any]
    used: Callable[[Any], Tokens] | None = None
    confirmed: bool = True

    def __call__(self, side: Side, text: str = QUESTION, model: str | None = None) -> Any:
        answer = self.run(side, text, model or self.model)
        return _data(LOOP.run(answer) if asyncio.iscoroutine(answer) else answer)


def _data(answer: Any) -> Any:
    """Without what the SDKs make up: a run's id (LangChain), ids and times (litellm); and without the answer's head."""
    if isinstance(answer, list | tuple):
        return [_data(each) for each in answer]
    made = answer
    if isinstance(answer, BaseModel):
        answer = answer.model_dump()
    if isinstance(answer, dict):
        answer = {key: value for key, value in answer.items() if key not in ("ResponseMetadata", "sdk_http_response")}
        if str(answer.get("id")).startswith("lc_run") or isinstance(
            made, litellm.ModelResponse | litellm.ModelResponseStream
        ):
            answer = {key: value for key, value in answer.items() if key not in ("id", "created")}
    return answer


async def _listed(stream: Any) -> list[Any]:
    return [each async for each in stream]


def _said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


# -- openai, and who speaks its format --------------------------------------------------------------------------------


def _openai(side: Side, text: str, model: str, row: str = "openai", **more: Any) -> Any:
    with side.client(row) as client:
        answer = client.chat.completions.create(model=model, messages=_said(text), max_tokens=50, **more)
        return list(answer) if more.get("stream") else answer


async def _openai_async(side: Side, text: str, model: str, **more: Any) -> Any:
    async with side.client("openai", ("OpenAI(", "AsyncOpenAI(")) as client:
        answer = await client.chat.completions.create(model=model, messages=_said(text), max_tokens=50, **more)
        return await _listed(answer) if more.get("stream") else answer


def _responses(side: Side, text: str, model: str, **more: Any) -> Any:
    with side.client("openai") as client:
        answer = client.responses.create(model=model, input=text, max_output_tokens=50, **more)
        return list(answer) if more.get("stream") else answer


def _embeddings(side: Side, text: str, model: str) -> Any:
    with side.client("openai") as client:
        return client.embeddings.create(model=model, input=text)


def _litellm(side: Side, text: str, model: str, row: str = "litellm", provider: str = "openai", **more: Any) -> Any:
    answer = side.client(row)(model=f"{provider}/{model}", messages=_said(text), **more)
    return list(answer) if more.get("stream") else answer


async def _litellm_async(side: Side, text: str, model: str) -> Any:
    complete = side.client("litellm", ("completion", "acompletion"))
    return await _listed(await complete(model=f"openai/{model}", messages=_said(text), stream=True))


def _langchain(side: Side, text: str, model: str, *, tools: bool = False) -> Any:
    chat = side.client("langchain-openai", ("gpt-4o-mini", model))
    return (chat.bind_tools([_OPENAI_TOOLS[0]]) if tools else chat).invoke(text, max_tokens=50)


def _langchain_stream(side: Side, text: str, model: str) -> Any:
    return list(side.client("langchain-openai", ("gpt-4o-mini", model)).stream(text, max_tokens=50))


async def _langchain_async(side: Side, text: str, model: str) -> Any:
    return await side.client("langchain-openai", ("gpt-4o-mini", model)).ainvoke(text, max_tokens=50)


def _chat_used(answer: Any) -> Tokens:
    return answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]


def _responses_used(answer: Any) -> Tokens:
    return answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]


def _embeddings_used(answer: Any) -> Tokens:
    return answer["usage"]["prompt_tokens"], 0


def _langchain_used(answer: Any) -> Tokens:
    return answer["usage_metadata"]["input_tokens"], answer["usage_metadata"]["output_tokens"]


# -- anthropic --------------------------------------------------------------------------------------------------------


def _anthropic(side: Side, text: str, model: str, **more: Any) -> Any:
    with side.client("anthropic") as client:
        answer = client.messages.create(model=model, messages=_said(text), max_tokens=50, **more)
        return list(answer) if more.get("stream") else answer


def _anthropic_helper(side: Side, text: str, model: str, **more: Any) -> Any:
    with (
        side.client("anthropic") as client,
        client.messages.stream(model=model, messages=_said(text), max_tokens=50, **more) as stream,
    ):
        return [list(stream), stream.get_final_message()]


async def _anthropic_async(side: Side, text: str, model: str, **more: Any) -> Any:
    async with side.client("anthropic", ("Anthropic(", "AsyncAnthropic(")) as client:
        answer = await client.messages.create(model=model, messages=_said(text), max_tokens=50, **more)
        return await _listed(answer) if more.get("stream") else answer


def _anthropic_used(answer: Any) -> Tokens:
    usage = answer["usage"]
    return sum(usage[name] for name in usage if name.endswith("input_tokens")), usage["output_tokens"]


# -- google-genai, mistralai, cohere ----------------------------------------------------------------------------------


def _gemini(side: Side, text: str, model: str, **more: Any) -> Any:
    with side.client("google-genai") as client:
        return client.models.generate_content(model=model, contents=text, config={"max_output_tokens": 50, **more})


def _gemini_stream(side: Side, text: str, model: str) -> Any:
    with side.client("google-genai") as client:
        return list(client.models.generate_content_stream(model=model, contents=text))


async def _gemini_async(side: Side, text: str, model: str) -> Any:
    async with side.client("google-genai").aio as client:
        return await _listed(await client.models.generate_content_stream(model=model, contents=text))


def _gemini_embeddings(side: Side, text: str, model: str) -> Any:
    with side.client("google-genai") as client:
        return client.models.embed_content(model=model, contents=text)


def _gemini_used(answer: Any) -> Tokens:
    usage = answer["usage_metadata"]
    return usage["prompt_token_count"], usage["candidates_token_count"] + usage["thoughts_token_count"]


def _mistral(side: Side, text: str, model: str, **more: Any) -> Any:
    with side.client("mistralai") as client:
        return client.chat.complete(model=model, messages=_said(text), max_tokens=50, **more)


def _mistral_stream(side: Side, text: str, model: str) -> Any:
    with side.client("mistralai") as client, client.chat.stream(model=model, messages=_said(text)) as stream:
        return [event.data for event in stream]


async def _mistral_async(side: Side, text: str, model: str) -> Any:
    async with side.client("mistralai") as client:
        return [
            event.data for event in await _listed(await client.chat.stream_async(model=model, messages=_said(text)))
        ]


def _mistral_embeddings(side: Side, text: str, model: str) -> Any:
    with side.client("mistralai") as client:
        return client.embeddings.create(model=model, inputs=[text])


def _cohere(side: Side, text: str, model: str, **more: Any) -> Any:
    with side.client("cohere") as client:
        return client.chat(model=model, messages=_said(text), max_tokens=50, **more)


def _cohere_stream(side: Side, text: str, model: str) -> Any:
    with side.client("cohere") as client:
        return list(client.chat_stream(model=model, messages=_said(text)))


async def _cohere_async(side: Side, text: str, model: str) -> Any:
    async with side.client("cohere", ("ClientV2(", "AsyncClientV2(")) as client:
        return await _listed(client.chat_stream(model=model, messages=_said(text)))


def _cohere_embeddings(side: Side, text: str, model: str) -> Any:
    with side.client("cohere") as client:
        return client.embed(model=model, texts=[text], input_type="search_query", embedding_types=["float"])


def _cohere_used(answer: Any) -> Tokens:
    billed = (answer.get("usage") or answer["meta"])["billed_units"]
    return billed["input_tokens"], billed["output_tokens"] or 0


# -- boto3 ------------------------------------------------------------------------------------------------------------


def _bedrock(side: Side, text: str, model: str, operation: str = "converse", **more: Any) -> Any:
    client = side.bedrock()
    try:
        messages = [{"role": "user", "content": [{"text": text}]}]
        answer = getattr(client, operation)(modelId=model, messages=messages, **more)
        return list(answer["stream"]) if "stream" in answer else answer
    finally:
        client.close()


def _bedrock_used(answer: Any) -> Tokens:
    usage = answer["usage"]
    return usage["totalTokens"] - usage["outputTokens"], usage["outputTokens"]


def _last(used: Callable[[Any], Tokens]) -> Callable[[Any], Tokens]:
    return lambda events: used(events[-1])


_GPT = ("openai", "gpt-4o-mini")
_CLAUDE = ("anthropic", "claude-opus-5")
_GEMINI = ("gemini", "gemini-2.5-flash")
_MISTRAL = ("mistral", "mistral-small-latest")
_COMMAND = ("cohere", "command-a-03-2025")
_NOVA = ("bedrock", "amazon.nova-lite-v1:0")
_MINI = ("azure", "mini")
_LLAMA = ("groq", "llama-3.3-70b-versatile")
_ROUTED = ("openrouter", "openai/gpt-4o-mini")
_ASKED = {"stream": True, "stream_options": {"include_usage": True}}
_STREAM_USED = _last(_chat_used)

CALLS = (
    Call("openai", *_GPT, _openai, _chat_used),
    Call("openai-stream", *_GPT, partial(_openai, stream=True)),
    Call("openai-stream-with-usage", *_GPT, partial(_openai, **_ASKED), _STREAM_USED),
    Call("openai-tools", *_GPT, partial(_openai, tools=_OPENAI_TOOLS), _chat_used),
    Call("openai-tools-stream", *_GPT, partial(_openai, tools=_OPENAI_TOOLS, stream=True)),
    Call("openai-async", *_GPT, _openai_async, _chat_used),
    Call("openai-async-stream", *_GPT, partial(_openai_async, stream=True)),
    Call("openai-responses", *_GPT, _responses, _responses_used),
    Call(
        "openai-responses-stream",
        *_GPT,
        partial(_responses, stream=True),
        lambda events: _responses_used(events[-1]["response"]),
    ),
    Call("openai-embeddings", "openai", "text-embedding-3-small", _embeddings, _embeddings_used),
    Call("azure", *_MINI, partial(_openai, row="Azure, by openai"), _chat_used),
    Call("azure-stream", *_MINI, partial(_openai, row="Azure, by openai", stream=True)),
    Call("groq", *_LLAMA, partial(_openai, row="Groq, by openai"), _chat_used),
    Call("groq-stream", *_LLAMA, partial(_openai, row="Groq, by openai", stream=True)),
    Call("openrouter", *_ROUTED, partial(_openai, row="OpenRouter, by openai"), _chat_used),
    Call("openrouter-stream", *_ROUTED, partial(_openai, row="OpenRouter, by openai", stream=True), _STREAM_USED),
    Call("litellm", *_GPT, _litellm, _chat_used),
    Call("litellm-stream", *_GPT, partial(_litellm, stream=True)),
    Call("litellm-tools", *_GPT, partial(_litellm, tools=_OPENAI_TOOLS), _chat_used),
    Call("litellm-async-stream", *_GPT, _litellm_async),
    Call("litellm-claude", *_CLAUDE, partial(_litellm, row="litellm, for Claude", provider="anthropic"), _chat_used),
    Call(
        "litellm-claude-stream",
        *_CLAUDE,
        partial(_litellm, row="litellm, for Claude", provider="anthropic", stream=True),
    ),
    Call("langchain", *_GPT, _langchain, _langchain_used),
    Call("langchain-tools", *_GPT, partial(_langchain, tools=True), _langchain_used),
    Call("langchain-stream", *_GPT, _langchain_stream),
    Call("langchain-async", *_GPT, _langchain_async, _langchain_used),
    Call("anthropic", *_CLAUDE, _anthropic, _anthropic_used),
    Call("anthropic-stream", *_CLAUDE, partial(_anthropic, stream=True)),
    Call("anthropic-tools", *_CLAUDE, partial(_anthropic, tools=_CLAUDE_TOOLS), _anthropic_used),
    Call("anthropic-tools-helper", *_CLAUDE, partial(_anthropic_helper, tools=_CLAUDE_TOOLS), _last(_anthropic_used)),
    Call("anthropic-async", *_CLAUDE, _anthropic_async, _anthropic_used),
    Call("anthropic-async-stream", *_CLAUDE, partial(_anthropic_async, stream=True)),
    Call("gemini", *_GEMINI, _gemini, _gemini_used),
    Call("gemini-tools", *_GEMINI, partial(_gemini, tools=_GEMINI_TOOLS), _gemini_used),
    Call("gemini-stream", *_GEMINI, _gemini_stream, _last(_gemini_used)),
    Call("gemini-async-stream", *_GEMINI, _gemini_async, _last(_gemini_used)),
    Call("gemini-embeddings", "gemini", "gemini-embedding-001", _gemini_embeddings, confirmed=False),
    Call("mistral", *_MISTRAL, _mistral, _chat_used),
    Call("mistral-tools", *_MISTRAL, partial(_mistral, tools=_OPENAI_TOOLS), _chat_used),
    Call("mistral-stream", *_MISTRAL, _mistral_stream, _STREAM_USED),
    Call("mistral-async-stream", *_MISTRAL, _mistral_async, _STREAM_USED),
    Call("mistral-embeddings", "mistral", "mistral-embed", _mistral_embeddings, _embeddings_used),
    Call("cohere", *_COMMAND, _cohere, _cohere_used),
    Call("cohere-tools", *_COMMAND, partial(_cohere, tools=_OPENAI_TOOLS), _cohere_used),
    Call("cohere-stream", *_COMMAND, _cohere_stream, lambda events: _cohere_used(events[-1]["delta"])),
    Call("cohere-async-stream", *_COMMAND, _cohere_async, lambda events: _cohere_used(events[-1]["delta"])),
    Call("cohere-embeddings", "cohere", "embed-v4.0", _cohere_embeddings, _cohere_used),
    Call("bedrock", *_NOVA, _bedrock, _bedrock_used),
    Call("bedrock-tools", *_NOVA, partial(_bedrock, toolConfig=_NOVA_TOOLS), _bedrock_used),
    Call("bedrock-stream", *_NOVA, partial(_bedrock, operation="converse_stream"), confirmed=False),
)
