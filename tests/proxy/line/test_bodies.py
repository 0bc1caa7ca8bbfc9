"""Request bodies: read whole and within bounds where a price has to; streamed as they come where none does."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import pytest

from proxy.receive import BODY_MAX
from tests.proxy.line.chat import CHAT, PATH, POLICY, told
from tests.proxy.line.governed import AS_WORKER, governed, post, request, until
from tests.proxy.rawhttp import Raw
from tests.proxy.upstreams import Line, Seen, answer, says

MB = 1024 * 1024


class Sent:
    """How many pieces of an endless sender were taken."""

    def __init__(self) -> None:
        self.pieces = 0

    async def stalled(self, sending: asyncio.Task[None] | None) -> None:
        """Until no more is taken, for a while, or all was."""
        before = -1
        while self.pieces != before and not (sending and sending.done()):
            before = self.pieces
            await asyncio.sleep(0.3)


async def upload(raw: Raw, pieces: int, piece: bytes, sent: Sent) -> None:
    """As chunks, so that nobody knows how much will come."""
    await raw.send(request("POST", "/up/flat/x", b"Transfer-Encoding: chunked", *AS_WORKER))
    for _ in range(pieces):
        await raw.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        sent.pieces += 1
    await raw.send(b"0\r\n\r\n")


async def test_hazard_26_a_large_upload_streams_through(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer(b"ok"))) as line, line.connect() as raw:
        line.upstream.keep_body = False
        await upload(raw, 64, b"x" * MB, Sent())
        got = await raw.answer()
        assert (got.status, got.body) == (200, b"ok")
        [seen] = line.upstream.seen
        assert (seen.size, seen.header("transfer-encoding"), seen.header("content-length")) == (
            64 * MB,
            "chunked",
            None,
        )


async def test_hazard_26_an_upload_is_held_back_while_the_upstream_does_not_read(tmp_path: Path) -> None:
    """What was taken of it stays within the sockets' buffers; when the upstream reads on, all of it comes."""
    go, received = asyncio.Event(), 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await go.wait()
        tail = b""
        while not tail.endswith(b"\r\n0\r\n\r\n"):
            received += len(piece := await reader.read(MB))
            tail = tail[-7:] + piece
        writer.write(answer(b"ok"))
        writer.close()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    policy = POLICY.replace("URL", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}").replace("1s", "60s")
    async with governed(tmp_path, policy, says()) as line, line.connect() as raw:
        sent = Sent()
        sending = asyncio.create_task(upload(raw, 64, b"x" * MB, sent))
        await sent.stalled(sending)
        assert sent.pieces < 40
        assert line.ledger.reservations() != []
        go.set()
        assert (await raw.answer()).body == b"ok"
        await sending
        assert received > 64 * MB
    server.close()
    await server.wait_closed()


async def test_hazard_26_an_answer_is_held_back_while_the_client_does_not_read(tmp_path: Path) -> None:
    sent = Sent()

    async def large(seen: Seen, line: Line) -> None:
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MB))
        for _ in range(64):
            await line.say(b"x" * MB)
            sent.pieces += 1

    async with governed(tmp_path, POLICY.replace("1s", "60s"), large) as line, line.connect() as raw:
        await raw.send(post("/up/flat/x", {}))
        await until(lambda: sent.pieces > 0)
        await sent.stalled(None)
        assert sent.pieces < 40
        got = await raw.answer()
        assert (len(got.body), got.complete) == (64 * MB, True)


