"""The upstream of the bench: canned answers at little cost.

`python -m tests.bench.upstream PORT`

A chat completion of 1 KB; or, for a body with ``"stream":true``, its stream: 51 chunks, the next of each stream after a
millisecond or two, so that they reach a proxy one by one, and the usage before the last where ``include_usage`` asks
for it. For ``"user":"hold"`` a stream goes on for minutes. An answer repeats its request's X-Request-Id.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys

import uvloop

EVENTS = 50  # and [DONE]
_HOLD_S = 5.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"\r\nx-request-id: *([^\r]*)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": ?true')

_TOLD = {"id": "chatcmpl-abcdefghijklmnop", "created": 1760000000, "model": "gpt-4o-2024-08-06"}
_USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 140,
    "total_tokens": 160,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
_MESSAGE = {"role": "assistant", "content": "x" * 560, "refusal": None, "annotations": []}
_CHOICE = {"index": 0, "message": _MESSAGE, "logprobs": None, "finish_reason": "stop"}
ANSWER = json.dumps(
    {**_TOLD, "object": "chat.completion", "choices": [_CHOICE], "usage": _USAGE, "system_fingerprint": "fp_abc"}
).encode()
_HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 23 Nov 2026 05:00:00 GMT\r\nopenai-processing-ms: 500\r\n"
    b"openai-version: 2020-10-01\r\nx-request-id: %b\r\ncontent-type: "
)
_JSON = _HEAD + b"application/json\r\ncontent-length: %d\r\n\r\n%b"
_SSE = _HEAD + b"text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
_END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


def _event(**said: object) -> bytes:
    told = {**_TOLD, "object": "chat.completion.chunk", "service_tier": "default", "system_fingerprint": "fp_abc"}
    data = f"data: {json.dumps({**told, **said}, separators=(',', ':'))}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


def _delta(finish: str | None = None, **delta: str) -> bytes:
    return _event(choices=[{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}])


_SAID = [_delta(role="assistant", content="")] + [_delta(content=" word")] * (EVENTS - 2) + [_delta("stop")]
_PLAIN = [*_SAID, _END]
STREAM_WITH_USAGE = [*_SAID, _event(choices=[], usage=_USAGE), _END]


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._held = b""
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._next is not None:
            self._next.cancel()

    def data_received(self, data: bytes) -> None:
        held = self._held + data
        while (end := held.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(held, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(held) < whole:
                break
            request_id = _REQUEST_ID.search(held, 0, end)
            self._answer(held[end + 4 : whole], request_id[1] if request_id else b"none")
            held = held[whole:]
        self._held = held

    def _answer(self, body: bytes, request_id: bytes) -> None:
        if not _STREAM.search(body):
            self._transport.write(_JSON % (request_id, len(ANSWER), ANSWER))
            return
        chunks = STREAM_WITH_USAGE if b'"include_usage"' in body else _PLAIN
        self._transport.write(_SSE % request_id)
        self._say(chunks, 0, _HOLD_S if b'"user":"hold"' in body else 0.001)

    def _say(self, chunks: list[bytes], number: int, pause: float) -> None:
        self._transport.write(chunks[number])
        number += 1
        if number < len(chunks):
            self._next = self._loop.call_later(pause * (1 + number % 2), self._say, chunks, number, pause)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
