"""An upstream that answers each call as its plan says: slow, torn, in pieces, with surplus bytes, and gone after it.

Each answer carries its request's id, in its head and throughout its body, and so does each request: an answer, or the
body of a request, that came to another's call is told apart at once.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

_ID = re.compile(rb"\r\nx-echo-id: *([^\r]*)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RESET = struct.pack("ii", 1, 0)
_SMALL = 8_000  # bytes that one read takes whole

Fault = Literal["", "closed", "reset", "torn", "torn by a reset"]
After = Literal["keep", "close", "close later", "reset later"]
Leaving = Literal["", "sending", "waiting", "reading"]


@dataclass(slots=True)
class Plan:
    """One call: what the client asks and when it leaves, how the upstream answers, and what it has seen of it."""

    id: str
    number: int
    agent: int
    stream: bool
    asks_usage: bool
    padding: int
    leaving: Leaving
    patience_s: float
    status: int
    words: int
    framing: Literal["length", "chunked", "close"]
    delay_s: float
    pieces: int
    fault: Fault
    after: After
    surplus: bool
    early_hints: bool
    received: int = 0
    answered: bool = False  # all of it was written
    action_id: str | None = None
    whole: bool = False  # and read by the client

    @property
    def usage(self) -> dict[str, int]:
        return {"prompt_tokens": 20 + self.number % 50, "completion_tokens": 1 + self.number % 97}

    def request(self) -> bytes:
        told = {
            "model": "gpt-4o",
            "user": self.id,
            "max_tokens": 100,
            "messages": [{"role": "user", "content": "hi " + "x" * self.padding}],
        }
        if self.stream:
            told["stream"] = True
        if self.asks_usage:
            told["stream_options"] = {"include_usage": True}
        return json.dumps(told).encode()

    def answer(self, usage: bool) -> bytes:
        """Its body; of a stream the events, ``usage`` among them where the request asks for it."""
        if self.status != 200:
            return json.dumps({"error": {"message": self.id, "type": "server_error"}}).encode()
        text = f"{self.id} " * self.words
        if not self.stream:
            return json.dumps(
                {"id": self.id, "choices": [{"message": {"content": text}}], "usage": self.usage}
            ).encode()
        events = [{"id": self.id, "choices": [{"delta": {"content": word}}]} for word in text.split()]
        if usage:
            events.append({"id": self.id, "choices": [], "usage": self.usage})
        return b"".join(b"data: %b\n\n" % text for text in (*(json.dumps(e).encode() for e in events), b"[DONE]"))


def plan(number: int, rng: random.Random, agents: int) -> Plan:
    """Most calls are well; some of each kind are not."""

    def one_in(count: int) -> bool:
        return rng.randrange(count) == 0

    stream = rng.random() < 0.4
    fault: Fault = rng.choice(("closed", "reset", "torn", "torn by a reset")) if one_in(12) else ""
    framing = rng.choice(("chunked", "chunked", "close")) if stream else rng.choice(("length", "length", "chunked"))
    if fault == "torn" and framing == "close":
        framing = "chunked"  # else nobody could tell
    long = one_in(40)
    return Plan(
        id=f"echo-{number}-{rng.randrange(1 << 30):x}",
        number=number,
        agent=rng.randrange(agents),
        stream=stream,
        asks_usage=stream and one_in(2),
        padding=rng.randrange(50_000, 90_000) if one_in(50) else rng.randrange(1500),
        leaving=rng.choice(("sending", "waiting", "waiting", "reading")) if one_in(8) else "",
        patience_s=rng.random() * 0.02,
        status=rng.choice((429, 500)) if one_in(25) else 200,
        words=rng.randrange(500, 2000) if long else rng.randrange(1, 30),
        framing=framing,
        delay_s=rng.random() * 0.4 if one_in(100) else rng.random() * 0.004 if one_in(3) else 0.0,
        pieces=rng.randrange(2, 6) if one_in(3) else 1,
        fault=fault,
        after=rng.choice(("close", "close later", "close later", "reset later")) if one_in(3) and not long else "keep",
        surplus=framing != "close" and not long and one_in(15),
        early_hints=one_in(40),
    )


@dataclass(slots=True)
class Chaos:
    """The upstream. ``faults`` are what its proxy did that none may do, ``counts`` what it did itself."""

    plans: dict[str, Plan]
    rng: random.Random
    faults: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    connections: set[Connection] = field(default_factory=set)
    url: str = ""
    _server: asyncio.Server | None = None

    @property
    def busy(self) -> int:
        """Connections in the midst of a call."""
        return sum(each.plan is not None for each in self.connections)

    async def __aenter__(self) -> Chaos:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", 0, backlog=4096)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *raised: object) -> None:
        assert self._server is not None
        self._server.close()
        for each in list(self.connections):
            each.transport.abort()
        await self._server.wait_closed()


class Connection(asyncio.Protocol):
    def __init__(self, chaos: Chaos) -> None:
        self.plan: Plan | None = None
        self._chaos = chaos
        self._held = b""
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def __hash__(self) -> int:
        return id(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._chaos.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._chaos.connections.discard(self)
        self._rest()

    def data_received(self, data: bytes) -> None:
        if self.plan is not None:
            self._chaos.faults.append(f"{self.plan.id}: more was sent on its connection before it was answered")
            self.transport.abort()
            return
        self._rest()
        self._held += data
        end = self._held.find(b"\r\n\r\n")
        length = _LENGTH.search(self._held, 0, end) if end >= 0 else None
        if length is not None and len(self._held) >= end + 4 + int(length[1]):
            head, body, self._held = self._held[: end + 2], self._held[end + 4 :], b""
            self._take(head, body, int(length[1]))

    def _take(self, head: bytes, body: bytes, length: int) -> None:
        named = _ID.search(head)
        found = self._chaos.plans.get(named[1].decode() if named else "")
        try:
            told = json.loads(body) if len(body) == length else {}
        except ValueError:
            told = {}
        if found is None or told.get("user") != found.id:
            self._chaos.faults.append(f"a request's head is of {named and named[1]!r}, its body {body[:200]!r}")
            self.transport.abort()
            return
        found.received += 1
        self.plan = found
        usage = (told.get("stream_options") or {}).get("include_usage") is True
        self._later(found.delay_s, self._answer, found, usage)

    def _answer(self, plan: Plan, usage: bool) -> None:
        if plan.fault in ("closed", "reset"):
            self._go(plan.fault == "reset")
            return
        content = plan.answer(usage)
        kind = "text/event-stream" if plan.stream and plan.status == 200 else "application/json"
        head = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" if plan.early_hints else ""
        head += f"HTTP/1.1 {plan.status} Told\r\ncontent-type: {kind}\r\nx-echo-id: {plan.id}\r\n"
        if plan.framing == "length":
            head += f"content-length: {len(content)}\r\n"
        elif plan.framing == "chunked":
            head += "transfer-encoding: chunked\r\n"
            step = max(1, len(content) // self._chaos.rng.randint(1, 8))
            parts = [content[at : at + step] for at in range(0, len(content), step)]
            content = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        else:
            head += "connection: close\r\n"
        whole = f"{head}\r\n".encode() + content
        if plan.fault:
            whole = whole[: self._chaos.rng.randrange(len(whole) - 1)]
        elif plan.surplus and len(whole) < _SMALL:
            self._chaos.counts["surplus bytes"] += 1
            evil = b"HTTP/1.1 200 OK\r\nx-echo-id: nobody\r\ncontent-length: 2\r\n\r\n{}"
            self.transport.write(whole + self._chaos.rng.choice((evil, evil[:20], b"\r\n", b"x")))
            self._answered(plan)
            return
        step = len(whole) // plan.pieces + 1
        self._say(plan, [whole[at : at + step] for at in range(0, len(whole), step)])

    def _say(self, plan: Plan, pieces: list[bytes]) -> None:
        if pieces:
            self.transport.write(pieces[0])
        if len(pieces) > 1:
            self._later(self._chaos.rng.random() * 0.003, self._say, plan, pieces[1:])
        else:
            self._answered(plan)

    def _answered(self, plan: Plan) -> None:
        if plan.fault:
            self._later(0.001, self._go, plan.fault == "torn by a reset")  # what was written is on its way by then
            return
        plan.answered = True
        self.plan = None
        if plan.framing == "close" or plan.after == "close":
            self._go(reset=False)
        elif plan.after != "keep":
            self._later(0.001 + self._chaos.rng.random() * 0.01, self._go, plan.after == "reset later")

    def _go(self, reset: bool) -> None:
        if self.plan is not None:
            self._chaos.counts[self.plan.fault] += 1
        else:
            self._chaos.counts["reset when idle" if reset else "closed when idle"] += 1
        if reset:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()
        else:
            self.transport.close()

    def _later(self, seconds: float, what: Callable[..., None], *arguments: object) -> None:
        if seconds:
            self._timer = self._loop.call_later(seconds, what, *arguments)
        else:
            what(*arguments)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