async def test_hazard_16_a_priced_body_above_its_bound_is_413(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(told())) as line:
        stated = await line.get(PATH, *AS_WORKER, b"Content-Length: %d" % (BODY_MAX + 1), method="POST")
        assert (stated.status, stated.json()["error"]["code"]) == (413, "body_too_large")
        async with line.connect() as raw:
            await raw.send(request("POST", PATH, b"Transfer-Encoding: chunked", *AS_WORKER))
            for _ in range(BODY_MAX // MB + 1):
                await raw.send(b"%x\r\n%b\r\n" % (MB, b" " * MB))
            unstated = await raw.answer()
            assert (unstated.status, unstated.json()["error"]["type"]) == (413, "request_too_large")
        assert line.witness.admitted == []
    assert line.upstream.lines == []


async def test_a_priced_body_at_its_bound_passes(tmp_path: Path) -> None:
    raw = json.dumps(CHAT).encode().ljust(BODY_MAX)
    policy = POLICY.replace("monthly_budget: 10", "monthly_budget: 1000").replace("1s", "60s")
    async with governed(tmp_path, policy, says(told())) as line:
        line.upstream.keep_body = False
        assert (await line.post(PATH, raw)).status == 200
        assert line.upstream.seen[0].size == BODY_MAX


@pytest.mark.parametrize("stated", [b"gzip", b"identity, gzip", b"identity\r\nContent-Encoding: gzip"])
async def test_hazard_31_a_compressed_body_that_is_priced_is_415(tmp_path: Path, stated: bytes) -> None:
    async with governed(tmp_path, POLICY, says(told())) as line:
        raw = gzip.compress(json.dumps(CHAT).encode())
        got = await line.post(PATH, raw, *AS_WORKER, b"Content-Encoding: " + stated)
        assert (got.status, got.json()["error"]["code"]) == (415, "unsupported_encoding")
        assert got.header("x-should-retry") == "false"
    assert line.upstream.lines == []


async def test_a_compressed_body_that_no_rule_reads_passes(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        raw = gzip.compress(b"anything")
        assert (await line.post("/up/flat/x", raw, *AS_WORKER, b"Content-Encoding: gzip")).status == 200
        assert line.upstream.seen[0].body == raw
        assert line.upstream.seen[0].header("content-encoding") == "gzip"


UNREADABLE = {
    "hazard 30, duplicate keys": b'{"model": "cheap", "model": "dear"}',
    "hazard 30, duplicate keys within": b'{"model": "m", "messages": [{"role": "a", "role": "b"}]}',
    "hazard 29, nesting": b"[" * 100_000,
    "hazard 29, a long integer": b'{"max_tokens": ' + b"9" * 5000 + b"}",
    "hazard 29, UTF-16": '{"model": "m"}'.encode("utf-16"),
    "invalid": b'{"model": m}',
    "a trailing comma": b'{"model": "m",}',
    "NaN": b'{"max_tokens": NaN}',
}


@pytest.mark.parametrize("raw", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("header", [b"Content-Type: application/json", b"X-None: 1"])
async def test_a_body_whose_fields_price_it_and_can_t_be_read_is_400(tmp_path: Path, raw: bytes, header: bytes) -> None:
    """Whatever type it claims: a lenient upstream might read it otherwise, and so dodge a rule."""
    policy = POLICY.replace('{path: "/v1/**"}', "{body: {model: m}}")
    async with governed(tmp_path, policy, says(told())) as line:
        got = await line.post(PATH, raw, *AS_WORKER, header)
        assert (got.status, got.json()["error"]["code"]) == (400, "invalid_json")
    assert line.upstream.lines == []


async def test_a_form_that_no_field_prices_is_estimated_and_passes_as_it_came(tmp_path: Path) -> None:
    """An upload of audio: no JSON, tokens all the same."""
    async with governed(tmp_path, POLICY, says(told())) as line:
        parts = (b"--x\r\nContent-Disposition: form-data; name=f%d\r\n\r\nsome text\r\n" % n for n in range(9))
        form = b"".join(parts) + b"--x--\r\n"
        got = await line.post("/up/v1/audio", form, *AS_WORKER, b"Content-Type: multipart/form-data; boundary=x")
        assert got.status == 200
        assert line.upstream.seen[0].body == form
        action = await line.ended()
        assert action.reserved == action.estimated["input_tokens"] * 1_000 + 4096 * 2_000
        assert action.estimated["input_tokens"] > 80
