"""A real server that answers as the providers do: OpenAI, Azure, Groq, OpenRouter, Anthropic, Gemini, Mistral, Cohere,
Bedrock, and MCP. Each lives under its own first path segment: `/gemini/v1/…`.

The same request is always answered the same, and every request is kept. Its text may ask for an error ("answer with
429"), or to be kept waiting until `released` ("hold"); one that names tools is answered with a call of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import struct
import threading
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PIECES = ("Hel", "lo, ", "ledger.")
TEXT = "".join(PIECES)
ARGUMENTS = {"city": "Berlin"}
_CREATED = 1_767_225_600
_ERROR = re.compile(rb"answer with (\d{3})")


@dataclass(frozen=True)
class Seen:
    """One request as it came."""

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def head(self) -> str:
        """What a credential could stand in."""
        return "\n".join([self.path, *(f"{name.decode()}: {value.decode()}" for name, value in self.headers)])


class Providers:
    """The server, in a thread of its own."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.released = threading.Event()
        config = uvicorn.Config(
            self._recording(_application(self)),
            port=0,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> Providers:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.released.set()
        self._server.should_exit = True
        self._thread.join()

    def _recording(self, app: ASGIApp) -> ASGIApp:
        async def recording(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return await app(scope, receive, send)
            messages: list[Message] = []
            while not messages or messages[-1].get("more_body"):
                messages.append(await receive())
            body = b"".join(message.get("body", b"") for message in messages)
            target = scope["raw_path"].decode() + (
                "?" + scope["query_string"].decode() if scope["query_string"] else ""
            )
            self.seen.append(Seen(scope["method"], target, scope["headers"], body))

            async def replay() -> Message:
                return messages.pop(0) if messages else await receive()

            return await app(scope, replay, send)

        return recording


def _application(providers: Providers) -> Starlette:
    tools = {"tools": _tools().streamable_http_app(), "tools-json": _tools().streamable_http_app(json_response=True)}

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as running:
            for app in tools.values():
                await running.enter_async_context(app.router.lifespan_context(app))
            yield

    async def answer(request: Request) -> Response:
        family, body = request.path_params["family"], await request.body()
        if found := _ERROR.search(body):
            status = int(found[1])
            # So that SDKs which retry this do so at once.
            return JSONResponse(_error(family, status), status, {"retry-after-ms": "1"})
        if b"hold" in body:
            await asyncio.to_thread(providers.released.wait)
        path = "/" + request.path_params["path"]
        for end, answering in _ANSWERS[family]:
            if re.search(f"{end}$", path):
                return answering(request, json.loads(body or b"{}"))
        return JSONResponse(_error(family, 404), 404)

    mounts = [Mount(f"/{name}", app) for name, app in tools.items()]
    route = Route("/{family}/{path:path}", answer, methods=["GET", "POST"])
    return Starlette(routes=[*mounts, route], lifespan=lifespan)


def _error(family: str, status: int) -> Any:
    message = f"The provider says {status}."
    match family:
        case "anthropic":
            return {"type": "error", "error": {"type": "api_error", "message": message}, "request_id": "req_1"}
        case "gemini":
            return {"error": {"code": status, "message": message, "status": "FAILED_PRECONDITION"}}
        case "mistral":
            return {"object": "error", "message": message, "type": "invalid_request", "param": None, "code": "1000"}
        case "cohere":
            return {"id": "error-1", "message": message}
        case "bedrock":
            return {"message": message}
        case _:
            return {"error": {"message": message, "type": "server_error", "param": None, "code": f"code_{status}"}}


def _sse(events: list[Any], *, named: bool = False, end: str = "", newline: str = "\n") -> Response:
    """``named``: each event bears the name of its type. It comes byte by byte, in pieces that fit no event."""
    lines = []
    for event in events:
        name = f"event: {event['type']}{newline}" if named else ""
        lines.append(f"{name}data: {json.dumps(event)}{newline}{newline}")
    whole = ("".join(lines) + end).encode()
    return StreamingResponse(_in_pieces(whole), media_type="text/event-stream")


async def _in_pieces(whole: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(whole), 97):
        yield whole[at : at + 97]
        await asyncio.sleep(0)


# -- OpenAI's format --------------------------------------------------------------------------------------------------

_CHAT_USAGE = {
    "openai": {
        "prompt_tokens": 30,
        "completion_tokens": 12,
        "total_tokens": 42,
        "prompt_tokens_details": {"cached_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 4},
    },
    "groq": {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42, "total_time": 0.25},
    "openrouter": {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42, "cost": 0.00123, "is_byok": False},
    "mistral": {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42},
}
_CHAT_USAGE["azure"] = _CHAT_USAGE["openai"]


def _chat(request: Request, body: dict[str, Any]) -> Response:
    family = request.path_params["family"]
    usage = _CHAT_USAGE[family]
    head = {"id": "chatcmpl-1", "created": _CREATED, "model": body["model"]}
    call = {"id": "call_0001x", "type": "function", "function": {"name": "weather", "arguments": json.dumps(ARGUMENTS)}}
    calls = [{"index": 0, **call}] if body.get("tools") else None
    finish = "tool_calls" if calls else "stop"
    if not body.get("stream"):
        message = {"role": "assistant", "content": None if calls else TEXT, "tool_calls": calls}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"tool_calls": calls}] if calls else [{"content": piece} for piece in PIECES]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish})
    chunks = [{**head, "object": "chat.completion.chunk", "choices": [choice]} for choice in choices]
    asked = (body.get("stream_options") or {}).get("include_usage")
    if family == "groq":
        chunks[-1]["x_groq"] = {"id": "req_1", "usage": usage}
    elif family == "mistral":
        chunks[-1]["usage"] = usage
    elif family == "openrouter":
        chunks.append({**chunks[-1], "usage": usage})
    elif asked:
        chunks = [{**chunk, "usage": None} for chunk in chunks]
        chunks.append({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    return _sse(chunks, end="data: [DONE]\n\n")


def _responses(_: Request, body: dict[str, Any]) -> Response:
    text = {"type": "output_text", "text": TEXT, "annotations": []}
    message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}
    usage = {
        "input_tokens": 30,
        "input_tokens_details": {"cached_tokens": 10},
        "output_tokens": 12,
        "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 42,
    }
    response = {
        "id": "resp_1",
        "object": "response",
        "created_at": _CREATED,
        "model": body["model"],
        "status": "completed",
        "output": [message],
        "usage": usage,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    if not body.get("stream"):
        return JSONResponse(response)
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events = [
        {"type": "response.created", "response": begun},
        *({"type": "response.output_text.delta", **where, "delta": piece, "logprobs": []} for piece in PIECES),
        {"type": "response.completed", "response": response},
    ]
    return _sse([{**event, "sequence_number": at} for at, event in enumerate(events)], named=True)


def _embeddings(_: Request, body: dict[str, Any]) -> Response:
    data = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}]
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    return JSONResponse({"id": "emb_1", "object": "list", "model": body["model"], "data": data, "usage": usage})


