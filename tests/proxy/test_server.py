from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.call import CLIENT
from proxy.load import Load
from proxy.protocol import Connection, Edges
from proxy.server import Server, serve, stop_signals
from tests.proxy.rawhttp import WAIT_S, Answer, Raw, ask, refused

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


class Echo:
    """Answers with what reached it; counts what did."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.disconnected = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected.set()
                return
            body += message["body"]
            more = message["more_body"]
        seen = {
            "method": scope["method"],
            "raw_path": scope["raw_path"].decode(),
            "query": scope["query_string"].decode(),
            "headers": [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]],
            "body": body.decode(),
        }
        await reply(send, json.dumps(seen).encode())


async def reply(send: Send, body: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    length = [(b"content-length", b"%d" % len(body))] if headers is None else headers
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, edges: Edges | None = None, load: Load | None = None) -> AsyncIterator[int]:
    server = Server(app, edges=edges, load=load)
    port = await server.start()
    try:
        yield port
    finally:
        await server.shutdown(0.0)


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def port(echo: Echo) -> AsyncIterator[int]:
    async with serving(echo, Edges(linger_s=0.2)) as port:
        yield port


def error_of(answer: Answer) -> str:
    assert answer.header("content-type") == "application/json"
    assert answer.header("connection") == "close"
    error = answer.json()["error"]
    assert set(error) == {"code", "message"}
    return str(error["code"])


# -- requests that never reach the app ---------------------------------------------------------------------------


REFUSED: dict[str, tuple[int, bytes]] = {
    "01_length_and_chunks": (400, POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "01_chunks_and_length": (400, POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
    "02_chunks_on_1_0": (400, b"POST /a HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "03_differing_lengths": (400, POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    "03_equal_lengths": (400, POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    "03_listed_lengths": (400, POST + b"Content-Length: 3, 3\r\n\r\nabc"),
    "04_plus": (400, POST + b"Content-Length: +5\r\n\r\nabcde"),
    "04_minus": (400, POST + b"Content-Length: -1\r\n\r\nabcde"),
    "04_underscore": (400, POST + b"Content-Length: 0_5\r\n\r\nabcde"),
    "04_huge": (400, POST + b"Content-Length: 100000000000000000000\r\n\r\n"),
    "05_xchunked": (501, POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "05_chunked_identity": (400, POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    "05_gzip_chunked": (501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "08_bare_lf": (400, b"GET /a HTTP/1.1\nHost: x\n\n"),
    "08_bare_lf_in_one_line": (400, b"GET /a HTTP/1.1\r\nHost: x\nA: b\r\n\r\n"),
    "08_obs_fold": (400, GET + b"A: b\r\n folded\r\n\r\n"),
    "08_cr_in_a_value": (400, GET + b"A: b\rc\r\n\r\n"),
    "08_nul_in_a_value": (400, GET + b"A: b\0c\r\n\r\n"),
    "08_space_before_the_colon": (400, GET + b"A : b\r\n\r\n"),
    "09_no_host": (400, b"GET /a HTTP/1.1\r\n\r\n"),
    "09_two_hosts": (400, GET + b"Host: x\r\n\r\n"),
    "09_version": (400, b"GET /a HTTP/3.9\r\nHost: x\r\n\r\n"),
    "09_h2_preface": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "10_dots": (400, b"GET /openai/v1/../../api/agents HTTP/1.1\r\nHost: x\r\n\r\n"),
    "10_encoded_dots": (400, b"GET /openai/%2e%2e/api/agents HTTP/1.1\r\nHost: x\r\n\r\n"),
    "10_nul": (400, b"GET /openai/%00 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "10_crlf": (400, b"GET /openai/%0d%0aX-A:b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "12_unreserved": (400, b"GET /%61pi/agents HTTP/1.1\r\nHost: x\r\n\r\n"),
    "13_absolute_form": (400, b"GET http://127.0.0.1/api/agents HTTP/1.1\r\nHost: x\r\n\r\n"),
    "13_two_slashes": (400, b"GET //evil.example/x HTTP/1.1\r\nHost: x\r\n\r\n"),
    "13_at": (400, b"GET @evil.example/x HTTP/1.1\r\nHost: x\r\n\r\n"),
    "13_connect": (405, b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n"),
    "15_authorization": (400, GET + b"Authorization: a\r\nAuthorization: b\r\n\r\n"),
    "15_x_agent_id": (400, GET + b"X-Agent-Id: a\r\nx-agent-id: b\r\n\r\n"),
    "15_x_ledger_key": (400, GET + b"X-Ledger-Key: a\r\nX-Ledger-Key: a\r\n\r\n"),
    "16_one_large_header": (431, GET + b"A: " + b"b" * 70_000 + b"\r\n\r\n"),
    "16_many_headers": (431, GET + b"A: b\r\n" * 5_000 + b"\r\n"),
    "16_more_than_200_headers": (431, GET + b"A: b\r\n" * 200 + b"\r\n"),
    "16_an_endless_header": (431, GET + b"A: " + b"b" * 300_000),
    "16_empty_lines_without_end": (431, b"\r\n" * 60_000),
    "16_long_target": (414, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    "18_websocket": (501, GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\n"),
    "18_h2c": (501, GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: a\r\n\r\n"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_hazards_01_to_18_refused_with_the_apis_error_and_nothing_reaches_the_app(
    case: str, port: int, echo: Echo
) -> None:
    status, data = REFUSED[case]
    answer = await refused(port, data)
    assert answer.status == status
    assert error_of(answer)
    assert echo.scopes == []


@pytest.mark.parametrize("data", [data for case, (_, data) in REFUSED.items() if case[:2] != "16"])
async def test_refused_as_well_when_it_comes_byte_by_byte(data: bytes, port: int, echo: Echo) -> None:
    async with Raw.connect(port) as raw:
        for byte in data:
            await raw.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await raw.answer()).status >= 400
    assert echo.scopes == []


@pytest.mark.parametrize(
    "chunks",
    [
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"-1\r\nhello\r\n0\r\n\r\n",
        b"3\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r\n0\n\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nhello",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b"5;" + b"a" * 400_000,
        b"5\r\nhello\r\n0\r\nA: " + b"a" * 400_000,
    ],
    ids=lambda chunks: repr(chunks[:24]),
)
async def test_hazard_06_a_broken_chunk_is_a_prompt_400_and_the_app_sees_its_client_gone(
    chunks: bytes, port: int, echo: Echo
) -> None:
    answer = await refused(port, CHUNKED + chunks)
    assert (answer.status, error_of(answer)) == (400, "malformed_request")
    await asyncio.wait_for(echo.disconnected.wait(), WAIT_S)


# -- requests that do ---------------------------------------------------------------------------------------------


async def test_hazard_07_request_trailers_are_dropped(port: int, echo: Echo) -> None:
    answer = await ask(port, CHUNKED + b"5\r\nhello\r\n0\r\nX-Agent-Id: boss\r\nHost: y\r\n\r\n")
    assert answer.json()["body"] == "hello"
    assert echo.scopes[0]["headers"] == [(b"host", b"x"), (b"transfer-encoding", b"chunked")]


async def test_hazard_15_a_name_with_an_underscore_is_dropped(port: int) -> None:
    answer = await ask(port, GET + b"X_Agent_Id: boss\r\nContent_Length: 9\r\nA: b\r\n\r\n")
    assert answer.json()["headers"] == [["host", "x"], ["a", "b"]]


@pytest.mark.parametrize(
    "path", ["/bedrock/model/arn%3Aaws%2Fx/invoke", "/x/%252e%252e/y", "/caf%c3%a9", "/API/agents", "/api/agents/"]
)
async def test_hazard_11_the_path_arrives_byte_for_byte(path: str, port: int) -> None:
    answer = await ask(port, b"GET %b?q=%%00&r=/../?#".rstrip(b"#") % path.encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (answer.json()["raw_path"], answer.json()["query"]) == (path, "q=%00&r=/../?")


async def test_two_requests_on_one_connection_even_sent_at_once_get_two_answers(port: int) -> None:
    async with Raw.connect(port) as raw:
        await raw.send(POST + b"Content-Length: 2\r\n\r\nab" + CHUNKED + b"1\r\nc\r\n0\r\n\r\n")
        assert [(await raw.answer()).json()["body"] for _ in range(2)] == ["ab", "c"]
        await raw.send(GET + b"\r\n")
        assert (await raw.answer()).status == 200


async def test_a_request_followed_by_garbage_gets_its_answer_and_then_the_connection_closes(
    port: int, echo: Echo
) -> None:
    answer = await refused(port, POST + b"Content-Length: 2\r\n\r\nabGARBAGE\r\n\r\n")
    assert (answer.status, answer.json()["body"], len(echo.scopes)) == (200, "ab", 1)


async def test_a_request_queued_before_garbage_is_not_begun() -> None:
    finish, calls = asyncio.Event(), 0

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        await finish.wait()
        await reply(send, b"first")

    async with serving(slow) as port, Raw.connect(port) as raw:
        await raw.send(GET + b"\r\n" + GET + b"\r\nGARBAGE\r\n\r\n")
        finish.set()
        assert (await raw.answer()).body == b"first"
        assert await raw.closed()
    assert calls == 1


@pytest.mark.parametrize(("sent", "answered"), [(33, 33), (34, 1)])
async def test_requests_sent_before_their_answers_are_bounded(sent: int, answered: int) -> None:
    finish, calls = asyncio.Event(), 0

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        await finish.wait()
        await reply(send, b"done")

    async with serving(slow) as port, Raw.connect(port) as raw:
        await raw.send((GET + b"\r\n") * sent)
        finish.set()
        for _ in range(answered):
            assert (await raw.answer()).body == b"done"
        if answered < sent:
            assert await raw.closed()
    assert calls == answered


async def test_expect_100_continue_is_answered_when_the_app_reads(port: int) -> None:
    async with Raw.connect(port) as raw:
        await raw.send(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await raw.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await raw.send(b"ab")
        assert (await raw.answer()).json()["body"] == "ab"


async def test_nothing_is_added_to_an_answers_headers(port: int) -> None:
    answer = await ask(port, GET + b"\r\n")
    assert answer.headers == [(b"content-length", b"%d" % len(answer.body))]


async def test_an_http_1_0_client_gets_no_chunks(port: int) -> None:
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a" * 3, "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    async with serving(stream) as port:
        answer = await ask(port, b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
        assert (answer.body, answer.header("transfer-encoding"), answer.header("connection")) == (
            b"aaab",
            None,
            "close",
        )


# -- time ----------------------------------------------------------------------------------------------------------


async def test_hazard_17_a_silent_socket_is_closed(echo: Echo) -> None:
    async with serving(echo, Edges(head_s=0.05)) as port, Raw.connect(port) as raw:
        assert await raw.closed()


async def test_hazard_17_slow_headers_are_cut_off(echo: Echo) -> None:
    async with serving(echo, Edges(head_s=0.1, linger_s=0.1)) as port, Raw.connect(port) as raw:
        await raw.send(GET)
        drip = asyncio.create_task(_drip(raw, b"a"))
        answer = await raw.answer()
        drip.cancel()
        assert (answer.status, error_of(answer), echo.scopes) == (408, "request_timeout", [])


async def test_hazard_17_slow_headers_of_a_later_request_are_cut_off_too(echo: Echo) -> None:
    async with serving(echo, Edges(head_s=0.1, linger_s=0.1)) as port, Raw.connect(port) as raw:
        await raw.send(GET + b"\r\n")
        assert (await raw.answer()).status == 200
        await raw.send(b"\r\n\r\nGET /")
        assert (await raw.answer()).status == 408


@pytest.mark.parametrize("head", [POST + b"Content-Length: 900\r\n\r\n", CHUNKED + b"900\r\n"])
async def test_hazard_17_a_slow_body_is_cut_off_and_the_app_sees_its_client_gone(head: bytes, echo: Echo) -> None:
    async with serving(echo, Edges(body_s=0.1, linger_s=0.1)) as port, Raw.connect(port) as raw:
        await raw.send(head)
        drip = asyncio.create_task(_drip(raw, b"a"))
        answer = await raw.answer()
        drip.cancel()
        assert (answer.status, error_of(answer)) == (408, "request_timeout")
        await asyncio.wait_for(echo.disconnected.wait(), WAIT_S)


async def test_a_body_that_keeps_coming_is_not_slow(echo: Echo) -> None:
    async with serving(echo, Edges(body_s=0.1, body_bytes=10)) as port, Raw.connect(port) as raw:
        await raw.send(POST + b"Content-Length: 800\r\n\r\n")
        for _ in range(8):
            await raw.send(b"a" * 100)
            await asyncio.sleep(0.04)
        assert (await raw.answer()).json()["body"] == "a" * 800


async def test_a_body_that_the_app_holds_back_is_not_slow() -> None:
    size = 4_000_000

    async def sluggish(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.3)
        read, more = 0, True
        while more:
            message = await receive()
            read += len(message["body"])
            more = message["more_body"]
        await reply(send, b"%d" % read)

    async with serving(sluggish, Edges(body_s=0.05, body_bytes=1_000_000)) as port, Raw.connect(port) as raw:
        sending = asyncio.create_task(raw.send(POST + b"Content-Length: %d\r\n\r\n" % size + b"a" * size))
        answer = await raw.answer()
        await sending
        assert (answer.status, answer.body) == (200, b"%d" % size)


async def test_an_idle_connection_is_closed(echo: Echo) -> None:
    async with serving(echo, Edges(keep_alive_s=0)) as port, Raw.connect(port) as raw:
        await raw.send(GET + b"\r\n")
        assert (await raw.answer()).status == 200
        assert await raw.closed()


async def test_hazard_25_a_client_that_never_reads_its_answer_is_let_go() -> None:
    ended = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        watch = asyncio.create_task(_until_disconnected(receive))
        while not watch.done():
            await send({"type": "http.response.body", "body": b"a" * 65536, "more_body": True})
            await asyncio.sleep(0)
        ended.set()

    async with serving(endless, Edges(stall_s=0.1)) as port, Raw.connect(port) as raw:
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await raw.send(GET + b"\r\n")
        await asyncio.wait_for(ended.wait(), WAIT_S)


async def _drip(raw: Raw, byte: bytes) -> None:
    while True:
        await raw.send(byte)
        await asyncio.sleep(0.01)


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


# -- answers as they are written -----------------------------------------------------------------------------------


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the server writes, write by write."""
    written: list[bytes] = []
    made = Connection.connection_made

    class Noting:
        def __init__(self, transport: asyncio.Transport) -> None:
            self._transport = transport

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

        def write(self, data: bytes) -> None:
            written.append(data)
            self._transport.write(data)

    monkeypatch.setattr(Connection, "connection_made", lambda self, transport: made(self, Noting(transport)))  # type: ignore[arg-type]
    return written


