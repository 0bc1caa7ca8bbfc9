"""One connection: what an upstream says, exact byte by exact byte, and how long it may take to."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tests.proxy.rawhttp import WAIT_S
from tests.proxy.transport.calls import answer_of, ask, transport_to, whole
from tests.proxy.upstreams import Line, ScriptedUpstream, Seen, answer, says

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
NEXT = answer(b"next")

# What bytes mean has nothing to do with the loop.
one_loop = pytest.mark.asyncio(loop_factories=["uvloop"])

# -- answers -------------------------------------------------------------------------------------------------------

WHOLE = {
    "by its length": (OK + b"A: b\r\nContent-Length: 2\r\n\r\nok", (200, [(b"A", b"b"), (b"Content-Length", b"2")])),
    "in chunks": (CHUNKED + b"1\r\no\r\n01\r\nk\r\n000\r\n\r\n", (200, [(b"Transfer-Encoding", b"chunked")])),
    "in chunks, in upper case": (
        CHUNKED.replace(b"chunked", b"CHUNKED ") + b"2\r\nok\r\n0\r\n\r\n",
        (200, [(b"Transfer-Encoding", b"CHUNKED")]),
    ),
    "with chunk extensions": (
        CHUNKED + b'2;a=b;c="d;\\"e"\r\nok\r\n0;f\r\n\r\n',
        (200, [(b"Transfer-Encoding", b"chunked")]),
    ),
    "with trailers": (
        CHUNKED + b"2\r\nok\r\n0\r\nA: b\r\nSet-Cookie: c\r\n\r\n",
        (200, [(b"Transfer-Encoding", b"chunked")]),
    ),
    "headers in their order, twice, in any spelling": (
        OK + b"x-B: 2\r\nX-A: 1\r\nx-b:3\r\nSet-Cookie: a\r\nSET-COOKIE: a\r\nContent-Length: 2\r\n\r\nok",
        (
            200,
            [
                (b"x-B", b"2"),
                (b"X-A", b"1"),
                (b"x-b", b"3"),
                (b"Set-Cookie", b"a"),
                (b"SET-COOKIE", b"a"),
                (b"Content-Length", b"2"),
            ],
        ),
    ),
    "values with white space around, and bytes beyond ASCII": (
        OK + b"A:\t b\t c \t\r\nB:\r\nC:   \r\nD: \x80\xff\r\nContent-Length: 2 \r\n\r\nok",
        (200, [(b"A", b"b\t c"), (b"B", b""), (b"C", b""), (b"D", b"\x80\xff"), (b"Content-Length", b"2")]),
    ),
    "no reason": (b"HTTP/1.1 599\r\nContent-Length: 2\r\n\r\nok", (599, [(b"Content-Length", b"2")])),
    "behind 1xx": (
        b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nHTTP/1.1 103 Early\r\nLink: a\r\n\r\n" * 30
        + OK
        + b"Content-Length: 2\r\n\r\nok",
        (200, [(b"Content-Length", b"2")]),
    ),
    "HTTP/1.0, kept": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        (200, [(b"Connection", b"keep-alive"), (b"Content-Length", b"2")]),
    ),
}
NO_BODY = {
    "204": (b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", (204, [(b"Content-Length", b"9")])),
    "304": (
        b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
        (304, [(b"Transfer-Encoding", b"chunked")]),
    ),
    "none": (OK + b"Content-Length: 0\r\n\r\n", (200, [(b"Content-Length", b"0")])),
}
CLOSING = {
    "told to close": OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok",
    "told to close and not to": OK + b"Connection: keep-alive, close\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.0 in chunks": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
}
UNTIL_CLOSE = {
    "unframed": OK + b"\r\nok",
    "unframed HTTP/1.0": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nok",
    "205": b"HTTP/1.1 205 Reset Content\r\n\r\nok",
}


@one_loop
@pytest.mark.parametrize("case", WHOLE | NO_BODY)
async def test_an_answer_is_read_to_its_end_and_its_connection_serves_on(case: str) -> None:
    said, (status, headers) = (WHOLE | NO_BODY)[case]
    async with ScriptedUpstream(says(said)) as upstream, transport_to(upstream.url) as transport:
        for _ in range(3):
            assert await answer_of(transport) == (status, headers, b"ok" if case in WHOLE else b"")
        assert len(upstream.lines) == 1


@one_loop
@pytest.mark.parametrize("case", WHOLE | NO_BODY)
async def test_it_is_the_same_however_its_bytes_are_split(case: str) -> None:
    said, (status, headers) = (WHOLE | NO_BODY)[case]

    async def script(seen: Seen, line: Line) -> None:
        for byte in said[-150:-1]:
            await line.say(bytes([byte]))
            await asyncio.sleep(0)
        await line.say(said[-1:])

    async def begun(seen: Seen, line: Line) -> None:
        await line.say(said[:-150])
        await script(seen, line)

    async with ScriptedUpstream(begun) as upstream, transport_to(upstream.url) as transport:
        for _ in range(2):
            assert await answer_of(transport) == (status, headers, b"ok" if case in WHOLE else b"")
        assert len(upstream.lines) == 1


@pytest.mark.parametrize("case", CLOSING)
async def test_an_upstream_that_means_to_close_is_not_asked_again_there(case: str) -> None:
    async with ScriptedUpstream(says(CLOSING[case])) as upstream, transport_to(upstream.url) as transport:
        for _ in range(2):
            assert (await answer_of(transport))[2] == b"ok"
        assert len(upstream.lines) == 2
        await asyncio.wait_for(upstream.lines[1].ended.wait(), WAIT_S)


@pytest.mark.parametrize("case", UNTIL_CLOSE)
async def test_what_has_no_length_ends_with_its_connection_and_breaks_off_with_a_reset(case: str) -> None:
    read = asyncio.Event()

    async def script(seen: Seen, line: Line) -> None:
        await line.say(UNTIL_CLOSE[case])
        await read.wait()
        line.reset() if seen.target == b"/reset" else line.close()

    async with ScriptedUpstream(script) as upstream, transport_to(upstream.url) as transport:
        response = await ask(transport, b"/reset")
        assert await anext(aiter(response.stream)) == b"ok"  # type: ignore[arg-type]
        read.set()
        with pytest.raises(httpx.ReadError):
            await whole(response)
        assert (await answer_of(transport))[2] == b"ok"


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 9\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b""]
)
async def test_an_answer_to_head_ends_with_its_head(framing: bytes) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.say(OK + framing + b"\r\n" if seen.method == "HEAD" else NEXT)

    async with ScriptedUpstream(script) as upstream, transport_to(upstream.url) as transport:
        response = await ask(transport, method="HEAD")
        assert (len(response.headers.raw), await whole(response)) == (bool(framing), b"")
        assert (await answer_of(transport))[2] == b"next"


MALFORMED = {
    "both framings": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both framings, turned round": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nok",
    "a list of lengths": OK + b"Content-Length: 1, 2\r\n\r\nok",
    **{
        f"the length {length!r}": OK + b"Content-Length: " + length + b"\r\n\r\nok"
        for length in (b"-2", b"+2", b"0x2", b"", b"2 2", b"9" * 20)
    },
    **{
        f"the coding {c!r}": OK + b"Transfer-Encoding: " + c + b"\r\n\r\n0\r\n\r\n"
        for c in (
            b"gzip, chunked", b"chunked, gzip", b"identity", b"xchunked", b"", b"chunked\r\nTransfer-Encoding: chunked",
        )
    },
    **{
        f"the line {line!r}": OK + line + b"\r\nContent-Length: 0\r\n\r\n"
        for line in (
            b"A: b\r\n c", b" A: b", b"A : b", b": b", b"A", b"A B: c", b"A: b\0", b"A: b\rc", b"A: b\nC: d",
            b"A: \x7f",
        )
    },
    **{
        f"the status line {line!r}": line + b"\r\nContent-Length: 0\r\n\r\n"
        for line in (
            b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 099 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1 +20 OK",
            b"HTTP/2.0 200 OK", b"HTTP/0.9 200 OK", b"HTTP/1.2 200 OK", b"http/1.1 200 OK", b"HTTP/1.1 200 a\rb",
            b"SSH-2.0-x", b"200 OK", b"\xef\xbb\xbfHTTP/1.1 200 OK", b"HTTP/1.1 200 OK\nA: b",
        )
    },
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw",
    "101 without a word": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "a body of 1xx": b"HTTP/1.1 105 Odd\r\nContent-Length: 5\r\n\r\n" + OK + b"\r\n",
    "513 headers": OK + b"a:\r\n" * 513 + b"\r\n",
    "a head of 200 KB": OK + b"A: " + b"b" * 200_000 + b"\r\nContent-Length: 0\r\n\r\n",
    "a head without end": OK + b"A: " + b"b" * 1_000_000,
    "1xx without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
}  # fmt: skip
BROKEN_OFF = {
    "before its length": OK + b"Content-Length: 3\r\n\r\nok",
    "before its last chunk": CHUNKED + b"2\r\nok\r\n",
    "before its last line": CHUNKED + b"2\r\nok\r\n0\r\n",
    **{
        f"by the size {size!r}": CHUNKED + b"2\r\nok\r\n" + size + b"\r\nok\r\n0\r\n\r\n"
        for size in (b"0x2", b"-2", b"+2", b"", b"2 ", b"g", b"f" * 17, b"2;a\nb", b"2;\0", b"2\n")
    },
    "by a chunk longer than its size": CHUNKED + b"2\r\nokay\r\n0\r\n\r\n",
    "by a trailer that is none": CHUNKED + b"2\r\nok\r\n0\r\nA\r\n\r\n",
    "by trailers without end": CHUNKED + b"2\r\nok\r\n0\r\n" + b"A: b\r\n" * 100_000,
    "by a chunk extension without end": CHUNKED + b"2\r\nok\r\n2;" + b"a" * 1_000_000,
}


@one_loop
@pytest.mark.parametrize("case", MALFORMED)
async def test_a_malformed_head_is_no_answer(case: str) -> None:
    async with ScriptedUpstream(says(MALFORMED[case])) as upstream, transport_to(upstream.url) as transport:
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(transport)
        await asyncio.wait_for(upstream.lines[0].ended.wait(), WAIT_S)


@one_loop
@pytest.mark.parametrize("case", BROKEN_OFF)
async def test_an_answer_that_breaks_off_gives_what_came_and_then_says_so(case: str) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.say(BROKEN_OFF[case])
        line.close()

    async with ScriptedUpstream(script) as upstream, transport_to(upstream.url) as transport:
        response = await ask(transport)
        chunks = aiter(response.stream)  # type: ignore[arg-type]
        assert await anext(chunks) == b"ok"
        for _ in range(2):
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(chunks)


@pytest.mark.parametrize(("ending", "error"), [("close", httpx.RemoteProtocolError), ("reset", httpx.ReadError)])
@pytest.mark.parametrize("part", [b"", b"HTTP", OK + b"Content-Length: 2\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_a_connection_that_ends_before_the_head_is_no_answer(
    part: bytes, ending: str, error: type[Exception]
) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.say(part)
        line.close() if ending == "close" else line.reset()

    async with ScriptedUpstream(script) as upstream, transport_to(upstream.url) as transport:
        with pytest.raises((error, httpx.ReadError)):
            await ask(transport)
        assert len(upstream.seen) == 1, "it is not sent again"


# -- surplus -------------------------------------------------------------------------------------------------------

SURPLUS = {
    "an answer": NEXT,
    "half a status line": b"HTTP/1.1 2",
    "a byte": b"x",
    "a head without end": OK + b"A: b",
}
ENDS = {
    "by its length": OK + b"Content-Length: 2\r\n\r\nok",
    "in chunks": CHUNKED + b"2\r\nok\r\n0\r\n\r\n",
    "with trailers": CHUNKED + b"2\r\nok\r\n0\r\nA: b\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n",
    "told to close": OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nok",
}


@one_loop
@pytest.mark.parametrize("later", [False, True], ids=["at once", "while idle"])
@pytest.mark.parametrize("surplus", SURPLUS)
@pytest.mark.parametrize("end", ENDS)
async def test_what_is_said_beyond_an_answer_answers_nothing(end: str, surplus: str, later: bool) -> None:
    async def script(seen: Seen, line: Line) -> None:
        if seen.target == b"/next":
            await line.say(answer(b"asked for"))
        elif later:
            await line.say(ENDS[end])
            await asyncio.sleep(0.01)  # the answer has been read: this comes while nobody asks
            await line.say(SURPLUS[surplus])
        else:
            await line.say(ENDS[end] + SURPLUS[surplus])

    async with ScriptedUpstream(script) as upstream, transport_to(upstream.url) as transport:
        assert (await answer_of(transport))[2] == (b"" if end == "204" else b"ok")
        await asyncio.wait_for(upstream.lines[0].ended.wait(), WAIT_S)
        assert (await answer_of(transport, b"/next"))[2] == b"asked for"


@pytest.mark.parametrize("framing", [b"Content-Length: 2\r\n\r\nok", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
async def test_what_follows_the_head_that_head_asked_for_answers_nothing(framing: bytes) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.say(OK + framing if seen.method == "HEAD" else NEXT)

    async with ScriptedUpstream(script) as upstream, transport_to(upstream.url) as transport:
        assert (await answer_of(transport, method="HEAD"))[2] == b""
        assert (await answer_of(transport))[2] == b"next"


# -- time ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 2", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_an_upstream_that_is_silent_is_not_waited_for(part: bytes) -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.say(part)
        await line.gone()

    async with ScriptedUpstream(script) as upstream, transport_to(upstream.url) as transport:
        with pytest.raises(httpx.ReadTimeout):
            await ask(transport, read=0.05)
        await asyncio.wait_for(upstream.lines[0].ended.wait(), WAIT_S)


async def test_nor_one_that_falls_silent() -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.say(OK + b"Content-Length: 9\r\n\r\nok")
        await line.gone()

    async with ScriptedUpstream(script) as upstream, transport_to(upstream.url) as transport:
        chunks = aiter((await ask(transport, read=0.05)).stream)  # type: ignore[arg-type]
        assert await anext(chunks) == b"ok"
        with pytest.raises(httpx.ReadTimeout):
            await anext(chunks)


async def test_one_that_goes_on_slowly_is() -> None:
    async def script(seen: Seen, line: Line) -> None:
        for byte in CHUNKED + b"4\r\nslow\r\n0\r\n\r\n":
            await line.say(bytes([byte]))
            await asyncio.sleep(0.005)

    async with ScriptedUpstream(script) as upstream, transport_to(upstream.url) as transport:
        assert (await answer_of(transport, read=0.15))[2] == b"slow"


async def test_a_shorter_time_counts_on_a_connection_that_had_a_longer_one() -> None:
    async def script(seen: Seen, line: Line) -> None:
        if seen.target == b"/1":
            await line.say(NEXT)
        else:
            await line.gone()

    async with ScriptedUpstream(script) as upstream, transport_to(upstream.url) as transport:
        await answer_of(transport, b"/1", read=None, write=None)
        with pytest.raises(httpx.ReadTimeout):
            await ask(transport, b"/2", read=0.05)
        assert len(upstream.lines) == 1


async def test_the_time_that_a_reader_takes_is_not_the_upstreams() -> None:
    more = asyncio.Event()

    async def script(seen: Seen, line: Line) -> None:
        await line.say(OK + b"Content-Length: 4\r\n\r\nok")
        await more.wait()
        await line.say(b"ok")

    async with ScriptedUpstream(script) as upstream, transport_to(upstream.url) as transport:
        chunks = aiter((await ask(transport, read=0.05)).stream)  # type: ignore[arg-type]
        assert await anext(chunks) == b"ok"
        await asyncio.sleep(0.15)
        asyncio.get_running_loop().call_later(0.01, more.set)
        assert await anext(chunks) == b"ok"


async def test_an_upstream_that_takes_no_more_of_a_body_is_not_waited_for() -> None:
    over = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await over.wait()
        writer.close()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, transport_to(url) as transport:
        with pytest.raises(httpx.WriteTimeout):
            await ask(transport, method="POST", body=b"a" * 50_000_000, write=0.05)
        over.set()


async def test_one_that_takes_it_slowly_is() -> None:
    size = 20_000_000

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            left = size
            while left > 0 and (piece := await reader.read(1 << 20)):
                left -= len(piece)
                await asyncio.sleep(0.01)
            await Line(reader, writer).say(answer(b"done"))
        finally:
            writer.close()

    server = await asyncio.start_server(slow, "127.0.0.1", 0, limit=1 << 18)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, transport_to(url) as transport:
        sent = [(b"content-length", b"%d" % size)]
        response = await ask(transport, method="POST", headers=sent, body=b"a" * size, write=0.15, read=0.15)
        assert await whole(response) == b"done"


# -- back-pressure -------------------------------------------------------------------------------------------------

PIECE = b"a" * 1_000_000


async def test_an_upstream_is_held_back_while_its_reader_lags_and_goes_on_when_it_reads() -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.say(OK + b"Content-Length: 100000000\r\n\r\n", *[PIECE] * 100)

    async with ScriptedUpstream(script) as upstream, transport_to(upstream.url) as transport:
        response = await ask(transport)
        held, still = -1, 0
        while still < 20:  # until no more is taken
            await asyncio.sleep(0.01)
            sent = upstream.lines[0].sent
            still = still + 1 if sent == held else 0
            held = sent
        assert held < 20_000_000  # what sockets buffer
        longest = read = 0
        async for chunk in response.stream:  # type: ignore[union-attr]
            longest, read = max(longest, len(chunk)), read + len(chunk)
        assert (read, longest < 1_000_000) == (100_000_000, True)
        assert (await answer_of(transport))[0] == 200
        assert len(upstream.lines) == 1


async def test_pieces_that_came_together_are_read_together() -> None:
    async with (
        ScriptedUpstream(says(CHUNKED + b"1\r\na\r\n" * 1000 + b"0\r\n\r\n")) as upstream,
        transport_to(upstream.url) as transport,
    ):
        chunks = [chunk async for chunk in (await ask(transport)).stream]  # type: ignore[union-attr]
        assert (b"".join(chunks), len(chunks) < 10) == (b"a" * 1000, True)


# -- leaving -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", OK, OK + b"Content-Length: 9\r\n\r\nok"])
async def test_who_leaves_before_the_end_leaves_no_connection(said: bytes) -> None:
    came = asyncio.Event()

    async def script(seen: Seen, line: Line) -> None:
        await line.say(NEXT if seen.target == b"/next" else said)
        came.set()
        if seen.target != b"/next":
            await line.gone()

    async with ScriptedUpstream(script) as upstream, transport_to(upstream.url) as transport:
        call = asyncio.create_task(answer_of(transport))
        await came.wait()
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(upstream.lines[0].ended.wait(), WAIT_S)
        assert (await answer_of(transport, b"/next"))[2] == b"next"


async def test_who_leaves_a_whole_answer_unread_leaves_its_connection_to_others() -> None:
    async with ScriptedUpstream(says(answer(b"unread"))) as upstream, transport_to(upstream.url) as transport:
        for _ in range(3):
            await (await ask(transport)).stream.aclose()  # type: ignore[union-attr]
        assert len(upstream.lines) == 1


async def test_an_answer_whose_connection_serves_another_call_can_do_it_no_harm() -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.say(answer(seen.target))

    async with ScriptedUpstream(script) as upstream, transport_to(upstream.url) as transport:
        first = await ask(transport, b"/1")
        second = await ask(transport, b"/2")
        await first.stream.aclose()  # type: ignore[union-attr]
        assert await whole(second) == b"/2"
        assert await whole(first) == b"/1"
        assert len(upstream.lines) == 1


# -- the request ---------------------------------------------------------------------------------------------------


@one_loop
@pytest.mark.parametrize(
    "how",
    [
        {"target": b"/a b"},
        {"target": b"/a\r\nb: c"},
        {"target": b"/\x80"},
        {"headers": [(b"a", b"b\r\nc: d")]},
        {"headers": [(b"a", b"b\nc")]},
        {"headers": [(b"a\r\n", b"b")]},
        {"headers": [(b"a", b"\0")]},
        {"method": "GE\rT"},
    ],
)
async def test_a_request_that_would_be_read_as_another_is_not_sent(how: dict[str, object]) -> None:
    async with ScriptedUpstream(says(NEXT)) as upstream, transport_to(upstream.url) as transport:
        with pytest.raises(httpx.LocalProtocolError):
            await ask(transport, **how)  # type: ignore[arg-type]
        assert upstream.lines == []
