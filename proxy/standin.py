"""The built-in stand-in, `builtin:demo`: an upstream that speaks OpenAI's and Anthropic's formats and needs no key.

It answers with words made from the request, and counts four characters to a token: the same request always costs the
same.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from proxy.server import Server

_CREATED = 1_767_225_600  # answers are the same at any time
_MODELS = ("gpt-4o", "gpt-4o-mini", "claude-opus-5", "text-embedding-3-small")
_REPLY = "This is the built-in stand-in; no provider was asked and nothing was charged. You said:"
_DIMENSIONS = 8


class StandIn:
    """Serves on a free port of 127.0.0.1, in the running loop, from the first time its `url` is asked for."""

    def __init__(self) -> None:
        self._server = Server(application())
        self._url: str | None = None
        self._starting = asyncio.Lock()

    async def url(self) -> str:
        async with self._starting:
            if self._url is None:
                self._url = f"http://127.0.0.1:{await self._server.start()}"
            return self._url

    async def stop(self) -> None:
        if self._url is not None:
            await self._server.shutdown(0.0)
            self._url = None


def application() -> Starlette:
    return Starlette(
        routes=[
            Route("/v1/chat/completions", _chat, methods=["POST"]),
            Route("/v1/responses", _responses, methods=["POST"]),
            Route("/v1/embeddings", _embeddings, methods=["POST"]),
            Route("/v1/models", _models),
            Route("/v1/messages", _messages, methods=["POST"]),
            Route("/v1/messages/count_tokens", _count_tokens, methods=["POST"]),
        ],
        exception_handlers={Invalid: _invalid, 404: _not_found, 405: _not_found},
    )


class Invalid(Exception):
    """The request lacks or misuses a parameter; answered with 400 in its dialect."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


# -- what both dialects share --------------------------------------------------------------------------------------


