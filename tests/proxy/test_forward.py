from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator

import httpx
import pytest

from policy.model import Upstream
from proxy.forward import Forwarder, ForwardError, NotSent, Uncertain, UpstreamAnswer
from proxy.headers import Headers, request_headers, response_headers
from proxy.server import Server
from tests.proxy.rawhttp import WAIT_S, Raw, ask
from tests.proxy.upstreams import Line, ScriptedUpstream, Seen, answer, says


@contextlib.asynccontextmanager
async def forwarding(**options: object) -> AsyncIterator[Forwarder]:
    forwarder = Forwarder(**options)  # type: ignore[arg-type]
    try:
        yield forwarder
    finally:
        await forwarder.aclose()


@pytest.fixture
async def forwarder() -> AsyncIterator[Forwarder]:
    async with forwarding() as forwarder:
        yield forwarder


def to(url: str, timeout_s: float = WAIT_S) -> Upstream:
    return Upstream("up", url, timeout_s=timeout_s)


async def get(
    forwarder: Forwarder, url: str, target: bytes = b"/x", headers: Headers | None = None, method: str = "GET"
) -> UpstreamAnswer:
    return await forwarder.send(to(url), method, target, headers or [], b"")


async def whole(got: UpstreamAnswer) -> bytes:
    try:
        return b"".join([chunk async for chunk in got.chunks])
    finally:
        await got.aclose()


# -- the request, byte for byte ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", [b"/v1/x", b"/a%2Fb/%252e?q=%00&r=/../?", b"//x", b"/caf%c3%a9?a b".replace(b" ", b"+")]
)
@pytest.mark.parametrize("base", ["", "/api", "/api/v2"])
async def test_hazard_11_the_target_follows_the_upstreams_own_path_byte_for_byte(
    base: str, target: bytes, forwarder: Forwarder
) -> None:
    async with ScriptedUpstream(says(answer())) as upstream:
        await whole(await get(forwarder, upstream.url + base, target))
        assert upstream.seen[0].target == base.encode() + target


async def test_nothing_is_added_to_what_the_client_said_but_the_upstreams_host(forwarder: Forwarder) -> None:
    async with ScriptedUpstream(says(answer())) as upstream:
        await whole(await get(forwarder, upstream.url, headers=[(b"x-a", b"1"), (b"X-B", b"2")]))
        host = upstream.url.removeprefix("http://").encode()
        assert upstream.seen[0].headers == [(b"host", host), (b"x-a", b"1"), (b"X-B", b"2")]


async def test_a_host_of_set_headers_is_kept(forwarder: Forwarder) -> None:
    async with ScriptedUpstream(says(answer())) as upstream:
        await whole(await get(forwarder, upstream.url, headers=request_headers([], {"Host": "real.example"})))
        assert upstream.seen[0].header("host") == "real.example"


@pytest.mark.parametrize(
    ("method", "told", "body", "framed"),
    [
        ("POST", [(b"content-length", b"99")], b"rewritten", ("9", None)),
        ("POST", [(b"transfer-encoding", b"chunked")], b"gathered", ("8", None)),
        ("POST", [], b"", ("0", None)),
        ("DELETE", [(b"content-length", b"0")], b"", ("0", None)),
        ("GET", [], b"", (None, None)),
    ],
)
async def test_hazard_07_a_body_at_hand_goes_by_its_length(
    method: str, told: Headers, body: bytes, framed: tuple[str | None, str | None], forwarder: Forwarder
) -> None:
    async with ScriptedUpstream(says(answer())) as upstream:
        await whole(await forwarder.send(to(upstream.url), method, b"/", told, body))
        seen = upstream.seen[0]
        assert (seen.body, seen.header("content-length"), seen.header("transfer-encoding")) == (body, *framed)


