"""A priced chat call: its policy, its request, and the answers whose charge is known to the nano-dollar."""

from __future__ import annotations

import json
from typing import Any

from proxy.ledger.port import Action
from tests.proxy.upstreams import answer

# 1 USD per million input tokens is 1,000 nano-dollars a token.
POLICY = """
version: 1
upstreams:
  up: {url: "URL", meter: openai, timeout: 1s}
  down: {url: "http://127.0.0.1:1", meter: openai}
agents:
  - {id: worker, monthly_budget: 10}
prices:
  - {name: chat, match: {path: "/v1/**"}, rates: {input_mtok: 1, output_mtok: 2}}
  - {name: flat, match: {path: "/flat/**"}, rates: {request: 0.01}}
"""
PATH = "/up/v1/chat/completions"
CHAT = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
STREAM = CHAT | {"stream": True, "stream_options": {"include_usage": True}}
# Of the message, two keys at 4 tokens and two words at one; 80 around it. Parameters are not read by a model.
RESERVED = RESERVED_STREAM = (80 + 2 * 4 + 2) * 1_000 + 100 * 2_000

USAGE = {"prompt_tokens": 40, "completion_tokens": 10, "total_tokens": 50}
CHARGE = 40 * 1_000 + 10 * 2_000

JSON = b"Content-Type: application/json"
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
WORD = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}],"usage":null}\n\n'
LAST = b"data: " + json.dumps({"choices": [], "usage": USAGE}).encode() + b"\n\n"
DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"


def told(usage: Any = USAGE, status: str = "200 OK") -> bytes:
    """An answer that says its usage (None: that doesn't)."""
    body = {"model": "m", "choices": [], **({} if usage is None else {"usage": usage})}
    return answer(json.dumps(body).encode(), status, JSON)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def how(action: Action) -> tuple[str | None, int, bool, str]:
    """(ending, cost, unconfirmed, outcome)"""
    return action.ending, action.cost, action.unconfirmed, action.outcome