async def _body(request: Request, *required: str) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Invalid("We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise Invalid("The body of the request must be a JSON object.")
    for name in required:
        if not body.get(name):
            raise Invalid(f"Missing required parameter: '{name}'.", name)
    return body


def _text(value: Any) -> str:
    """Every text in a prompt, whatever its shape: strings, messages, parts of messages."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return " ".join(filter(None, map(_text, value)))
    if isinstance(value, dict):
        return _text(value.get("content") or value.get("text") or "")
    return ""


def _tokens(text: str) -> int:
    return max(1, -(-len(text) // 4))


def _count(body: dict[str, Any], *names: str, default: int | None = None) -> int | None:
    for name in names:
        if (value := body.get(name)) is not None:
            if type(value) is not int or value < 1:
                raise Invalid(f"Invalid '{name}': integer above or equal to 1 expected.", name)
            return value
    return default


def _reply(prompt: str, tokens_max: int | None) -> tuple[list[str], bool]:
    """The reply in pieces of one token, and whether the ceiling cut it."""
    text = f"{_REPLY} {prompt[-400:]}"
    pieces = [text[at : at + 4] for at in range(0, len(text), 4)]
    cut = tokens_max is not None and len(pieces) > tokens_max
    return pieces[:tokens_max], cut


def _id(prefix: str, body: dict[str, Any]) -> str:
    return prefix + hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:24]


def _events(events: Iterator[bytes]) -> Response:
    async def stream() -> AsyncIterator[bytes]:
        for event in events:
            yield event
            await asyncio.sleep(0)

    return StreamingResponse(stream(), media_type="text/event-stream")


def _event(data: dict[str, Any], *, named: bool = True) -> bytes:
    name = f"event: {data['type']}\n" if named else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


def _speaks_anthropic(request: Request) -> bool:
    return request.url.path.startswith("/v1/messages") or "anthropic-version" in request.headers


def _error(request: Request, status: int, message: str, param: str | None = None) -> Response:
    kind = "not_found_error" if status == 404 else "invalid_request_error"
    if _speaks_anthropic(request):
        return JSONResponse({"type": "error", "error": {"type": kind, "message": message}}, status)
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return JSONResponse({"error": error}, status)


async def _invalid(request: Request, error: Exception) -> Response:
    return _error(request, 400, str(error), getattr(error, "param", None))


async def _not_found(request: Request, error: Exception) -> Response:
    return _error(request, 404, f"Unknown request URL: {request.method} {request.url.path}.")


# -- OpenAI --------------------------------------------------------------------------------------------------------


async def _chat(request: Request) -> Response:
    body = await _body(request, "model", "messages")
    prompt = _text(body["messages"])
    pieces, cut = _reply(prompt, _count(body, "max_completion_tokens", "max_tokens"))
    choices = _count(body, "n", default=1) or 1
    usage: dict[str, Any] = {
        "prompt_tokens": _tokens(prompt),
        "completion_tokens": choices * len(pieces),
        "total_tokens": _tokens(prompt) + choices * len(pieces),
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
    reason = "length" if cut else "stop"
    head = {"id": _id("chatcmpl-", body), "created": _CREATED, "model": body["model"], "service_tier": "default"}
    if body.get("stream"):
        asked = (body.get("stream_options") or {}).get("include_usage")
        return _events(_chat_stream(head, pieces, choices, reason, usage if asked else None))
    message: dict[str, Any] = {"role": "assistant", "content": "".join(pieces), "refusal": None, "annotations": []}
    all_choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": reason} for index in range(choices)
    ]
    return JSONResponse({**head, "object": "chat.completion", "choices": all_choices, "usage": usage})


def _chat_stream(
    head: dict[str, Any], pieces: list[str], choices: int, reason: str, usage: dict[str, Any] | None
) -> Iterator[bytes]:
    head = {**head, "object": "chat.completion.chunk"}
    if usage is not None:
        head["usage"] = None

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event({**head, "choices": [choice]}, named=False)

    for index in range(choices):
        yield chunk(index, {"role": "assistant", "content": "", "refusal": None})
        for piece in pieces:
            yield chunk(index, {"content": piece})
        yield chunk(index, {}, reason)
    if usage is not None:
        yield _event({**head, "choices": [], "usage": usage}, named=False)
    yield b"data: [DONE]\n\n"


async def _responses(request: Request) -> Response:
    body = await _body(request, "model", "input")
    prompt = " ".join(filter(None, (_text(body.get("instructions")), _text(body["input"]))))
    pieces, cut = _reply(prompt, _count(body, "max_output_tokens"))
    status = "incomplete" if cut else "completed"
    part = {"type": "output_text", "text": "".join(pieces), "annotations": [], "logprobs": []}
    item = {"type": "message", "id": _id("msg_", body), "role": "assistant", "status": status, "content": [part]}
    response = {
        "id": _id("resp_", body),
        "object": "response",
        "created_at": _CREATED,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "metadata": {},
        "model": body["model"],
        "output": [item],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": _tokens(prompt),
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": len(pieces),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": _tokens(prompt) + len(pieces),
        },
    }
    if body.get("stream"):
        return _events(_responses_stream(response, item, part, pieces))
    return JSONResponse(response)


def _responses_stream(
    response: dict[str, Any], item: dict[str, Any], part: dict[str, Any], pieces: list[str]
) -> Iterator[bytes]:
    begun = {**response, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    place = {"output_index": 0, "item_id": item["id"]}
    inner = {**place, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**item, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **inner, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **inner, "delta": piece, "logprobs": []} for piece in pieces),
        {"type": "response.output_text.done", **inner, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **inner, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": f"response.{response['status']}", "response": response},
    ]
    for number, event in enumerate(events):
        yield _event({**event, "sequence_number": number})


async def _embeddings(request: Request) -> Response:
    body = await _body(request, "model", "input")
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    if not all(isinstance(text, str) for text in texts):
        raise Invalid("The stand-in embeds strings only.", "input")
    dimensions = _count(body, "dimensions", default=_DIMENSIONS) or _DIMENSIONS
    data = [
        {"object": "embedding", "index": index, "embedding": _embedding(text, dimensions, body.get("encoding_format"))}
        for index, text in enumerate(texts)
    ]
    tokens = sum(map(_tokens, texts))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"object": "list", "data": data, "model": body["model"], "usage": usage})


def _embedding(text: str, dimensions: int, encoding: str | None) -> list[float] | str:
    noise = hashlib.shake_128(text.encode()).digest(dimensions)
    length = sum(byte * byte for byte in noise) ** 0.5 or 1.0
    vector = [byte / length for byte in noise]
    if encoding == "base64":
        return base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
    return vector


async def _models(request: Request) -> Response:
    if _speaks_anthropic(request):
        data = [
            {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"}
            for name in _MODELS
        ]
        return JSONResponse({"data": data, "has_more": False, "first_id": _MODELS[0], "last_id": _MODELS[-1]})
    listed = [{"id": name, "object": "model", "created": _CREATED, "owned_by": "agent-ledger"} for name in _MODELS]
    return JSONResponse({"object": "list", "data": listed})


# -- Anthropic -----------------------------------------------------------------------------------------------------


def _prompt(body: dict[str, Any]) -> str:
    return " ".join(filter(None, (_text(body.get("system")), _text(body["messages"]))))


async def _messages(request: Request) -> Response:
    body = await _body(request, "model", "messages", "max_tokens")
    prompt = _prompt(body)
    pieces, cut = _reply(prompt, _count(body, "max_tokens"))
    usage = {
        "input_tokens": _tokens(prompt),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": len(pieces),
        "service_tier": "standard",
    }
    message: dict[str, Any] = {
        "id": _id("msg_", body),
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [{"type": "text", "text": "".join(pieces)}],
        "stop_reason": "max_tokens" if cut else "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    if body.get("stream"):
        return _events(map(_event, _message_events(message, pieces)))
    return JSONResponse(message)


def _message_events(message: dict[str, Any], pieces: list[str]) -> Iterator[dict[str, Any]]:
    begun = {**message, "content": [], "stop_reason": None, "usage": {**message["usage"], "output_tokens": 1}}
    yield {"type": "message_start", "message": begun}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    yield {"type": "ping"}
    for piece in pieces:
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
    yield {"type": "content_block_stop", "index": 0}
    told = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": message["stop_reason"], "stop_sequence": None},
        "usage": {name: message["usage"][name] for name in told},
    }
    yield {"type": "message_stop"}


async def _count_tokens(request: Request) -> Response:
    body = await _body(request, "model", "messages")
    return JSONResponse({"input_tokens": _tokens(_prompt(body))})
