"""Which connections are kept, how many, how long, and which is used next."""

from __future__ import annotations

import asyncio
import os
import socket

import httpx
import pytest

from tests.proxy.rawhttp import WAIT_S
from tests.proxy.transport.calls import answer_of, ask, transport_to, whole
from tests.proxy.upstreams import Line, ScriptedUpstream, Seen, answer, says


async def at_once(transport: httpx.AsyncBaseTransport, count: int) -> None:
    """So many calls that each needs a connection of its own."""
    await asyncio.gather(*(answer_of(transport, b"/%d" % number) for number in range(count)))  # type: ignore[arg-type]


class Gate:
    """Answers once so many ask."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.open = asyncio.Event()
        self.asked = 0

    async def __call__(self, seen: Seen, line: Line) -> None:
        self.asked += 1
        if self.asked >= self.count:
            self.open.set()
        await self.open.wait()
        await line.say(answer(b"ok"))


async def test_calls_wait_for_no_others_and_their_connections_are_used_again() -> None:
    async with ScriptedUpstream(Gate(20)) as upstream, transport_to(upstream.url) as transport:
        await at_once(transport, 20)
        assert len(upstream.lines) == 20
        await at_once(transport, 20)
        assert len(upstream.lines) == 20


async def test_the_one_used_last_is_used_next_and_the_oldest_goes_where_there_are_too_many() -> None:
    async with ScriptedUpstream(Gate(5)) as upstream, transport_to(upstream.url, idle_max=2) as transport:
        await at_once(transport, 5)
        async with asyncio.timeout(WAIT_S):
            while sum(line.ended.is_set() for line in upstream.lines) < 3:
                await asyncio.sleep(0.001)
        for _ in range(5):
            await answer_of(transport)
        assert len(upstream.lines) == 5
        sent = sorted(line.sent for line in upstream.lines if not line.ended.is_set())
        assert sent[0] < sent[1], "one was used five times, the other never"


async def test_idle_ones_are_closed_in_time_each_in_its_own() -> None:
    async with ScriptedUpstream(Gate(3)) as upstream, transport_to(upstream.url, idle_s=0.05) as transport:
        await at_once(transport, 3)
        for line in upstream.lines:
            await asyncio.wait_for(line.ended.wait(), WAIT_S)
        assert (await answer_of(transport))[2] == b"ok"
        await asyncio.wait_for(upstream.lines[3].ended.wait(), WAIT_S)


@pytest.mark.parametrize("ending", ["close", "reset", "half_close"])
async def test_one_that_the_upstream_closes_is_not_used_again(ending: str) -> None:
    async with ScriptedUpstream(says(answer(b"ok"))) as upstream, transport_to(upstream.url) as transport:
        for number in range(3):
            assert (await answer_of(transport))[2] == b"ok"
            getattr(upstream.lines[number], ending)()
            await asyncio.sleep(0.01)
        assert len(upstream.lines) == 3


async def test_nor_is_one_whose_end_the_loop_has_not_seen() -> None:
    async with ScriptedUpstream(says(answer(b"ok"))) as upstream, transport_to(upstream.url) as transport:
        for number in range(10):
            assert (await answer_of(transport))[2] == b"ok"
            with socket.socket(fileno=os.dup(upstream.lines[number].writer.get_extra_info("socket").fileno())) as sock:
                sock.shutdown(socket.SHUT_WR)
        assert len(upstream.seen) == 10


async def test_closing_breaks_off_what_is_read_and_leaves_nothing() -> None:
    async def script(seen: Seen, line: Line) -> None:
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
        await line.gone()

    async with ScriptedUpstream(script) as upstream, transport_to(upstream.url) as transport:
        response = await ask(transport)
        reading = asyncio.create_task(whole(response))
        await asyncio.sleep(0.01)
        await transport.aclose()
        with pytest.raises(httpx.ReadError):
            await reading
        await asyncio.wait_for(upstream.lines[0].ended.wait(), WAIT_S)
        with pytest.raises(httpx.ConnectError):
            await ask(transport)


async def test_random_ends_and_leavings_swap_no_answer() -> None:
    """Each answer carries its request's target: none hangs, and none is another's."""

    async def script(seen: Seen, line: Line) -> None:
        number = int(seen.target[1:])
        said = answer(seen.target * 50)
        if number % 7 == 0:
            await line.say(said[:100])
            await asyncio.sleep(0)
            await line.say(said[100:])
        elif number % 11 == 0:
            line.reset()
        elif number % 13 == 0:
            await line.say(said + answer(b"of nobody"))
        else:
            await line.say(said)
            if number % 5 == 0:
                line.close()

    async def call(number: int) -> int:
        target = b"/%d" % number
        try:
            async with asyncio.timeout(0.0 if number % 17 == 0 else WAIT_S):
                got = (await answer_of(transport, target))[2]
        except (TimeoutError, httpx.TransportError):
            return 0
        assert got == target * 50
        return 1

    async with ScriptedUpstream(script) as upstream, transport_to(upstream.url) as transport:
        answered = 0
        for start in range(1, 2001, 50):
            answered += sum(await asyncio.gather(*map(call, range(start, start + 50))))
        assert answered > 1000
        assert len(upstream.lines) < 1500
