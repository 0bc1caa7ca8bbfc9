"""`cap_output`: the ceiling that is written into a request, and shown; and what tokens can't price."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.line.chat import DONE, END, JSON, LAST, SSE, chunk, told
from tests.proxy.line.governed import AS_WORKER, governed
from tests.proxy.upstreams import Line, Seen, answer, says

# 1,000 and 2,000 nano-dollars a token.
POLICY = """
version: 1
upstreams:
  up: {url: "URL", meter: openai}
agents:
  - {id: worker, monthly_budget: 10}
  - {id: limited, monthly_budget: 10, per_action_limit: 0.01}
  - {id: poor, monthly_budget: 10, per_action_limit: 0.000001}
prices:
  - name: capped
    match: {path: "/v1/**"}
    rates: {input_mtok: 1, output_mtok: 2}
    estimate: {output_tokens: 2048}
    cap_output: true
  - {name: plain, match: {path: "/plain/**"}, rates: {input_mtok: 1, output_mtok: 2}}
  - {name: batches, match: {path: "/flat/v1/batches"}, rates: {request: 0.5}}
  - {name: sound, match: {path: "/list/**"}, rates: catalog}
"""
PATH = "/up/v1/chat/completions"
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("stated", "sent", "cap"),
    [
        ({}, {"max_completion_tokens": 2048}, 2048),
        ({"max_tokens": 100}, {"max_tokens": 100}, 100),
        ({"max_tokens": 5000}, {"max_tokens": 5000}, 5000),
    ],
)
async def test_an_output_without_a_ceiling_gets_one(
    tmp_path: Path, stated: dict[str, int], sent: dict[str, int], cap: int
) -> None:
    async with governed(tmp_path, POLICY, says(told())) as line:
        got = await line.post(PATH, CHAT | stated)
        action = await line.ended()
    assert got.header("x-ledger-output-cap") == str(cap)
    assert json.loads(line.upstream.seen[0].body) == CHAT | sent
    assert (action.output_cap, action.estimated["output_tokens"]) == (cap, cap)


async def test_it_is_lowered_to_what_the_per_action_limit_affords(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(told())) as line:
        got = await line.post(PATH, CHAT | {"max_tokens": 64_000, "n": 2}, b"X-Agent-Id: limited")
        action = await line.ended()
        shown = (await line.api("GET", f"/api/actions/{action.id}")).json()
    assert got.status == 200
    cap = json.loads(line.upstream.seen[0].body)["max_tokens"]
    assert shown["outputCap"] == shown["charge"]["outputCap"] == cap == int(got.header("x-ledger-output-cap") or 0)
    assert 10_000_000 - 2 * 2 * 2_000 < (action.reserved or 0) <= 10_000_000
    assert action.estimated["output_tokens"] == 2 * cap


async def test_where_not_even_the_least_is_affordable_the_call_is_denied(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(told())) as line:
        got = await line.post(PATH, CHAT, b"X-Agent-Id: poor")
    assert (got.status, got.json()["error"]["code"]) == (400, "per_action_limit_exceeded")
    assert line.upstream.lines == []


async def test_a_stream_gets_its_ceiling_and_is_asked_for_its_usage(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(SSE, chunk(LAST), chunk(DONE), END)) as line:
        await line.post(PATH, CHAT | {"stream": True})
        action = await line.ended()
    sent = json.loads(line.upstream.seen[0].body)
    assert (sent["max_completion_tokens"], sent["stream_options"]) == (2048, {"include_usage": True})
    assert not action.unconfirmed


async def test_a_stream_that_breaks_off_costs_its_reservation_at_most(tmp_path: Path) -> None:
    """Its ceiling was written upstream: what was seen can't be more, however it is counted."""
    said = b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % (b"a b c d " * 500)

    async def breaks(seen: Seen, line: Line) -> None:
        await line.say(SSE, chunk(said))
        line.close()

    async with governed(tmp_path, POLICY, breaks) as line:
        await line.post(PATH, CHAT | {"stream": True, "max_tokens": 10})
        action = await line.ended()
    assert (action.cost, action.unconfirmed) == (action.reserved, True)


async def test_explain_says_the_ceiling(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says()) as line:
        asked = {"upstream": "up", "method": "POST", "path": "/v1/chat/completions", "agentId": "limited"}
        got = await line.api("POST", "/api/explain", json=asked | {"body": CHAT | {"max_tokens": 64_000}})
    assert 4_000 < got.json()["outputCap"] < 5_000
    assert got.json()["decision"]["allowed"] is True


DEFERRED = {
    "a batch": ("/up/plain/v1/batches", {"model": "m", "input_file_id": "f"}),
    "a background response": ("/up/plain/v1/responses", {"model": "m", "input": "hi", "background": True}),
    "fine-tuning": ("/up/plain/v1/fine_tuning/jobs", {"model": "m", "training_file": "f"}),
}


@pytest.mark.parametrize("work", DEFERRED)
async def test_promise_7_work_that_is_billed_after_its_answer_is_not_let_through_by_tokens(
    tmp_path: Path, work: str
) -> None:
    path, body = DEFERRED[work]
    async with governed(tmp_path, POLICY, says(told(None))) as line:
        got = await line.post(path, body)
        assert (got.status, got.json()["error"]["code"]) == (403, "unpriced")
        assert got.json()["error"]["message"].startswith(f"Agent Ledger: {work} is billed after its answer")
        assert line.upstream.lines == []
        assert (await line.post("/up/flat/v1/batches", {"input_file_id": "f"})).status == 200
        assert (await line.ended()).cost == 500_000_000


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/up/plain/v1/responses/resp_1"),
        ("POST", "/up/plain/v1/messages/count_tokens"),
        ("POST", "/up/plain/v1/moderations"),
        ("POST", "/up/plain/v1/responses/input_tokens"),
    ],
)
async def test_what_reads_or_counts_costs_no_tokens(tmp_path: Path, method: str, path: str) -> None:
    async with governed(tmp_path, POLICY, says(told())) as line:
        got = await (line.get(path) if method == "GET" else line.post(path, CHAT))
        action = await line.ended()
    assert got.status == 200
    assert (action.cost, action.reserved, action.unconfirmed) == (0, 0, False)


async def test_a_form_names_its_model_and_is_charged_by_its_seconds(tmp_path: Path) -> None:
    disposition = b"--x\r\nContent-Disposition: form-data; "
    form = disposition + b'name="model"\r\n\r\nwhisper-1\r\n'
    form += disposition + b'name="file"; filename="a.mp3"\r\n\r\n' + b"s" * 40_000 + b"\r\n--x--\r\n"
    said = answer(b'{"text":"hi","usage":{"type":"duration","seconds":9}}', "200 OK", JSON)
    async with governed(tmp_path, POLICY, says(said)) as line:
        kind = b"Content-Type: multipart/form-data; boundary=x"
        got = await line.post("/up/list/v1/audio/transcriptions", form, *AS_WORKER, kind)
        action = await line.ended()
        twice = form.replace(b"--x--", form[:-7] + b"--x--")
        refused = await line.post("/up/list/v1/audio/transcriptions", twice, *AS_WORKER, kind)
    assert (got.status, action.target, action.unconfirmed) == (200, "up:whisper-1", False)
    assert action.cost == 900_000  # 9 s at 0.36 USD an hour
    assert (action.reserved or 0) >= action.cost
    assert (refused.status, refused.json()["error"]["code"]) == (400, "invalid_form")
