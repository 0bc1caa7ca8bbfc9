"""`builtin:demo`: a stand-in for OpenAI and Anthropic, so that a first governed call needs no key and costs nothing.

It answers in their formats, plain and streamed, with usage counted from the text; what it says is of no interest.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from proxy.server import Server

REPLY = "Hello from the stand-in of Agent Ledger. No model was asked, but this call was priced, reserved and settled."

_MODELS = ("gpt-4o-mini", "gpt-4o", "claude-sonnet-4-5", "text-embedding-3-small")
_CREATED = 1_700_000_000
_DIMENSIONS = 8
_OUTPUT_MAX = 4096


class StandIn:
    """Serves the stand-in on a free loopback port, in the running loop."""

    def __init__(self) -> None:
        self._server = Server(app())
        self._started = False

    async def start(self) -> str:
        """Its url."""
        port = await self._server.start()
        self._started = True
        return f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        if self._started:
            await self._server.shutdown(0)


def app() -> Starlette:
    return Starlette(
        routes=[
            Route("/v1/chat/completions", _chat, methods=["POST"]),
            Route("/v1/responses", _responses, methods=["POST"]),
            Route("/v1/embeddings", _embeddings, methods=["POST"]),
            Route("/v1/models", _models, methods=["GET"]),
            Route("/v1/messages", _messages, methods=["POST"]),
            Route("/v1/messages/count_tokens", _count_tokens, methods=["POST"]),
        ],
        exception_handlers={HTTPException: _error},
    )


async def _body(request: Request, *required: str) -> dict[str, Any]:
    """The request's JSON object. Raises HTTPException (400) where it is none, or lacks a field."""
    try:
        body = await request.json()
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body is not JSON") from error
    missing = [name for name in required if not isinstance(body, dict) or name not in body]
    if missing:
        raise HTTPException(400, f"missing field: {missing[0]}")
    return dict(body)


def _tokens(value: Any) -> int:
    """About what a tokenizer would count: four bytes a token, and a few for the format."""
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) // 4 + 3


def _words(ceiling: Any) -> list[str]:
    """The reply, a token a word, cut at the ceiling the request states."""
    most = ceiling if isinstance(ceiling, int) and ceiling > 0 else _OUTPUT_MAX
    return [word if at == 0 else f" {word}" for at, word in enumerate(REPLY.split()[:most])]


def _events(events: Iterator[tuple[str | None, Any]]) -> StreamingResponse:
    async def stream() -> AsyncIterator[bytes]:
        for name, data in events:
            text = data if isinstance(data, str) else json.dumps(data)
            yield (f"event: {name}\ndata: {text}\n\n" if name else f"data: {text}\n\n").encode()

    return StreamingResponse(stream(), media_type="text/event-stream")


async def _error(request: Request, error: Exception) -> Response:
    """In the provider's own shape."""
    assert isinstance(error, HTTPException)
    found: dict[str, Any] = {"type": "invalid_request_error", "message": error.detail}
    if request.url.path.startswith("/v1/messages"):
        return JSONResponse({"type": "error", "error": found}, error.status_code)
    return JSONResponse({"error": found | {"param": None, "code": None}}, error.status_code)


# -- OpenAI ----------------------------------------------------------------------------------------------------------
async def _chat(request: Request) -> Response:
    body = await _body(request, "model", "messages")
    words = _words(body.get("max_completion_tokens", body.get("max_tokens")))
    count = body["n"] if isinstance(body.get("n"), int) and 0 < body["n"] <= 8 else 1
    usage = _chat_usage(_tokens(body["messages"]), len(words) * count)
    head = {"id": "chatcmpl-standin", "created": _CREATED, "model": body["model"]}
    if body.get("stream"):
        asked = (body.get("stream_options") or {}).get("include_usage") is True
        return _events(_chat_chunks(head, words, count, usage if asked else None))
    message = {"role": "assistant", "content": "".join(words), "refusal": None}
    choices = [{"index": at, "message": message, "finish_reason": "stop", "logprobs": None} for at in range(count)]
    return JSONResponse(head | {"object": "chat.completion", "choices": choices, "usage": usage})