def _models(_: Request, __: dict[str, Any]) -> Response:
    model = {"id": "gpt-4o-mini", "object": "model", "created": _CREATED, "owned_by": "nobody"}
    return JSONResponse({"object": "list", "data": [model]})


# -- Anthropic --------------------------------------------------------------------------------------------------------


def _messages(_: Request, body: dict[str, Any]) -> Response:
    usage = {"input_tokens": 20, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 2, "output_tokens": 12}
    block = {"type": "text", "text": TEXT}
    if body.get("tools"):
        block = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": ARGUMENTS}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "content": [block]}
    stop = {"stop_reason": "tool_use" if body.get("tools") else "end_turn", "stop_sequence": None}
    if not body.get("stream"):
        return JSONResponse({**message, **stop, "usage": usage})
    started = {
        **message,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**usage, "output_tokens": 1},
    }
    empty, deltas = {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in PIECES]
    if body.get("tools"):
        empty = {**block, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": json.dumps(ARGUMENTS)}]
    events = [
        {"type": "message_start", "message": started},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 12}},
        {"type": "message_stop"},
    ]
    return _sse(events, named=True)


def _count_tokens(_: Request, __: dict[str, Any]) -> Response:
    return JSONResponse({"input_tokens": 30})


# -- Gemini -----------------------------------------------------------------------------------------------------------


def _gemini(request: Request, body: dict[str, Any]) -> Response:
    usage = {
        "promptTokenCount": 30,
        "cachedContentTokenCount": 10,
        "candidatesTokenCount": 8,
        "thoughtsTokenCount": 4,
        "totalTokenCount": 42,
    }
    pieces: list[dict[str, Any]] = [{"text": piece} for piece in PIECES]
    if body.get("tools"):
        pieces = [{"functionCall": {"name": "weather", "args": ARGUMENTS}}]
    head = {"modelVersion": "gemini-2.5-flash", "responseId": "r1"}
    if "streamGenerateContent" not in request.url.path:
        candidate = {"index": 0, "content": {"role": "model", "parts": pieces}, "finishReason": "STOP"}
        return JSONResponse({"candidates": [candidate], "usageMetadata": usage, **head})
    chunks = [
        {
            "candidates": [{"index": 0, "content": {"role": "model", "parts": [piece]}}],
            "usageMetadata": {**usage, "candidatesTokenCount": at + 1},
            **head,
        }
        for at, piece in enumerate(pieces)
    ]
    chunks[-1]["candidates"][0]["finishReason"] = "STOP"  # type: ignore[index]
    chunks[-1]["usageMetadata"] = usage
    return _sse(chunks, newline="\r\n")