@pytest.mark.parametrize("told", [(b"content-length", b"6"), (b"transfer-encoding", b"chunked")])
async def test_hazard_07_a_streamed_body_goes_framed_as_it_came(
    told: tuple[bytes, bytes], forwarder: Forwarder
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"def"

    async with ScriptedUpstream(says(answer())) as upstream:
        await whole(await forwarder.send(to(upstream.url), "POST", b"/", [told], body()))
        assert upstream.seen[0].body == b"abcdef"
        assert [header for header in upstream.seen[0].headers if header[0] != b"host"] == [told]


async def test_a_streamed_body_that_is_none_needs_no_framing(forwarder: Forwarder) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        for piece in list[bytes]():
            yield piece

    async with ScriptedUpstream(says(answer())) as upstream:
        await whole(await forwarder.send(to(upstream.url), "GET", b"/", [], nothing()))
        assert upstream.seen[0].names() == [b"host"]


# -- the answer, byte for byte -------------------------------------------------------------------------------------


async def test_hazard_14_a_redirect_is_passed_on(forwarder: Forwarder) -> None:
    async with ScriptedUpstream(says(answer(b"go", "302 Found", b"Location: http://127.0.0.1:1/evil"))) as upstream:
        got = await get(forwarder, upstream.url)
        assert (got.status, await whole(got)) == (302, b"go")
        assert (b"Location", b"http://127.0.0.1:1/evil") in got.headers
        assert len(upstream.seen) == 1


async def test_hazard_20_two_cookies_stay_two_and_reach_no_other_call(forwarder: Forwarder) -> None:
    async with ScriptedUpstream(says(answer(b"", "200 OK", b"Set-Cookie: a=1", b"set-cookie: b=2"))) as upstream:
        for _ in range(2):
            got = await get(forwarder, upstream.url)
            assert got.headers[:2] == [(b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=2")]
            await whole(got)
        assert len(upstream.lines) == 1, "the connection is used again"
        assert b"cookie" not in upstream.seen[1].names()


async def test_hazard_21_an_encoded_body_passes_raw(forwarder: Forwarder) -> None:
    packed = gzip.compress(b"a" * 1000)
    async with ScriptedUpstream(says(answer(packed, "200 OK", b"Content-Encoding: gzip"))) as upstream:
        got = await get(forwarder, upstream.url)
        assert await whole(got) == packed
        assert (b"Content-Encoding", b"gzip") in response_headers(got.headers)


async def test_hazard_21_a_body_that_is_not_what_its_encoding_says_passes_too(forwarder: Forwarder) -> None:
    async with ScriptedUpstream(says(answer(b"no gzip", "200 OK", b"Content-Encoding: gzip"))) as upstream:
        assert await whole(await get(forwarder, upstream.url)) == b"no gzip"


async def test_hazard_22_no_encoding_is_asked_for_that_the_client_did_not(forwarder: Forwarder) -> None:
    async with ScriptedUpstream(says(answer())) as upstream:
        await whole(await get(forwarder, upstream.url))
        await whole(await get(forwarder, upstream.url, headers=[(b"accept-encoding", b"identity")]))
        assert [seen.header("accept-encoding") for seen in upstream.seen] == [None, "identity"]


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_hazard_24_an_answer_without_a_body_is_whole(status: str, forwarder: Forwarder) -> None:
    async with ScriptedUpstream(
        says(f"HTTP/1.1 {status}\r\nETag: x\r\nContent-Length: 9\r\n\r\n".encode())
    ) as upstream:
        for _ in range(2):
            got = await get(forwarder, upstream.url)
            assert (got.status, got.headers, await whole(got)) == (int(status[:3]), [(b"ETag", b"x")], b"")
        assert len(upstream.lines) == 1


async def test_hazard_24_head_keeps_the_length_of_what_it_does_not_bring(forwarder: Forwarder) -> None:
    async with ScriptedUpstream(says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")) as upstream:
        got = await get(forwarder, upstream.url, method="HEAD")
        assert (got.headers, await whole(got)) == ([(b"Content-Length", b"9")], b"")


async def test_hazard_24_informational_answers_are_passed_over(forwarder: Forwarder) -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with ScriptedUpstream(says(early + answer(b"ok"))) as upstream:
        got = await get(forwarder, upstream.url)
        assert (got.status, await whole(got)) == (200, b"ok")


async def test_an_answer_that_ends_with_its_connection_is_whole(forwarder: Forwarder) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.say(b"HTTP/1.0 200 OK\r\n\r\nabc")
        line.half_close()
        await line.gone()

    async with ScriptedUpstream(script) as upstream:
        assert await whole(await get(forwarder, upstream.url)) == b"abc"


# -- failures ------------------------------------------------------------------------------------------------------


MALFORMED = {
    "24_header_name": b"HTTP/1.1 200 OK\r\nBad Name: x\r\nContent-Length: 0\r\n\r\n",
    "24_header_control": b"HTTP/1.1 200 OK\r\nA: b\x01c\r\nContent-Length: 0\r\n\r\n",
    "24_header_nul": b"HTTP/1.1 200 OK\r\nA: b\0c\r\nContent-Length: 0\r\n\r\n",
    "24_no_http": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "24_status": b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
    "24_unasked_upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "24_endless_header": b"HTTP/1.1 200 OK\r\nA: " + b"b" * 200_000,
    "24_two_lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "24_coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_hazard_24_a_malformed_answer_is_uncertain_and_502(case: str, forwarder: Forwarder) -> None:
    async with ScriptedUpstream(says(MALFORMED[case])) as upstream:
        with pytest.raises(Uncertain) as raised:
            await get(forwarder, upstream.url)
        assert raised.value.status == 502


@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_hazard_42_a_connection_lost_before_the_answer_is_uncertain(ending: str, forwarder: Forwarder) -> None:
    async def script(seen: Seen, line: Line) -> None:
        line.close() if ending == "close" else line.reset()

    async with ScriptedUpstream(script) as upstream:
        with pytest.raises(Uncertain) as raised:
            await get(forwarder, upstream.url)
        assert raised.value.status == 502
        assert len(upstream.seen) == 1, "it is not sent again"


BROKEN = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "bad_chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n-1\r\n",
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("ending", ["close", "reset"])
async def test_hazard_23_an_answer_that_breaks_off_gives_what_came_and_then_is_uncertain(
    case: str, ending: str, forwarder: Forwarder
) -> None:
    read = asyncio.Event()

    async def script(seen: Seen, line: Line) -> None:
        await line.say(BROKEN[case])
        await read.wait()
        line.close() if ending == "close" else line.reset()

    async with ScriptedUpstream(script) as upstream:
        got = await get(forwarder, upstream.url)
        assert await anext(got.chunks) == b"abc"
        read.set()
        with pytest.raises(Uncertain):
            await anext(got.chunks)
        await got.aclose()


async def test_hazard_25_a_silent_upstream_is_uncertain_and_504(forwarder: Forwarder) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.gone()

    async with ScriptedUpstream(script) as upstream:
        with pytest.raises(Uncertain) as raised:
            await forwarder.send(to(upstream.url, timeout_s=0.05), "POST", b"/", [], b"x")
        assert raised.value.status == 504


async def test_hazard_25_an_upstream_that_falls_silent_is_uncertain(forwarder: Forwarder) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.say(BROKEN["chunks"])
        await line.gone()

    async with ScriptedUpstream(script) as upstream:
        got = await forwarder.send(to(upstream.url, timeout_s=0.05), "POST", b"/", [], b"x")
        with pytest.raises(Uncertain):
            await whole(got)


async def test_hazard_25_a_slow_upstream_is_waited_for_as_long_as_it_goes_on(forwarder: Forwarder) -> None:
    async def script(seen: Seen, line: Line) -> None:
        for byte in answer(b"slow"):
            await line.say(bytes([byte]))
            await asyncio.sleep(0.005)

    async with ScriptedUpstream(script) as upstream:
        assert await whole(await forwarder.send(to(upstream.url, timeout_s=0.15), "GET", b"/", [], b"")) == b"slow"


@pytest.mark.parametrize("url", ["http://127.0.0.1:{closed}", "http://nowhere.invalid", "https://127.0.0.1:{plain}"])
async def test_hazard_42_what_can_not_be_connected_was_not_sent(url: str, forwarder: Forwarder) -> None:
    async def not_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with ScriptedUpstream(says(answer())) as gone:
        closed = gone.url.rpartition(":")[2]
    async with await asyncio.start_server(not_tls, "127.0.0.1", 0) as server:
        plain = server.sockets[0].getsockname()[1]
        with pytest.raises(NotSent) as raised:
            await get(forwarder, url.format(closed=closed, plain=plain))
    assert raised.value.status == 502


async def test_hazard_42_a_handshake_that_takes_too_long_was_not_sent() -> None:
    async with ScriptedUpstream(says(answer())) as upstream, forwarding(connect_s=0.05) as forwarder:
        with pytest.raises(NotSent) as raised:
            await get(forwarder, upstream.url.replace("http:", "https:"))
        assert (raised.value.status, upstream.seen) == (504, [])


@pytest.mark.parametrize(
    ("failure", "kind", "status"),
    [
        (httpx.ConnectTimeout, NotSent, 504),
        (httpx.ConnectError, NotSent, 502),
        (httpx.UnsupportedProtocol, NotSent, 502),
        (httpx.ReadTimeout, Uncertain, 504),
        (httpx.WriteTimeout, Uncertain, 504),
        (httpx.ReadError, Uncertain, 502),
        (httpx.WriteError, Uncertain, 502),
        (httpx.RemoteProtocolError, Uncertain, 502),
        (httpx.LocalProtocolError, Uncertain, 502),
        (OSError, Uncertain, 502),
    ],
)
async def test_promise_10_every_failure_of_the_wire_has_its_outcome_and_words_without_the_request(
    failure: type[Exception], kind: type[ForwardError], status: int
) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise failure("http://127.0.0.1/x?key=alk_secret")

    async with forwarding(transport_for=lambda upstream: httpx.MockTransport(fail)) as forwarder:
        with pytest.raises(ForwardError) as raised:
            await get(forwarder, "http://127.0.0.1")
    assert type(raised.value) is kind
    assert raised.value.status == status
    assert "up" in str(raised.value)
    assert "alk_secret" not in str(raised.value)


async def test_a_stale_connection_is_replaced_before_it_is_used(forwarder: Forwarder) -> None:
    async with ScriptedUpstream(says(answer(b"ok"))) as upstream:
        await whole(await get(forwarder, upstream.url))
        upstream.lines[0].close()
        await upstream.lines[0].writer.wait_closed()
        assert await whole(await get(forwarder, upstream.url)) == b"ok"
        assert (len(upstream.lines), len(upstream.seen)) == (2, 2)


async def test_a_connection_whose_answer_was_not_read_is_not_used_again(forwarder: Forwarder) -> None:
    async with ScriptedUpstream(says(answer(b"a" * 1_000_000))) as upstream:
        for _ in range(2):
            got = await get(forwarder, upstream.url)
            await anext(got.chunks)
            await got.aclose()
        assert len(upstream.lines) == 2


@pytest.mark.parametrize(
    "framed", [answer(b"first"), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n"]
)
async def test_what_an_upstream_says_beyond_its_answer_is_no_answer_to_the_next_call(
    framed: bytes, forwarder: Forwarder
) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.say(answer(b"second") if seen.target == b"/2" else framed + answer(b"of nobody"))

    async with ScriptedUpstream(script) as upstream:
        assert await whole(await get(forwarder, upstream.url, b"/1")) == b"first"
        assert await whole(await get(forwarder, upstream.url, b"/2")) == b"second"
        assert len(upstream.lines) == 2


class Left(Exception):
    pass


async def test_hazard_25_a_client_that_leaves_while_it_uploads_ends_the_upload(forwarder: Forwarder) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"abc"
        raise Left

    async with ScriptedUpstream(says(answer())) as upstream:
        with pytest.raises(Left):
            await forwarder.send(to(upstream.url), "POST", b"/", [(b"content-length", b"9")], body())
        await asyncio.wait_for(upstream.lines[0].ended.wait(), WAIT_S)


async def test_a_builtin_url_is_resolved_once() -> None:
    async with ScriptedUpstream(says(answer(b"ok"))) as upstream:
        asked = 0

        async def url() -> str:
            nonlocal asked
            asked += 1
            return upstream.url

        async with forwarding(builtin=url) as forwarder:
            assert await whole(await get(forwarder, "builtin:demo")) == b"ok"
            assert await whole(await get(forwarder, "builtin:demo")) == b"ok"
        assert (asked, len(upstream.lines)) == (1, 1)


async def test_an_upstream_that_is_forgotten_keeps_no_connection(forwarder: Forwarder) -> None:
    async with ScriptedUpstream(says(answer(b"ok"))) as upstream:
        await whole(await get(forwarder, upstream.url))
        await forwarder.forget(to(upstream.url))
        await asyncio.wait_for(upstream.lines[0].ended.wait(), WAIT_S)
        await forwarder.forget(to(upstream.url))
        assert await whole(await get(forwarder, upstream.url)) == b"ok"
        assert len(upstream.lines) == 2


async def test_an_upstream_whose_other_fields_change_keeps_its_connections(forwarder: Forwarder) -> None:
    async with ScriptedUpstream(says(answer(b"ok"))) as upstream:
        for timeout_s in (1.0, 2.0):
            await whole(await forwarder.send(to(upstream.url, timeout_s), "GET", b"/", [], b""))
        assert len(upstream.lines) == 1


# -- through a real server, end to end -----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def relay(forwarder: Forwarder, upstream: ScriptedUpstream) -> AsyncIterator[int]:
    """The smallest gate: it forwards, and breaks off where the upstream did."""

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        async def body() -> AsyncIterator[bytes]:
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Left
                yield message["body"]
                more = message["more_body"]

        headers = request_headers(scope["headers"], {})
        got = await forwarder.send(to(upstream.url), scope["method"], scope["raw_path"], headers, body())
        try:
            start = {"type": "http.response.start", "status": got.status, "headers": response_headers(got.headers)}
            await send(start)
            async for chunk in got.chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Uncertain as error:
            raise ConnectionAbortedError from error
        finally:
            await got.aclose()
        await send({"type": "http.response.body", "body": b""})

    server = Server(app)
    port = await server.start()
    try:
        yield port
    finally:
        await server.shutdown(0.0)


@pytest.mark.parametrize("case", BROKEN)
async def test_hazard_23_the_client_sees_the_abort(case: str, forwarder: Forwarder) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.say(BROKEN[case])
        line.close()

    async with ScriptedUpstream(script) as upstream, relay(forwarder, upstream) as port:
        got = await ask(port, b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (got.status, got.complete) == (200, False)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_hazard_24_an_answer_without_a_body_reaches_the_client_whole(status: str, forwarder: Forwarder) -> None:
    bare = f"HTTP/1.1 {status}\r\nContent-Length: 9\r\n\r\n".encode()
    async with ScriptedUpstream(says(bare)) as upstream, relay(forwarder, upstream) as port, Raw.connect(port) as raw:
        for _ in range(2):
            await raw.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await raw.answer()).status == int(status[:3])


async def test_hazard_26_the_first_byte_arrives_before_the_second_is_sent(forwarder: Forwarder) -> None:
    arrived = asyncio.Event()

    async def script(seen: Seen, line: Line) -> None:
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 2\r\n\r\na")
        await arrived.wait()
        await line.say(b"b")

    async with ScriptedUpstream(script) as upstream, relay(forwarder, upstream) as port, Raw.connect(port) as raw:
        await raw.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(raw.reader.readuntil(b"\r\n\r\na"), WAIT_S)
        arrived.set()
        assert await asyncio.wait_for(raw.reader.readexactly(1), WAIT_S) == b"b"


# What may be under way is what sockets buffer, on two connections: far less than a body.
IN_FLIGHT_MAX = 24_000_000
PIECE, PIECES = b"a" * 1_000_000, 200


async def test_hazard_26_a_great_answer_streams_in_bounded_memory(forwarder: Forwarder) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(PIECE) * PIECES), *[PIECE] * PIECES)

    async with ScriptedUpstream(script) as upstream, relay(forwarder, upstream) as port, Raw.connect(port) as raw:
        await raw.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        await raw.reader.readuntil(b"\r\n\r\n")
        received = most = 0
        while received < len(PIECE) * PIECES:
            received += len(await raw.reader.read(1 << 20))
            most = max(most, upstream.lines[0].sent - received)
    assert most < IN_FLIGHT_MAX


async def test_hazard_26_a_great_upload_streams_in_bounded_memory(forwarder: Forwarder) -> None:
    most = 0
    async with (
        ScriptedUpstream(says(answer(b"done")), keep_body=False) as upstream,
        relay(forwarder, upstream) as port,
        Raw.connect(port) as raw,
    ):
        await raw.send(b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (len(PIECE) * PIECES))
        for number in range(PIECES):
            await raw.send(PIECE)
            if upstream.seen:
                most = max(most, (number + 1) * len(PIECE) - upstream.seen[0].size)
        assert (await raw.answer()).body == b"done"
        assert upstream.seen[0].size == len(PIECE) * PIECES
    assert most < IN_FLIGHT_MAX


async def test_hazard_26_an_upstream_is_held_back_while_the_client_reads_nothing(forwarder: Forwarder) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", *[PIECE] * 1000)

    async with ScriptedUpstream(script) as upstream, relay(forwarder, upstream) as port, Raw.connect(port) as raw:
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await raw.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        held, still = -1, 0
        while still < 20:  # until no more is taken
            await asyncio.sleep(0.01)
            sent = upstream.lines[0].sent if upstream.lines else 0
            still = still + 1 if sent == held and sent else 0
            held = sent
        assert held < IN_FLIGHT_MAX