def _chat_chunks(
    head: dict[str, Any], words: list[str], count: int, usage: dict[str, Any] | None
) -> Iterator[tuple[str | None, Any]]:
    head = head | {"object": "chat.completion.chunk"} | ({"usage": None} if usage else {})
    for index in range(count):
        for at, word in enumerate(words):
            delta = {"content": word} | ({"role": "assistant"} if at == 0 else {})
            yield None, head | {"choices": [{"index": index, "delta": delta, "finish_reason": None}]}
        yield None, head | {"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]}
    if usage:
        yield None, head | {"choices": [], "usage": usage}
    yield None, "[DONE]"


def _chat_usage(prompt: int, completion: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


async def _responses(request: Request) -> Response:
    body = await _body(request, "model", "input")
    words = _words(body.get("max_output_tokens"))
    text = {"type": "output_text", "text": "".join(words), "annotations": []}
    item = {"id": "msg_standin", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    prompt = _tokens(body["input"])
    answer = {
        "id": "resp_standin",
        "object": "response",
        "created_at": _CREATED,
        "model": body["model"],
        "status": "completed",
        "output": [item],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": len(words),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + len(words),
        },
    }
    return _events(_response_events(answer, words)) if body.get("stream") else JSONResponse(answer)


def _response_events(answer: dict[str, Any], words: list[str]) -> Iterator[tuple[str | None, Any]]:
    begun = answer | {"status": "in_progress", "output": [], "usage": None}
    place = {"item_id": "msg_standin", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    events += [{"type": "response.output_text.delta", "delta": word, "logprobs": []} | place for word in words]
    events.append({"type": "response.completed", "response": answer})
    for number, event in enumerate(events):
        yield event["type"], event | {"sequence_number": number}


async def _embeddings(request: Request) -> Response:
    body = await _body(request, "model", "input")
    inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
    vector: list[float] | str = [0.125] * _DIMENSIONS
    if body.get("encoding_format") == "base64":
        vector = base64.b64encode(struct.pack(f"<{_DIMENSIONS}f", *vector)).decode()
    data = [{"object": "embedding", "index": at, "embedding": vector} for at in range(len(inputs))]
    usage = {"prompt_tokens": _tokens(inputs), "total_tokens": _tokens(inputs)}
    return JSONResponse({"object": "list", "data": data, "model": body["model"], "usage": usage})


async def _models(request: Request) -> Response:
    models = [{"id": name, "object": "model", "created": _CREATED, "owned_by": "stand-in"} for name in _MODELS]
    return JSONResponse({"object": "list", "data": models})


# -- Anthropic -------------------------------------------------------------------------------------------------------
async def _messages(request: Request) -> Response:
    body = await _body(request, "model", "messages", "max_tokens")
    words = _words(body["max_tokens"])
    prompt = _tokens([body.get("system"), body["messages"]])
    usage = {
        "input_tokens": prompt,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": len(words),
    }
    answer = {
        "id": "msg_standin",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [{"type": "text", "text": "".join(words)}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    return _events(_message_events(answer, words)) if body.get("stream") else JSONResponse(answer)


def _message_events(answer: dict[str, Any], words: list[str]) -> Iterator[tuple[str | None, Any]]:
    usage = answer["usage"]
    begun = answer | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]
    events += [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in words
    ]
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    events += [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": usage["output_tokens"]}},
        {"type": "message_stop"},
    ]
    for event in events:
        yield event["type"], event


async def _count_tokens(request: Request) -> Response:
    body = await _body(request, "model", "messages")
    return JSONResponse({"input_tokens": _tokens([body.get("system"), body["messages"]])})
