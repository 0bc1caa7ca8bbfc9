"""Promise 9: bytes reach the other side unchanged, save the rewritings that the design names. Promise 6, proxied."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import pytest

from tests.proxy.line.chat import (
    CHARGE,
    CHAT,
    DONE,
    END,
    JSON,
    LAST,
    PATH,
    POLICY,
    SSE,
    STREAM,
    WORD,
    chunk,
    told,
)
from tests.proxy.line.governed import AS_WORKER, Governed, governed, post
from tests.proxy.upstreams import Line, Seen, answer, says

OURS = {b"x-ledger-action-id", b"x-ledger-budget-remaining"}
ODD_JSON = (
    b'\n{ "usage" :{"completion_tokens":10,\t"prompt_tokens" : 40.0e0, "prompt_tokens":40},'
    b'\r\n"x":"\\u00e9\xc3\xa9" } \n'
)
ODD_SSE = [
    b"\xef\xbb\xbf: a comment\r\nretry: 10\r\n\r\n",
    WORD.replace(b"\n", b"\r\n") + b"event: x\rdata: y\r\r",
    b"data:{}\n\n\n\nid",
    b": 1\ndata: two\ndata: lines\n\n" + LAST + DONE + b"data: unfinished",
]


async def served(line: Governed, body: object = CHAT, *headers: bytes) -> bytes:
    """The body a client gets, its answer being whole."""
    got = await line.post(PATH, body, *AS_WORKER, *headers)
    assert got.complete
    return got.body


# -- the answer --------------------------------------------------------------------------------------------------------


async def test_promise_9_json_with_odd_spacing_passes_and_is_metered(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer(ODD_JSON, "200 OK", JSON))) as line:
        assert await served(line) == ODD_JSON
        assert (await line.ended()).cost == CHARGE


async def test_promise_9_hazard_21_gzip_passes_raw_and_a_copy_is_metered(tmp_path: Path) -> None:
    raw = gzip.compress(told().partition(b"\r\n\r\n")[2])
    async with governed(tmp_path, POLICY, says(answer(raw, "200 OK", JSON, b"Content-Encoding: gzip"))) as line:
        assert await served(line, CHAT, b"Accept-Encoding: compress, gzip;q=0.5, zstd") == raw
        assert (await line.ended()).cost == CHARGE
        assert line.upstream.seen[0].header("accept-encoding") == "gzip;q=0.5, zstd"


@pytest.mark.parametrize("accepts", [(), (b"Accept-Encoding: identity",), (b"Accept-Encoding: compress",)])
async def test_hazard_22_no_encoding_is_asked_for_that_the_client_or_the_meter_can_t_read(
    tmp_path: Path, accepts: tuple[bytes, ...]
) -> None:
    async with governed(tmp_path, POLICY, says(told())) as line:
        await served(line, CHAT, *accepts)
        assert line.upstream.seen[0].header("accept-encoding") == "identity"


async def test_where_nothing_is_metered_the_client_s_accept_encoding_stands(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer(b"dcb", "200 OK", b"Content-Encoding: dcb"))) as line:
        got = await line.post("/up/flat/x", b"{}", *AS_WORKER, b"Accept-Encoding: dcb, zstd")
        assert (got.body, got.header("content-encoding")) == (b"dcb", "dcb")
        assert line.upstream.seen[0].header("accept-encoding") == "dcb, zstd"


async def test_promise_9_a_stream_passes_with_its_crlf_comments_bom_and_rest(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(SSE, *map(chunk, ODD_SSE), END)) as line:
        assert await served(line, STREAM) == b"".join(ODD_SSE)
        assert (await line.ended()).cost == CHARGE


async def test_promise_9_a_stream_passes_byte_by_byte(tmp_path: Path) -> None:
    whole = b"".join(ODD_SSE)
    pieces = [chunk(whole[at : at + 1]) for at in range(len(whole))]
    async with governed(tmp_path, POLICY, says(SSE, *pieces, END)) as line:
        assert await served(line, STREAM) == whole
        assert (await line.ended()).cost == CHARGE


async def test_promise_9_headers_pass_in_their_order_and_number(tmp_path: Path) -> None:
    headers = [b"Set-Cookie: a=1; Path=/", b"X-Odd:  two  words ", b"Set-Cookie: b=2", b"Date: now", b"Server: theirs"]
    hop = [
        b"Connection: X-Hop",
        b"X-Hop: 1",
        b"Keep-Alive: timeout=5",
        b"X-Ledger-Action-Id: forged",
        b"x-agent-id: who",
    ]
    async with governed(tmp_path, POLICY, says(answer(b"{}", "200 OK", *headers, *hop))) as line:
        got = await line.post("/up/flat/x", {})
        passed = [(name, value) for name, value in got.headers if name not in OURS]
        expected = [(name.lower(), value.strip()) for name, _, value in (each.partition(b":") for each in headers)]
        assert passed == [*expected, (b"content-length", b"2")]
        assert got.header("x-ledger-action-id") == (await line.ended()).id


async def test_hazard_14_a_redirect_is_passed_on_not_followed(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer(b"", "302 Found", b"Location: /elsewhere"))) as line:
        got = await line.get("/up/flat/x")
        assert (got.status, got.header("location")) == (302, "/elsewhere")
        assert len(line.upstream.seen) == 1


async def test_hazard_20_no_cookie_is_kept_for_another_call(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer(b"", "200 OK", b"Set-Cookie: session=theirs"))) as line:
        await line.get("/up/flat/x")
        await line.get("/up/flat/x", *AS_WORKER, b"Cookie: own=1")
        assert [seen.header("cookie") for seen in line.upstream.seen] == [None, "own=1"]


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_hazard_24_an_answer_without_a_body_passes(tmp_path: Path, status: str) -> None:
    script = says(f"HTTP/1.1 {status}\r\nETag: x\r\n\r\n".encode())
    async with governed(tmp_path, POLICY, script) as line, line.connect() as raw:
        for _ in range(2):  # the connection is whole behind it
            await raw.send(post("/up/flat/x", {}))
            got = await raw.answer()
            assert (got.status, got.header("etag"), got.body) == (int(status[:3]), "x", b"")


async def test_hazard_24_head_keeps_its_length_and_has_no_body(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(b"HTTP/1.1 200 OK\r\nContent-Length: 123\r\n\r\n")) as line:
        got = await line.get("/up/flat/x", method="HEAD")
        assert (got.status, got.header("content-length"), got.body) == (200, "123", b"")
        assert line.upstream.seen[0].method == "HEAD"


async def test_hazard_24_informational_answers_are_passed_over(tmp_path: Path) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    async with governed(tmp_path, POLICY, says(early + told())) as line:
        assert json.loads(await served(line))["model"] == "m"


async def test_an_error_s_body_passes_as_the_upstream_wrote_it(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer(b"{'no': json", "429 Too Many", b"Retry-After: 7"))) as line:
        got = await line.post(PATH, CHAT)
        assert (got.status, got.body, got.header("retry-after")) == (429, b"{'no': json", "7")


# -- the request -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/a%2Fb/%252e%252E", "/v1//x/", "/v1/caf%c3%a9", "/v1/x;y=1,2:$&'()*!@"])
@pytest.mark.parametrize("query", ["", "?a=%20&b=+&&key=theirs&c"])
async def test_promise_9_hazard_11_path_and_query_pass_byte_for_byte(tmp_path: Path, path: str, query: str) -> None:
    policy = POLICY.replace('"URL"', '"URL/base/v9"')
    async with governed(tmp_path, policy, says(told())) as line:
        await line.post(f"/up{path}{query}", CHAT)
        assert line.upstream.seen[0].target.decode() == f"/base/v9{path}{query}"


@pytest.mark.parametrize(
    "raw",
    [
        b' \n{"model" :"m", "max_tokens": 1.0e1 ,\r\n"messages":[{"content":"\\u00e9 \xc3\xa9 \\/"}] }\t\n',
        json.dumps(STREAM).encode(),
        json.dumps(CHAT | {"stream": False}).encode(),
    ],
)
async def test_promise_9_a_priced_body_passes_byte_for_byte(tmp_path: Path, raw: bytes) -> None:
    async with governed(tmp_path, POLICY, says(told())) as line:
        await line.post(PATH, raw)
        assert line.upstream.seen[0].body == raw
        assert line.upstream.seen[0].header("content-length") == str(len(raw))


async def test_promise_9_request_headers_pass_in_their_order(tmp_path: Path) -> None:
    headers = [b"B-Second: 2", b"A-First: one two", b"B-Second: again", b"User-Agent: SDK/1.0", b"Idempotency-Key: k-1"]
    hop = [b"Connection: X-Hop", b"X-Hop: 1", b"TE: trailers", b"Proxy-Authorization: Basic eA==", b"X-Ledger-Foo: 1"]
    async with governed(tmp_path, POLICY, says(answer())) as line:
        await line.post("/up/flat/x", b"{}", *AS_WORKER, *headers, *hop)
        seen = line.upstream.seen[0]
        sent = [
            (name.lower(), value) for name, value in seen.headers if name.lower() not in (b"host", b"content-length")
        ]
        assert sent == [(name.lower(), value.strip()) for name, _, value in (each.partition(b":") for each in headers)]
        assert seen.header("host") == line.upstream.url.removeprefix("http://")
        assert seen.header("content-length") == "2"


async def test_promise_6_an_idempotency_key_passes_and_each_attempt_is_an_action(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(told())) as line:
        for _ in range(2):
            await served(line, CHAT, b"Idempotency-Key: same")
        assert [seen.header("idempotency-key") for seen in line.upstream.seen] == ["same", "same"]
        first, second = await line.actions()
        assert first.id != second.id
        assert line.standing().spent == 2 * CHARGE


# -- as it comes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [STREAM, CHAT | {"stream": True}], ids=["asked", "unasked"])
async def test_hazard_26_an_event_is_passed_on_before_the_next_is_sent(tmp_path: Path, body: object) -> None:
    go = asyncio.Event()

    async def script(seen: Seen, line: Line) -> None:
        for _ in range(3):
            await line.say(SSE if not line.sent else chunk(WORD))
            await go.wait()
            go.clear()
        await line.say(chunk(LAST), END)

    async with governed(tmp_path, POLICY.replace("timeout: 1s", "timeout: 60s"), script) as line, line.connect() as raw:
        await raw.send(post(PATH, body))
        await raw.reader.readuntil(b"\r\n\r\n")  # the head, while there is no body yet
        for _ in range(2):
            go.set()
            await raw.reader.readuntil(WORD + b"\r\n")
        go.set()
        await raw.reader.readuntil(END)
        assert (await line.ended()).cost == CHARGE
