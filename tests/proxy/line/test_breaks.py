"""Promise 3, hazard 23: an upstream that breaks at any moment of a call, by a close or a reset.

The client sees a typed error or an abort, never a clean end of half an answer. The reservation ends once, and at the
usage only where all of the answer came.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from tests.proxy.line.governed import Governed, governed, post
from tests.proxy.rawhttp import Answer
from tests.proxy.upstreams import Line, says

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BODY = told().partition(b"\r\n\r\n")[2]
LENGTH = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY)
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
EVENTS = chunk(WORD) + chunk(LAST) + chunk(DONE)
BEFORE = {
    "the status line": b"HTTP/1.1 20",
    "the headers": b"HTTP/1.1 200 OK\r\n",
    "a header": b"HTTP/1.1 200 OK\r\nContent-Ty",
    "the final head": b"HTTP/1.1 100 Continue\r\n\r\n",
    "the answer after early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 2",
}


@dataclass(frozen=True)
class Kind:
    """``amid`` are answers that break off before what they are named for, ``whole`` those that don't."""

    path: str
    body: Any
    before: int
    amid_costs: tuple[str | None, int, bool, str]
    whole_costs: tuple[str | None, int, bool, str]
    amid: dict[str, bytes]
    whole: dict[str, bytes]


PLAIN_AMID = {
    "a body of a length": LENGTH,
    "the body": LENGTH + BODY[:9],
    "the last byte": LENGTH + BODY[:-1],
    "the chunks": CHUNKED,
    "a chunk's size": CHUNKED + b"%x" % len(BODY),
    "a chunk": CHUNKED + chunk(BODY)[:20],
    "a chunk's end": CHUNKED + chunk(BODY)[:-1],
    "the last chunk": CHUNKED + chunk(BODY),
    "the last chunk's end": CHUNKED + chunk(BODY) + END[:-2],
}
PLAIN_WHOLE = {"of a length": LENGTH + BODY, "of chunks": CHUNKED + chunk(BODY) + END}
STREAM_AMID = {
    "an event": SSE + chunk(WORD) + chunk(WORD)[:20],
    "its usage": SSE + chunk(WORD),
    "what follows its usage": SSE + chunk(WORD) + chunk(LAST),
    "the last chunk": SSE + EVENTS,
    "the last chunk's end": SSE + EVENTS + END[:-2],
}
KINDS = {
    "plain": Kind(
        PATH,
        CHAT,
        RESERVED,
        ("settled", RESERVED, True, "failure"),
        ("settled", CHARGE, False, "success"),
        PLAIN_AMID,
        PLAIN_WHOLE,
    ),
    "stream": Kind(
        PATH,
        STREAM,
        RESERVED_STREAM,
        ("settled", RESERVED_STREAM, True, "failure"),
        ("settled", CHARGE, False, "success"),
        STREAM_AMID,
        {"of events": SSE + EVENTS + END},
    ),
    "upload": Kind(
        "/up/flat/x",
        b"a" * 2_000_000,
        10_000_000,
        ("settled", 10_000_000, False, "failure"),
        ("settled", 10_000_000, False, "success"),
        PLAIN_AMID,
        PLAIN_WHOLE,
    ),
}


class Breaking:
    """Reads ``reads`` of each request (`nothing`, its `head`, `half` its body, or `all`), says ``says``, and breaks."""

    def __init__(self, breaks: str) -> None:
        self.breaks = breaks
        self.reads, self.says = "all", b""

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer)
        if self.reads != "nothing":
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly({"head": 0, "half": length // 2, "all": length}[self.reads])
        await line.say(self.says)
        line.reset() if self.breaks == "reset" else line.close()


@asynccontextmanager
async def before(folder: Path, upstream: Breaking) -> AsyncIterator[Governed]:
    async with await asyncio.start_server(upstream.converse, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        policy = POLICY.replace("timeout: 1s", "timeout: 60s, circuit_breaker: false").replace("URL", url)
        async with governed(folder, policy, says()) as line:
            yield line


async def seen(line: Governed, kind: Kind) -> Answer | None:
    """What the client has of the call's answer; None where the connection ended before it began."""
    async with line.connect() as raw:
        await raw.send(post(kind.path, kind.body))
        try:
            return await raw.answer()
        except EOFError:
            return None


@pytest.mark.parametrize("breaks", ["close", "reset"])
@pytest.mark.parametrize("name", KINDS)
async def test_promise_3_before_an_answer_began_it_is_charged_unconfirmed(
    tmp_path: Path, name: str, breaks: str
) -> None:
    kind, upstream = KINDS[name], Breaking(breaks)
    moments = [
        *((reads, b"") for reads in ("nothing", "head", "half", "all")),
        *(("all", said) for said in BEFORE.values()),
    ]
    async with before(tmp_path, upstream) as line:
        for upstream.reads, upstream.says in moments:
            got = await seen(line, kind)
            action = await line.ended()
            where = f"after {upstream.reads} was read and {upstream.says!r} said"
            assert how(action) == ("settled", kind.before, True, "failure"), where
            assert got is not None or upstream.reads in ("nothing", "head", "half"), where
            if got is not None:
                assert (got.status, got.complete, got.json()["error"]["code"]) == (502, True, "upstream_failed"), where
            assert list(line.ledger.reservations()) == []


@pytest.mark.parametrize("breaks", ["close", "reset"])
@pytest.mark.parametrize("name", KINDS)
async def test_promise_3_amid_an_answer_the_client_sees_the_abort(tmp_path: Path, name: str, breaks: str) -> None:
    kind, upstream = KINDS[name], Breaking(breaks)
    async with before(tmp_path, upstream) as line:
        for where, upstream.says in kind.amid.items():
            got = await seen(line, kind)
            action = await line.ended()
            if breaks == "reset" and got is not None and got.status == 502:
                # A reset may take what was said before it along.
                assert how(action) == ("settled", kind.before, True, "failure"), where
            else:
                assert got is None or (got.status, got.complete) == (200, False), where
                assert how(action) == kind.amid_costs, where
            assert list(line.ledger.reservations()) == []


@pytest.mark.parametrize("name", KINDS)
async def test_promise_3_after_all_of_an_answer_it_is_settled_as_it_says(tmp_path: Path, name: str) -> None:
    kind, upstream = KINDS[name], Breaking("close")
    async with before(tmp_path, upstream) as line:
        for where, upstream.says in kind.whole.items():
            got = await seen(line, kind)
            assert got is not None
            assert (got.status, got.complete) == (200, True), where
            assert how(await line.ended()) == kind.whole_costs, where


async def test_promise_3_an_upstream_that_never_accepts_may_have_been_told(tmp_path: Path) -> None:
    """The connection stands, in its kernel, and the request is in it: nobody can say that it was not read."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        policy = POLICY.replace("URL", f"http://127.0.0.1:{listening.getsockname()[1]}").replace("1s", "60s")
        async with governed(tmp_path, policy, says()) as line:
            call = asyncio.create_task(line.post(PATH, CHAT))
            pending = asyncio.Event()
            asyncio.get_running_loop().add_reader(listening, pending.set)
            await pending.wait()
            asyncio.get_running_loop().remove_reader(listening)
            await line.api("GET", "/healthz")
            listening.close()
            got = await call
            assert (got.status, got.json()["error"]["code"]) == (502, "upstream_failed")
            assert how(await line.ended()) == ("settled", RESERVED, True, "failure")