async def test_an_answer_is_one_write_and_each_further_piece_one_more(writes: list[bytes]) -> None:
    async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/whole":
            await reply(send, b"hello")
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(2):
            await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        await send({"type": "http.response.body", "body": b"c"})

    async with serving(streaming) as port, Raw.connect(port) as raw:
        for path, body in [(b"whole", b"hello"), (b"pieces", b"ababc")]:
            await raw.send(b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
            assert (await raw.answer()).body == body
    assert writes == [
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"2\r\nab\r\n",
        b"1\r\nc\r\n0\r\n\r\n",
    ]


async def test_a_head_whose_body_is_yet_to_come_is_not_held_back() -> None:
    go = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await go.wait()
        await send({"type": "http.response.body", "body": b"a"})

    async with serving(slow) as port, Raw.connect(port) as raw:
        await raw.send(GET + b"\r\n")
        async with asyncio.timeout(WAIT_S):
            assert (await raw.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        go.set()
        assert await raw.reader.readuntil(b"0\r\n\r\n") == b"1\r\na\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "header",
    [(b"a", b"b\r\nset-cookie: c"), (b"a", b"b\n"), (b"a", b"\0"), (b"a\r\nb", b"c"), (b"a b", b"c"), (b"", b"c")],
)
async def test_a_header_that_would_be_another_or_none_is_not_sent(header: tuple[bytes, bytes]) -> None:
    async def injecting(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, b"", [header])

    async with serving(injecting) as port:
        answer = await ask(port, GET + b"\r\n")
        assert (answer.status, error_of(answer)) == (500, "internal_error")


@pytest.mark.parametrize("sent", [b"abc", b"a"])
async def test_an_answer_of_another_length_than_it_states_breaks_off(sent: bytes) -> None:
    async def lying(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, sent, [(b"content-length", b"2")])

    async with serving(lying) as port, Raw.connect(port) as raw:
        await raw.send(GET + b"\r\n")
        assert not (await raw.answer()).complete


async def test_an_app_that_ends_without_its_answer_is_an_error() -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    load = Load()
    async with serving(silent, load=load) as port:
        assert error_of(await ask(port, GET + b"\r\n")) == "internal_error"
    assert load.refused["internal_error"] == 1


@pytest.mark.parametrize("leaves", [True, False])
async def test_an_app_that_ends_because_its_client_left_is_no_error(
    leaves: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """As the stream of a page's events does, when the page is closed."""

    async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"so far", "more_body": True})
        if leaves:
            await _until_disconnected(receive)

    load = Load()
    async with serving(streaming, load=load) as port, Raw.connect(port) as raw:
        await raw.send(GET + b"\r\n")
        if leaves:
            raw.writer.write_eof()
        answer = await raw.answer()
        assert (answer.body, answer.complete) == (b"so far", False)
    assert ("its answer had not" in caplog.text) is not leaves
    assert load.refused["internal_error"] == (not leaves)


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
async def test_an_answer_that_has_no_body_is_sent_without_one(method: bytes, status: int) -> None:
    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})

    async with serving(answering) as port, Raw.connect(port) as raw:
        for _ in range(2):
            await raw.send(method + b" /a HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await raw.answer(method.decode())).header("content-length") == "5"


# -- answers that break off ----------------------------------------------------------------------------------------


BEGINS: dict[str, list[tuple[bytes, bytes]]] = {"chunked": [], "content-length": [(b"content-length", b"9")]}


@pytest.mark.parametrize("framing", BEGINS)
async def test_hazard_23_an_aborted_answer_is_delivered_so_far_and_ends_unclean(
    framing: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def breaking(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": BEGINS[framing]})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        raise ConnectionAbortedError

    async with serving(breaking) as port:
        answer = await ask(port, GET + b"\r\n")
        assert (answer.status, answer.body, answer.complete) == (200, b"abc", False)
    assert caplog.records == []


async def test_hazard_23_an_aborted_answer_without_framing_is_reset() -> None:
    reached = asyncio.Event()

    async def breaking(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await reached.wait()
        raise ConnectionAbortedError

    async with serving(breaking) as port, Raw.connect(port) as raw:
        await raw.send(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
        assert (await raw.reader.readuntil(b"abc")).endswith(b"abc")
        reached.set()
        assert await raw.closed() is False


async def test_an_aborted_answer_that_has_not_begun_closes_without_one() -> None:
    async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
        raise ConnectionAbortedError

    async with serving(refusing) as port, Raw.connect(port) as raw:
        await raw.send(GET + b"\r\n")
        with pytest.raises(EOFError):
            await raw.answer()


async def test_promise_10_an_exception_is_a_json_500_whose_message_reaches_neither_client_nor_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError(dict(scope["headers"])[b"authorization"])

    load = Load()
    async with serving(failing, load=load) as port:
        answer = await refused(port, GET + b"Authorization: alk_secret\r\n\r\n")
    assert load.refused["internal_error"] == 1
    assert (answer.status, error_of(answer)) == (500, "internal_error")
    assert "ValueError" in caplog.text
    assert "test_server.py" in caplog.text
    assert "alk_secret" not in caplog.text + answer.body.decode()


async def test_an_exception_after_the_answer_began_aborts_it() -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        raise ValueError

    async with serving(failing) as port:
        assert (await ask(port, GET + b"\r\n")).complete is False


async def test_a_broken_body_after_the_answer_began_breaks_it_off() -> None:
    gone = asyncio.Event()

    async def eager(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await _until_disconnected(receive)
        gone.set()

    async with serving(eager) as port, Raw.connect(port) as raw:
        await raw.send(CHUNKED)
        await raw.reader.readuntil(b"abc\r\n")
        await raw.send(b"-1\r\n")
        await asyncio.wait_for(gone.wait(), WAIT_S)
        with contextlib.suppress(ConnectionError):
            assert await raw.reader.read() == b"", "no second status line inside an answer"


async def test_an_answer_before_the_body_was_read_arrives_and_the_rest_is_not_waited_for() -> None:
    async def denying(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, b"no")

    async with serving(denying, Edges(linger_s=0.1)) as port, Raw.connect(port) as raw:
        size = 20_000_000
        await raw.send(POST + b"Content-Length: %d\r\n\r\n" % size + b"a" * (size // 2))
        answer = await raw.answer()
        assert (answer.body, answer.header("connection")) == (b"no", "close")
        assert await raw.closed()


@pytest.mark.parametrize("leave", ["close", "reset", "half-close"])
async def test_hazard_25_a_client_that_leaves_is_told_to_the_app(leave: str) -> None:
    began, gone = asyncio.Event(), asyncio.Event()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        began.set()
        await _until_disconnected(receive)
        gone.set()

    async with serving(waiting) as port, Raw.connect(port) as raw:
        await raw.send(GET + b"\r\n")
        await began.wait()
        if leave == "close":
            raw.writer.close()
        elif leave == "reset":
            raw.reset()
        else:
            raw.writer.write_eof()
        await asyncio.wait_for(gone.wait(), WAIT_S)


async def test_hazard_25_a_client_that_leaves_is_told_to_the_app_though_it_had_sent_the_next_request() -> None:
    began, gone = asyncio.Event(), asyncio.Event()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        began.set()
        await _until_disconnected(receive)
        gone.set()

    async with serving(waiting) as port, Raw.connect(port) as raw:
        await raw.send(GET + b"\r\n" + GET + b"\r\n")
        await began.wait()
        raw.reset()
        await asyncio.wait_for(gone.wait(), WAIT_S)


async def test_hazard_26_an_answer_is_held_back_while_its_reader_holds_back() -> None:
    sent = 0

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(2000):
            await send({"type": "http.response.body", "body": b"a" * 100_000, "more_body": True})
            sent += 100_000
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b""})

    received = most_in_flight = 0
    async with serving(endless) as port, Raw.connect(port) as raw:
        await raw.send(GET + b"\r\n")
        while not (piece := await raw.reader.read(1 << 20)).endswith(b"0\r\n\r\n"):
            received += len(piece)
            most_in_flight = max(most_in_flight, sent - received)
    assert sent == 200_000_000
    assert most_in_flight < 20_000_000  # what the kernel's socket buffers hold


# -- what an app may know beside ASGI ------------------------------------------------------------------------------


async def test_the_whole_body_is_there_without_waiting_and_is_received_all_the_same() -> None:
    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        client = scope["extensions"][CLIENT]
        body = client.whole_body
        assert body == client.whole_body == (await receive())["body"]
        assert client.whole_body is None
        await reply(send, body)

    async with serving(reading) as port, Raw.connect(port) as raw:
        for data, body in [
            (POST + b"Content-Length: 5\r\n\r\nhello", b"hello"),
            (CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"),
            (GET + b"\r\n", b""),
        ]:
            await raw.send(data)
            assert (await raw.answer()).body == body


async def test_a_body_that_is_not_all_there_is_received_only() -> None:
    begun = asyncio.Event()

    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        client = scope["extensions"][CLIENT]
        assert client.whole_body is None
        begun.set()
        parts = [await receive()]
        assert client.whole_body is None
        while parts[-1]["more_body"]:
            parts.append(await receive())
        await reply(send, b"".join(part["body"] for part in parts))

    async with serving(reading) as port, Raw.connect(port) as raw:
        for expects in (b"", b"Expect: 100-continue\r\n"):
            begun.clear()
            await raw.send(POST + expects + b"Content-Length: 5\r\n\r\n")
            await begun.wait()
            await raw.send(b"hello")
            assert (await raw.answer()).body == b"hello"


@pytest.mark.parametrize("told_before", [False, True])
@pytest.mark.parametrize("leave", ["close", "reset", "half-close"])
async def test_hazard_25_a_client_that_leaves_is_told_without_a_task_that_waits(leave: str, told_before: bool) -> None:
    began, left, gone, told = asyncio.Event(), asyncio.Event(), asyncio.Event(), []

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        client = scope["extensions"][CLIENT]
        if told_before:
            began.set()
            await _until_disconnected(receive)
            client.on_gone(gone.set)
            assert not gone.is_set(), "soon, not at once"
        else:
            client.on_gone(lambda: told.append(1))
            client.on_gone(gone.set)
            began.set()
        await gone.wait()
        left.set()

    async with serving(waiting) as port, Raw.connect(port) as raw:
        await raw.send(GET + b"\r\n" + GET + b"\r\n")  # the next one, that waits, hides nothing
        await began.wait()
        if leave == "close":
            raw.writer.close()
        elif leave == "reset":
            raw.reset()
        else:
            raw.writer.write_eof()
        await asyncio.wait_for(left.wait(), WAIT_S)
    assert told == []


@pytest.mark.parametrize("until", ["forgotten", "answered"])
async def test_who_no_longer_asks_or_has_answered_is_not_told_that_its_client_left(until: str) -> None:
    told, gone, ended = [], asyncio.Event(), asyncio.Event()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        client = scope["extensions"][CLIENT]
        client.on_gone(lambda: told.append(1))
        if until == "forgotten":
            await _until_disconnected(receive)
            client.on_gone(None)
        else:
            await reply(send, b"done")
            await gone.wait()
        await asyncio.sleep(0)
        ended.set()

    server = Server(waiting)
    async with Raw.connect(await server.start()) as raw:
        await raw.send(GET + b"\r\n")
        if until == "answered":
            await raw.answer()
        raw.reset()
        gone.set()
        await asyncio.wait_for(ended.wait(), WAIT_S)
    await server.shutdown(0.0)
    assert told == []


# -- start and stop ------------------------------------------------------------------------------------------------


async def test_hazard_45_shutdown_lets_what_runs_finish_and_answers_until_then() -> None:
    began, finish = asyncio.Event(), asyncio.Event()
    load = Load()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            began.set()
            await finish.wait()
        await reply(send, b"closing" if load.closing else b"done")

    server = Server(slow, load=load)
    port = await server.start()
    async with Raw.connect(port) as raw, Raw.connect(port) as kept, Raw.connect(port) as idle:
        await kept.send(GET + b"\r\n")
        assert (await kept.answer()).header("connection") is None
        await raw.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await began.wait()
        stopping = asyncio.create_task(server.shutdown(WAIT_S))
        while not load.closing:
            await asyncio.sleep(0)
        await kept.send(GET + b"\r\n")
        for answer in (await kept.answer(), await ask(port, GET + b"\r\n")):
            assert (answer.body, answer.header("connection")) == (b"closing", "close")
        finish.set()
        answer = await raw.answer()
        assert (answer.body, answer.header("connection")) == (b"closing", "close")
        assert await idle.closed()
        await stopping
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    assert load.connections == 0


async def test_hazard_45_in_the_delay_before_it_nothing_has_changed_yet(echo: Echo) -> None:
    load, hurried = Load(), asyncio.Event()
    server = Server(echo, load=load)
    port = await server.start()
    stopping = asyncio.create_task(server.shutdown(WAIT_S, 3600.0, hurried))
    async with Raw.connect(port) as raw:
        for _ in range(2):
            await raw.send(GET + b"\r\n")
            answer = await raw.answer()
            assert (answer.status, answer.header("connection"), load.closing) == (200, None, False)
        hurried.set()
        assert await raw.closed()
    await stopping


async def test_hazard_45_what_does_not_finish_in_its_grace_is_canceled_and_cleans_up() -> None:
    began, cleaned = asyncio.Event(), asyncio.Event()

    async def stuck(scope: Scope, receive: Receive, send: Send) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            cleaned.set()

    server = Server(stuck)
    port = await server.start()
    async with Raw.connect(port) as raw:
        await raw.send(GET + b"\r\n")
        await began.wait()
        await server.shutdown(0.01)
        assert cleaned.is_set()
        answer = await raw.answer()
        assert (answer.status, error_of(answer)) == (503, "shutting_down")


async def test_hazard_45_the_first_sigterm_drains_the_second_ends_it_at_once() -> None:
    began, draining = asyncio.Event(), asyncio.Event()
    ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def stuck(scope: Scope, receive: Receive, send: Send) -> None:
        began.set()
        await asyncio.Event().wait()

    async def run() -> None:
        with stop_signals() as stop:
            await serve(Server(stuck), stop, grace_s=3600, on_ready=ready.set_result, on_drain=draining.set)

    running = asyncio.create_task(run())
    async with Raw.connect(await ready) as raw:
        await raw.send(GET + b"\r\n")
        await began.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(draining.wait(), WAIT_S)
        assert not running.done()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, WAIT_S)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_no_part_of_an_answer_waits_for_the_clients_ack_of_what_went_before() -> None:
    accepted = []

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        transport = scope["extensions"][CLIENT]._connection.transport
        accepted.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async with serving(noting) as port:
        assert (await ask(port, GET + b"\r\n")).status == 200
    assert accepted == [1]


async def test_a_taken_port_is_an_error_of_the_system(port: int, echo: Echo) -> None:
    with pytest.raises(OSError):
        await Server(echo, port=port).start()


async def test_hazard_34_no_request_is_logged(port: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await ask(port, b"GET /gemini/v1?key=alk_secret HTTP/1.1\r\nHost: x\r\nAuthorization: alk_secret\r\n\r\n")
    await ask(port, b"GET /gemini/../v1?key=alk_secret HTTP/1.1\r\nHost: x\r\nAuthorization: alk_secret\r\n\r\n")
    assert "alk_secret" not in caplog.text
