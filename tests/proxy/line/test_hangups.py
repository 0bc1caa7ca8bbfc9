"""Promise 3, hazard 25: clients that leave. The upstream is read for its usage within bounds; hanging up never pays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.proxy.line.chat import (
    CHARGE,
    CHAT,
    DONE,
    END,
    LAST,
    PATH,
    POLICY,
    RESERVED,
    RESERVED_STREAM,
    SSE,
    STREAM,
    WORD,
    chunk,
    how,
    told,
)
from tests.proxy.line.governed import AS_WORKER, Governed, governed, post, request, until
from tests.proxy.rawhttp import Raw
from tests.proxy.upstreams import Line, Seen

PATIENT = POLICY.replace("timeout: 1s", "timeout: 600s")
LEAVING = pytest.mark.parametrize("leave", ["close", "reset"])


class Held:
    """An upstream that says ``first``, and ``rest`` once it may ``go``; then it waits for the other side to leave."""

    def __init__(self, first: list[bytes], rest: list[bytes]) -> None:
        self.first, self.rest = first, rest
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self, seen: Seen, line: Line) -> None:
        await line.say(*self.first)
        self.asked.set()
        await self.go.wait()
        await line.say(*self.rest)


def away(raw: Raw, leave: str) -> None:
    raw.reset() if leave == "reset" else raw.writer.close()


async def left(line: Governed, upstream: Held, message: bytes, leave: str = "close") -> None:
    """Make a call, and leave once the upstream has said what it says first (and the client has read of it)."""
    async with line.connect() as raw:
        await raw.send(message)
        await upstream.asked.wait()
        if upstream.first:
            await raw.reader.readuntil(b"hi")
        away(raw, leave)


@LEAVING
async def test_gone_before_the_first_byte_the_answer_is_still_metered(tmp_path: Path, leave: str) -> None:
    upstream = Held([], [told()])
    async with governed(tmp_path, PATIENT, upstream) as line:
        await left(line, upstream, post(PATH, CHAT), leave)
        await line.hung_up()
        assert line.ledger.reservations() != []
        upstream.go.set()
        assert how(await line.ended()) == ("settled", CHARGE, False, "success")
        await until(lambda: line.drains.open == 0)


@LEAVING
async def test_gone_in_mid_stream_the_upstream_is_drained_for_its_usage(tmp_path: Path, leave: str) -> None:
    upstream = Held([SSE, chunk(WORD)], [chunk(WORD), chunk(LAST), chunk(DONE), END])
    async with governed(tmp_path, PATIENT, upstream) as line:
        await left(line, upstream, post(PATH, STREAM), leave)
        await line.hung_up()
        upstream.go.set()
        assert how(await line.ended()) == ("settled", CHARGE, False, "success")
        await until(lambda: line.drains.open == 0)


@pytest.mark.parametrize("first", [[], [SSE, chunk(WORD)]], ids=["before", "amid"])
async def test_a_client_that_only_sends_no_more_gets_its_answer_within_the_same_bounds(
    tmp_path: Path, first: list[bytes]
) -> None:
    upstream = Held(first, [*([] if first else [SSE, chunk(WORD)]), chunk(WORD), chunk(LAST), chunk(DONE), END])
    async with governed(tmp_path, PATIENT, upstream) as line, line.connect() as raw:
        await raw.send(post(PATH, STREAM))
        await upstream.asked.wait()
        raw.writer.write_eof()
        await line.hung_up()
        upstream.go.set()
        answer = await raw.answer()
        assert (answer.complete, answer.header("connection")) == (True, "close" if not first else None)
        assert answer.body == WORD + WORD + LAST + DONE
        assert how(await line.ended()) == ("settled", CHARGE, False, "success")
        assert await raw.closed()


async def test_a_client_that_only_sends_no_more_sees_an_answer_cut_at_the_bound_as_cut(tmp_path: Path) -> None:
    upstream = Held([SSE, chunk(WORD)], [])
    async with governed(tmp_path, PATIENT, upstream) as line, line.connect() as raw:
        line.drains.seconds_max = 0.05
        await raw.send(post(PATH, STREAM))
        await raw.reader.readuntil(b"hi")
        raw.writer.write_eof()
        assert not (await raw.reader.read()).endswith(END)
        assert how(await line.ended())[2:] == (True, "failure")


@pytest.mark.parametrize("first", [[], [SSE, chunk(WORD)]], ids=["before", "amid"])
async def test_gone_and_the_upstream_silent_it_is_waited_for_within_bounds(tmp_path: Path, first: list[bytes]) -> None:
    upstream = Held(first, [])
    async with governed(tmp_path, PATIENT, upstream) as line:
        line.drains.seconds_max = 0.05
        await left(line, upstream, post(PATH, STREAM))
        assert how(await line.ended()) == ("settled", RESERVED_STREAM, True, "failure")
        await line.upstream.lines[0].gone()
        await until(lambda: line.drains.open == 0)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_gone_where_no_rule_read_the_body_the_same_bounds_hold(tmp_path: Path, method: str) -> None:
    upstream = Held([], [])
    async with governed(tmp_path, PATIENT, upstream) as line:
        line.drains.seconds_max = 0.05
        message = post("/up/flat/x", b"some body") if method == "POST" else request("GET", "/up/flat/x")
        await left(line, upstream, message)
        assert how(await line.ended()) == ("settled", 10_000_000, True, "failure")


async def test_gone_and_the_upstream_endless_it_is_read_within_bounds(tmp_path: Path) -> None:
    async def endless(seen: Seen, line: Line) -> None:
        await line.say(SSE)
        while True:
            await line.say(chunk(WORD * 100))

    async with governed(tmp_path, PATIENT, endless) as line:
        line.drains.bytes_max = 100_000
        async with line.connect() as raw:
            await raw.send(post(PATH, STREAM))
            await raw.reader.readuntil(b"hi")
            raw.reset()
        action = await line.ended()
        # It was asked for 100 tokens at most, and said more: what was seen is charged.
        assert (action.ending, action.unconfirmed, action.outcome) == ("settled", True, "failure")
        assert action.cost == action.usage["input_tokens"] * 1_000 + action.usage["output_tokens"] * 2_000
        assert action.usage["output_tokens"] > 100
        async with asyncio.timeout(10):
            await line.upstream.lines[0].ended.wait()


async def test_a_stream_cut_short_costs_what_was_seen_where_that_is_more(tmp_path: Path) -> None:
    upstream = Held(
        [SSE, chunk(WORD), chunk(LAST.replace(b'"completion_tokens": 10', b'"completion_tokens": 900'))], []
    )
    async with governed(tmp_path, PATIENT, upstream) as line:
        line.drains.seconds_max = 0.05
        await left(line, upstream, post(PATH, STREAM))
        assert how(await line.ended()) == ("settled", 40 * 1_000 + 900 * 2_000, True, "failure")


async def test_no_more_are_drained_at_once_than_the_bound(tmp_path: Path) -> None:
    upstream = Held([], [told()])
    async with governed(tmp_path, PATIENT, upstream) as line:
        line.drains.at_once_max = 1
        await left(line, upstream, post(PATH, CHAT))
        await line.hung_up()
        async with line.connect() as raw:
            await raw.send(post(PATH, CHAT))
            await until(lambda: len(line.upstream.seen) == 2)
            raw.reset()
        assert how(await line.ended()) == ("settled", RESERVED, True, "failure")
        await until(lambda: line.drains.open == 1)
        upstream.go.set()
        assert how(await line.ended()) == ("settled", CHARGE, False, "success")


async def test_hundreds_leaving_at_once_end_each_once(tmp_path: Path) -> None:
    upstream = Held([], [told()])
    async with governed(tmp_path, PATIENT, upstream) as line:
        line.drains.at_once_max = 20
        async with asyncio.TaskGroup() as tasks:

            async def one() -> None:
                async with line.connect() as raw:
                    await raw.send(post(PATH, CHAT))
                    await until(lambda: len(line.upstream.seen) == 200)

            for _ in range(200):
                tasks.create_task(one())
        await until(lambda: len(line.witness.ended) == 180)
        upstream.go.set()
        ends = [how(await line.ended())[1:3] for _ in range(200)]
        assert (ends.count((RESERVED, True)), ends.count((CHARGE, False))) == (180, 20)
        await until(lambda: line.drains.open == 0)
        assert line.standing().spent == 180 * RESERVED + 20 * CHARGE


async def test_a_client_that_only_waits_is_not_gone(tmp_path: Path) -> None:
    upstream = Held([], [told()])
    async with governed(tmp_path, PATIENT, upstream) as line:
        line.drains.seconds_max = 0.0
        call = asyncio.create_task(line.post(PATH, CHAT))
        await upstream.asked.wait()
        await line.api("GET", "/healthz")
        assert line.ledger.reservations() != []
        upstream.go.set()
        assert (await call).status == 200
        assert how(await line.ended())[1] == CHARGE


@LEAVING
async def test_gone_amid_a_body_that_is_priced_nothing_was_reserved(tmp_path: Path, leave: str) -> None:
    upstream = Held([], [])
    async with governed(tmp_path, PATIENT, upstream) as line:
        async with line.connect() as raw:
            await raw.send(post(PATH, CHAT)[:-5])
            await line.api("GET", "/healthz")
            away(raw, leave)
        await line.api("GET", "/healthz")
        assert line.witness.admitted == []
    assert upstream.asked.is_set() is False
    assert line.upstream.lines == []


@LEAVING
@pytest.mark.parametrize(
    ("kind", "outcome"), [(b"text/event-stream", "success"), (b"application/octet-stream", "failure")]
)
async def test_gone_from_an_answer_that_is_not_metered_nothing_is_waited_for(
    tmp_path: Path, leave: str, kind: bytes, outcome: str
) -> None:
    """As an MCP client leaves its standing stream: the charge is known, and the place among calls in flight free."""
    upstream = Held([SSE.replace(b"text/event-stream", kind), chunk(b"data: hi\n\n")], [])
    async with governed(tmp_path, PATIENT, upstream) as line:
        await left(line, upstream, request("GET", "/up/flat/x"), leave)
        assert how(await line.ended()) == ("settled", 10_000_000, False, outcome)
        await line.upstream.lines[0].gone()
        await until(lambda: line.drains.open == 0)


UPLOADS = {
    "with a length": post("/up/flat/x", b"x" * 1000)[:-5],
    "in chunks": request("POST", "/up/flat/x", b"Transfer-Encoding: chunked", *AS_WORKER) + chunk(b"x" * 995),
}


@LEAVING
@pytest.mark.parametrize("message", UPLOADS.values(), ids=UPLOADS)
async def test_gone_amid_an_upload_the_call_is_charged(tmp_path: Path, leave: str, message: bytes) -> None:
    """And to the upstream it never looks whole."""
    upstream = Held([], [])
    async with governed(tmp_path, PATIENT, upstream) as line:
        async with line.connect() as raw:
            await raw.send(message)
            await until(lambda: bool(line.upstream.seen))
            away(raw, leave)
        assert how(await line.ended()) == ("settled", 10_000_000, True, "failure")
        async with asyncio.timeout(10):
            await line.upstream.lines[0].ended.wait()
    assert not upstream.asked.is_set()
