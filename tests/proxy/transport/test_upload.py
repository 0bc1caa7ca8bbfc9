"""Bodies: framed as their headers say, and given up where the upstream wants no more of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from tests.proxy.rawhttp import WAIT_S
from tests.proxy.transport.calls import answer_of, ask, transport_to, whole
from tests.proxy.upstreams import ScriptedUpstream, answer, says

CHUNKED = [(b"transfer-encoding", b"chunked")]
PIECE = b"a" * 100_000
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """An upstream that does as ``serve`` does with each connection. The event is set once one has ended."""
    ended, over = asyncio.Event(), asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
            await over.wait()
        finally:
            writer.close()

    async def gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.clear()
        await accept(reader, writer)
        ended.set()

    async with await asyncio.start_server(gone, "127.0.0.1", 0) as server:
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", ended
        finally:
            over.set()
            await asyncio.sleep(0)


async def of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize("headers", [CHUNKED, [(b"content-length", b"6")]])
async def test_a_body_goes_as_its_headers_say_and_its_connection_serves_on(headers: list[tuple[bytes, bytes]]) -> None:
    async with ScriptedUpstream(says(answer(b"ok"))) as upstream, transport_to(upstream.url) as transport:
        for _ in range(2):
            body = of(b"abc", b"", b"d", b"ef")
            assert (await answer_of(transport, method="POST", headers=headers, body=body))[2] == b"ok"
        assert [seen.body for seen in upstream.seen] == [b"abcdef"] * 2
        assert len(upstream.lines) == 1


@pytest.mark.parametrize("pieces", [(b"ab",), (b"abc", b"d")])
async def test_a_body_of_another_length_than_it_says_is_not_sent_as_whole(pieces: tuple[bytes, ...]) -> None:
    async with ScriptedUpstream(says(answer())) as upstream, transport_to(upstream.url) as transport:
        with pytest.raises(httpx.LocalProtocolError):
            await ask(transport, method="POST", headers=[(b"content-length", b"3")], body=of(*pieces))


class Left(Exception):
    pass


@pytest.mark.parametrize("error", [Left, asyncio.CancelledError, OSError])
async def test_a_body_that_raises_ends_its_connection_and_is_heard(error: type[BaseException]) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"abc"
        raise error

    async with ScriptedUpstream(says(answer())) as upstream, transport_to(upstream.url) as transport:
        with pytest.raises(error):
            await ask(transport, method="POST", headers=CHUNKED, body=body())
        while not upstream.lines:
            await asyncio.sleep(0)
        await asyncio.wait_for(upstream.lines[0].ended.wait(), WAIT_S)


async def test_who_leaves_while_the_body_is_awaited_leaves_nothing() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"abc"
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with ScriptedUpstream(says(answer())) as upstream, transport_to(upstream.url) as transport:
        call = asyncio.create_task(ask(transport, method="POST", headers=CHUNKED, body=body()))
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert ended.is_set()
        while not upstream.lines:
            await asyncio.sleep(0)
        await asyncio.wait_for(upstream.lines[0].ended.wait(), WAIT_S)


async def test_a_client_that_is_slow_is_not_the_upstreams_silence() -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"a"
            await asyncio.sleep(0.08)

    async with ScriptedUpstream(says(answer(b"ok"))) as upstream, transport_to(upstream.url) as transport:
        got = await answer_of(transport, method="POST", headers=CHUNKED, body=body(), read=0.05, write=0.05)
        assert got[2] == b"ok"


# -- early answers -------------------------------------------------------------------------------------------------

EARLY = answer(b"too much", "413 Content Too Large")


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """It answers, reads no more, and does not close."""
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(EARLY)


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """It answers, and closes with the body unread: by a reset, that is."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(EARLY)
    writer.close()


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield PIECE


async def silent() -> AsyncIterator[bytes]:
    yield b"a"
    await asyncio.Event().wait()


async def abrupt() -> AsyncIterator[bytes]:
    """Much of it before the loop takes a look at what has come."""
    yield b"a"
    await asyncio.sleep(0.01)
    for _ in range(1000):
        yield PIECE


@pytest.mark.parametrize("upstream", [deaf, closing])
@pytest.mark.parametrize("body", [endless, silent, abrupt, lambda: b"a" * 20_000_000])
async def test_an_answer_before_the_body_is_sent_is_the_answer(
    upstream: Serve, body: Callable[[], bytes | AsyncIterator[bytes]]
) -> None:
    async with listening(upstream) as (url, _), transport_to(url) as transport:
        for _ in range(3):
            response = await asyncio.wait_for(
                ask(transport, method="POST", headers=CHUNKED, body=body(), read=None, write=None), WAIT_S
            )
            assert (response.status_code, await whole(response)) == (413, b"too much")
        assert not transport._pool._idle