def _gemini_embeddings(_: Request, body: dict[str, Any]) -> Response:
    return JSONResponse({"embeddings": [{"values": [0.25, -0.5]} for _ in body["requests"]]})


# -- Cohere -----------------------------------------------------------------------------------------------------------


def _cohere(_: Request, body: dict[str, Any]) -> Response:
    usage = {
        "billed_units": {"input_tokens": 30, "output_tokens": 12},
        "tokens": {"input_tokens": 95, "output_tokens": 14},
    }
    content = [{"type": "text", "text": TEXT}]
    message: dict[str, Any] = {"role": "assistant", "content": content}
    finish = "COMPLETE"
    if body.get("tools"):
        function = {"name": "weather", "arguments": json.dumps(ARGUMENTS)}
        message = {"role": "assistant", "tool_calls": [{"id": "t1", "type": "function", "function": function}]}
        finish = "TOOL_CALL"
    if not body.get("stream"):
        return JSONResponse({"id": "c1", "finish_reason": finish, "message": message, "usage": usage})
    started = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    deltas = [{"message": {"content": {"text": piece}}} for piece in PIECES]
    events = [
        {"type": "message-start", "id": "c1", "delta": {"message": started}},
        {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
        *({"type": "content-delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content-end", "index": 0},
        {"type": "message-end", "id": "c1", "delta": {"finish_reason": finish, "usage": usage}},
    ]
    return _sse(events, named=True)


def _cohere_embed(_: Request, body: dict[str, Any]) -> Response:
    vectors = {"float": [[0.25, -0.5] for _ in body["texts"]]}
    meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 7}}
    return JSONResponse({"id": "e1", "embeddings": vectors, "texts": body["texts"], "meta": meta})


# -- Bedrock ----------------------------------------------------------------------------------------------------------

_BEDROCK_USAGE = {"inputTokens": 20, "outputTokens": 12, "totalTokens": 40, "cacheReadInputTokens": 8}


def _converse(_: Request, body: dict[str, Any]) -> Response:
    content: dict[str, Any] = {"text": TEXT}
    if body.get("toolConfig"):
        content = {"toolUse": {"toolUseId": "t1", "name": "weather", "input": ARGUMENTS}}
    answer = {
        "output": {"message": {"role": "assistant", "content": [content]}},
        "stopReason": "tool_use" if body.get("toolConfig") else "end_turn",
        "usage": _BEDROCK_USAGE,
        "metrics": {"latencyMs": 5},
    }
    return JSONResponse(answer)


def _converse_stream(_: Request, __: dict[str, Any]) -> Response:
    events = [
        ("messageStart", {"role": "assistant"}),
        *(("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}}) for piece in PIECES),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": _BEDROCK_USAGE, "metrics": {"latencyMs": 5}}),
    ]
    whole = b"".join(_frame(name, json.dumps(event).encode()) for name, event in events)
    return StreamingResponse(_in_pieces(whole), media_type="application/vnd.amazon.eventstream")


def _frame(event: str, payload: bytes) -> bytes:
    """One message of AWS' binary event stream: lengths, their CRC, headers, payload, the CRC of all."""
    named = {":event-type": event, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value)) + value.encode()
        for name, value in named.items()
    )
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack(">I", zlib.crc32(message))


# -- MCP --------------------------------------------------------------------------------------------------------------


def _tools() -> MCPServer:
    server = MCPServer("tools")

    @server.tool()
    async def weather(city: str, ctx: Context) -> str:
        """How it is there."""
        await ctx.report_progress(1, 2, "looking out")
        return f"It rains in {city}."

    @server.tool()
    def broken() -> str:
        """Always fails."""
        raise ToolError("the tool is broken")

    @server.tool()
    async def grow(ctx: Context) -> str:
        """Tells, beside its answer, that there are more tools now."""
        await ctx.session.send_tool_list_changed()
        return "grown"

    @server.tool()
    def unlisted() -> str:
        """No price covers it."""
        return "free"

    return server


_ANSWERS = {
    "openai": [
        ("/v1/chat/completions", _chat),
        ("/v1/responses", _responses),
        ("/v1/embeddings", _embeddings),
        ("/v1/models", _models),
    ],
    "azure": [("/openai/deployments/[^/]+/chat/completions", _chat)],
    "groq": [("/openai/v1/chat/completions", _chat)],
    "openrouter": [("/api/v1/chat/completions", _chat)],
    "mistral": [("/v1/chat/completions", _chat), ("/v1/embeddings", _embeddings)],
    "anthropic": [("/v1/messages", _messages), ("/v1/messages/count_tokens", _count_tokens)],
    "gemini": [("[gG]enerateContent", _gemini), (":batchEmbedContents", _gemini_embeddings)],
    "cohere": [("/v2/chat", _cohere), ("/v2/embed", _cohere_embed)],
    "bedrock": [("/model/[^/]+/converse", _converse), ("/model/[^/]+/converse-stream", _converse_stream)],
}
