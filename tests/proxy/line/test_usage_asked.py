"""The one rewriting on by default: an OpenAI chat stream that didn't ask for its usage is asked for it, unseen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.line.chat import CHARGE, CHAT, DONE, END, LAST, PATH, POLICY, SSE, WORD, chunk, told
from tests.proxy.line.governed import AS_WORKER, governed
from tests.proxy.upstreams import says

PLAIN_STREAM = CHAT | {"stream": True}
ANSWER = says(SSE, chunk(WORD + WORD[:10]), chunk(WORD[10:] + LAST[:20]), chunk(LAST[20:] + DONE), END)


@pytest.mark.parametrize("options", [{}, {"stream_options": None}, {"stream_options": {"include_usage": False}}])
async def test_promise_9_usage_is_asked_for_and_its_chunk_taken_out_again(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    async with governed(tmp_path, POLICY, ANSWER) as line:
        got = await line.post(PATH, PLAIN_STREAM | options, *AS_WORKER, b"Accept-Encoding: gzip")
        assert (got.body, got.complete) == (WORD + WORD + DONE, True)
        seen = line.upstream.seen[0]
        assert json.loads(seen.body) == PLAIN_STREAM | {"stream_options": {"include_usage": True}}
        assert seen.header("content-length") == str(len(seen.body))
        assert seen.header("accept-encoding") == "identity"
        action = await line.ended()
        assert (action.cost, action.unconfirmed) == (CHARGE, False)


async def test_a_client_that_asked_gets_its_chunk(tmp_path: Path) -> None:
    raw = json.dumps(PLAIN_STREAM | {"stream_options": {"include_usage": True}}).encode()
    async with governed(tmp_path, POLICY, ANSWER) as line:
        got = await line.post(PATH, raw)
        assert got.body == WORD + WORD + LAST + DONE
        assert line.upstream.seen[0].body == raw


async def test_ask_usage_false_turns_it_off(tmp_path: Path) -> None:
    raw = json.dumps(PLAIN_STREAM).encode()
    policy = POLICY.replace("timeout: 1s", "timeout: 1s, ask_usage: false")
    async with governed(tmp_path, policy, says(SSE, chunk(WORD + DONE), END)) as line:
        got = await line.post(PATH, raw, *AS_WORKER, b"Accept-Encoding: gzip")
        assert got.body == WORD + DONE
        assert line.upstream.seen[0].body == raw
        assert line.upstream.seen[0].header("accept-encoding") == "gzip"
        action = await line.ended()
        assert (action.cost, action.unconfirmed) == (action.reserved, True)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/up/v1/responses", PLAIN_STREAM),
        ("/up/v1/embeddings", CHAT),
        (PATH, CHAT),
        ("/up/flat/chat/completions", PLAIN_STREAM),
    ],
    ids=["responses", "embeddings", "plain", "not metered"],
)
async def test_nothing_else_is_rewritten(tmp_path: Path, path: str, body: Any) -> None:
    async with governed(tmp_path, POLICY, says(told())) as line:
        await line.post(path, body)
        assert json.loads(line.upstream.seen[0].body) == body


async def test_an_error_instead_of_a_stream_passes_unchanged(tmp_path: Path) -> None:
    refusal = told(None, "400 Bad Request")
    async with governed(tmp_path, POLICY, says(refusal)) as line:
        got = await line.post(PATH, PLAIN_STREAM)
        assert (got.status, got.body) == (400, refusal.partition(b"\r\n\r\n")[2])
        assert (await line.ended()).ending == "voided"


async def test_a_stream_that_stops_amid_an_event_loses_nothing_of_it(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(SSE, chunk(WORD + b"data: [DO"), END)) as line:
        got = await line.post(PATH, PLAIN_STREAM)
        assert (got.body, got.complete) == (WORD + b"data: [DO", True)
