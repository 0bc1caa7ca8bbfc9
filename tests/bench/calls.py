"""The calls that are made: bodies as an agent's, and the headers of OpenAI's SDK."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from tests.bench.targets import KEY

HEADERS = {
    "Content-Type": "application/json",
    "Authorization": f"Bearer {KEY}",
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "User-Agent": "OpenAI/Python 3.1.0",
    "X-Stainless-Lang": "python",
    "X-Stainless-Package-Version": "3.1.0",
    "X-Stainless-OS": "Linux",
    "X-Stainless-Arch": "x64",
    "X-Stainless-Runtime": "CPython",
    "X-Stainless-Runtime-Version": "3.11.7",
    "X-Stainless-Async": "false",
    "X-Stainless-Retry-Count": "0",
}
_SAID = "Tell me about the ledger. "


def body(size: int, **more: object) -> bytes:
    """A chat of so many bytes."""
    system = {"role": "system", "content": "You are a helpful assistant."}

    def chat(content: str) -> bytes:
        messages = [system, {"role": "user", "content": content}]
        told = {"model": "gpt-4o", "messages": messages, "temperature": 0.7, "max_tokens": 256, **more}
        return json.dumps(told, separators=(",", ":")).encode()

    left = size - len(chat(""))
    return chat((_SAID * (left // len(_SAID) + 1))[:left])


@dataclass(frozen=True)
class Scenario:
    name: str
    kind: Literal["json", "sse"]
    body: bytes
    connections: int


_STREAMED = {"stream": True}
_ASKED = {"stream": True, "stream_options": {"include_usage": True}}

SCENARIOS = [
    *(
        Scenario(f"JSON, bodies of {kb} KB, connections: {connections}", "json", sent, connections)
        for kb, sent in ((1, body(1000)), (100, body(100_000)))
        for connections in (64, 16, 1)
    ),
    Scenario("SSE, 51 chunks, connections: 16", "sse", body(1000, **_STREAMED), 16),
    Scenario("SSE, 51 chunks, connections: 16, usage asked for by the client", "sse", body(1000, **_ASKED), 16),
]
STREAM, HELD = body(1000, **_STREAMED), body(1000, **_STREAMED, user="hold")
