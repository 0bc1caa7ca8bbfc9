"""One client's connection: httptools' parser, hardened where a server would believe, wait or hold too much.

Not uvicorn's own protocol, each part of which would have to be overridden: its way with a request (an event, closures
and two timers for each, an answer in two writes) costs as much as all else that the server does.

Beyond the bound of connections a few spare ones are served, for probes and operators: their requests carry `spare` in
the scope's state, and the app turns calls away. Where even those are taken, the one longest unserved makes room.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final, Literal, NoReturn
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.types import ASGIApp, Scope

from proxy.answering import refusal_answer
from proxy.call import Call
from proxy.framing import (
    HEADER_BYTES_MAX,
    HEADERS_TOO_LARGE,
    HTTP_VERSION,
    TARGET_BYTES_MAX,
    TARGET_TOO_LONG,
    Refusal,
    head_problem,
    malformed,
    read_headers,
)
from proxy.load import CONNECTIONS_SPARE, Load

_UNREADABLE = malformed("this is not a well-formed HTTP/1.1 request")
_TOO_SLOW = Refusal(408, "request_timeout", "the request took too long to arrive")
_OVERLOADED = Refusal(503, "overloaded", "too many connections are open; try again in a moment")
# Bytes that may arrive without a header or a piece of body coming of it (an endless header, chunk extension, trailer).
_IDLE_BYTES_MAX: Final = TARGET_BYTES_MAX + HEADER_BYTES_MAX
_HELD_BYTES_MAX: Final = 64 * 1024  # of a body that the app has not received; then its client waits
_PIPELINED_MAX: Final = 32
_CLOCK_S: Final = 0.001  # how early a loop's timers may ring
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


@dataclass(frozen=True, slots=True)
class Edges:
    """How long a client may take, in seconds.

    ``head_s``: until a request's head is there. ``body_s``: in each such stretch at least ``body_bytes`` of a body must
    arrive. ``stall_s``: how long it may leave an answer unread. ``keep_alive_s``: idle between requests; longer than
    any SDK's, so that the client closes first. ``linger_s``: how long a refused client is still listened to, so that
    closing doesn't destroy the answer on its way.
    """

    head_s: float = 10.0
    body_s: float = 30.0
    body_bytes: int = 4096
    stall_s: float = 300.0
    keep_alive_s: int = 75
    linger_s: float = 2.0


class _Refused(Exception):
    """Leaves a parser's callback; the parser gives up."""


@dataclass(slots=True)
class Serving:
    """What the connections of one server share. ``spare`` are those beyond the bound, oldest first."""

    app: ASGIApp
    edges: Edges
    load: Load
    connections: set[Connection] = field(default_factory=set)
    spare: dict[Connection, None] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Connection(asyncio.Protocol):
    """Refuses by raising `_Refused` in the parser's callbacks, or by `refuse` outside them.

    ``running`` is the call that is being answered, ``call`` the last one read; between them wait those in ``pipeline``.
    ``drained`` is set while the client doesn't read what it is sent: an event for when it does.
    """

    __slots__ = (
        "_addresses",
        "_body_bytes",
        "_deaf",
        "_due",
        "_headers",
        "_idle_bytes",
        "_kept",
        "_measured",
        "_parser",
        "_pipeline",
        "_refusal",
        "_slowed",
        "_stage",
        "_stall",
        "_timer",
        "_url",
        "call",
        "drained",
        "half_closed",
        "loop",
        "read_paused",
        "running",
        "serving",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.loop = asyncio.get_running_loop()
        self._parser: HttpRequestParser | None = HttpRequestParser(self)
        # What follows a request with `Connection: close` is no error that would cost that request its answer.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._addresses: tuple[Any, Any] = (None, None)
        self._stage: Literal["idle", "head", "body"] = "idle"
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._measured = False
        self.call: Call | None = None
        self.running: Call | None = None
        self._pipeline: deque[Call] = deque()
        self._refusal = _UNREADABLE
        self._deaf = False
        self.half_closed = False
        self.read_paused = False
        self.drained: asyncio.Event | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._idle_bytes = 0
        self._body_bytes = 0
        self._slowed = False  # its client was told to wait with more of its body
        self._kept = False  # it is kept open, and unused
        self._due = inf
        self._timer: asyncio.TimerHandle | None = None

    # -- the connection ------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        serving, load = self.serving, self.serving.load
        self.transport = transport
        self._addresses = (_address(transport, "sockname"), _address(transport, "peername"))
        serving.connections.add(self)
        self._expect_within(serving.edges.head_s)
        load.connections += 1
        if load.connections > load.connections_max:
            serving.spare[self] = None
            if len(serving.spare) > CONNECTIONS_SPARE:
                next(each for each in serving.spare if each.running is None)._shed()

    def connection_lost(self, exc: Exception | None) -> None:
        self.serving.connections.discard(self)
        self.serving.spare.pop(self, None)
        self.serving.load.connections -= 1
        self._due = inf
        if self._timer is not None:
            self._timer.cancel()
        self.resume_writing()
        if self.running is not None:
            self.running.disconnect()
        # What each holds of the other is let go: only a collection would free them.
        self._pipeline.clear()
        self.call = self.running = self._parser = None

    def data_received(self, data: bytes) -> None:
        if self._deaf or self._parser is None:
            return
        size = len(data)
        self._idle_bytes += size
        self._measured = size > HEADER_BYTES_MAX or self._stage == "head"
        if self._kept:
            self._kept, self._due = False, inf
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self.refuse(self._refusal)
        if self._idle_bytes or self._stage != "idle" or self.running is None:
            self._judge_progress(line_ended=data.endswith(b"\n"))

    def eof_received(self) -> bool:
        """Whether to go on: a client may say that it sends no more, and still wait for the answers to what it sent.

        It is told again when reading, that was paused, goes on.
        """
        if self.running is None or self.call is None or self.running.disconnected:
            return False
        if self._stage != "idle" and not self._deaf:
            return False  # it ends in the middle of a request
        self.half_closed = True
        self.call.keep_alive = False
        self.running.tell_gone()
        return True

    def pause_writing(self) -> None:
        self.drained = asyncio.Event()
        self._stall = self.loop.call_later(self.serving.edges.stall_s, self.transport.abort)

    def resume_writing(self) -> None:
        if self.drained is not None:
            self.drained.set()
            self.drained = None
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _pause_reading(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def shutdown(self) -> None:
        """Close it, once what it waits for has been answered."""
        if self.running is None or self.call is None:
            self.transport.close()
        else:
            self.call.keep_alive = False

    # -- the parser's callbacks ----------------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        self._stage = "head"
        self._url = b""
        self._headers = []

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > TARGET_BYTES_MAX:
            self._raise(TARGET_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))  # a trailer comes too late to be taken for one of the head

    def on_headers_complete(self) -> None:
        raw, target, parser = self._headers, self._url, self._parser
        assert parser is not None
        if self._measured:
            self._measure_headers()
        headers, fields = read_headers(raw)
        method, version = parser.get_method(), parser.get_http_version()
        problem = head_problem(method, target, version, headers, fields)
        if problem is not None:
            self._raise(problem)
        if len(self._pipeline) == _PIPELINED_MAX:
            self._raise(_UNREADABLE)  # never told: those before it are still to be answered
        self._stage, self._due = "body", inf
        self._idle_bytes = self._body_bytes = 0
        serving, old = self.serving, version == "1.0"
        spare = bool(serving.spare) and self in serving.spare
        keep_alive = parser.should_keep_alive() and not (old or spare or serving.load.closing)
        scope = self._scope(method, target, version, headers)
        if spare:
            scope["state"]["spare"] = True
        # A client of the old may not know what a 100 Continue is.
        expects = b"expect" in fields and not old
        self.call = call = Call(self, scope, keep_alive=keep_alive, awaits_continue=expects)
        if self.running is None:
            self._run(call)
        else:
            self._pause_reading()
            self._pipeline.append(call)

    def on_body(self, body: bytes) -> None:
        assert self.call is not None
        self._idle_bytes = 0
        self._body_bytes += len(body)
        self.call.arrived(body)
        if self.call.held > _HELD_BYTES_MAX:
            self._pause_reading()

    def on_message_complete(self) -> None:
        assert self.call is not None
        if self._measured:
            self._measure_headers()  # with its trailers
        self._stage, self._due = "idle", inf
        self._idle_bytes = 0
        self.call.whole = True
        self.call.tell()

    def _measure_headers(self) -> None:
        if sum(len(name) + len(value) + 4 for name, value in self._headers) > HEADER_BYTES_MAX:
            self._raise(HEADERS_TOO_LARGE)

    def _scope(self, method: bytes, target: bytes, version: str, headers: list[tuple[bytes, bytes]]) -> Scope:
        raw_path, _, query = target.partition(b"?")
        path = raw_path.decode("ascii")
        server, client = self._addresses
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": method.decode("ascii"),
            "scheme": "http",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "server": server,
            "client": client,
            "state": {},
        }

    # -- answering -----------------------------------------------------------------------------------------------
    def _run(self, call: Call) -> None:
        self.running = call
        call.task = task = self.loop.create_task(call.run())
        self.serving.tasks.add(task)

    def answered(self, call: Call) -> None:
        """All of its answer is on the way."""
        self.running = None
        if self.transport.is_closing():
            return
        if not call.whole:
            self._linger()  # what still comes of it is not worth a connection
        elif not call.keep_alive:
            self.transport.close()
        else:
            self.resume_reading()
            if self._pipeline:
                self._run(self._pipeline.popleft())
            elif self._stage == "idle":
                self.call, self._kept = None, True
                self._expect_within(self.serving.edges.keep_alive_s)

    # -- refusing ------------------------------------------------------------------------------------------------
    def refuse(self, refusal: Refusal) -> None:
        """Answer with the refusal if nothing else is being answered; read no further request from this client."""
        running = self.running
        if running is None:
            self._answer(refusal)
        elif self._stage != "body" or running is not self.call:
            self._deaf = True  # an earlier request is sound: it gets its answer, and then the connection closes
            running.keep_alive = False
            self._due = inf
        elif running.begun:
            running.disconnect()
            self.transport.abort()
        else:
            running.disconnect()
            self._answer(refusal)

    def _raise(self, refusal: Refusal) -> NoReturn:
        self._refusal = refusal
        raise _Refused

    def _answer(self, refusal: Refusal) -> None:
        self.serving.load.refused[refusal.code] += 1
        self.transport.write(refusal_answer(refusal))
        self._linger()

    def _shed(self) -> None:
        self.serving.load.shed += 1
        del self.serving.spare[self]
        if not self._deaf:
            self._answer(_OVERLOADED)
        self.transport.close()

    def _linger(self) -> None:
        self._deaf = True
        self.resume_reading()
        with contextlib.suppress(OSError):  # a reset that has not been told yet
            self.transport.write_eof()
        self._expect_within(self.serving.edges.linger_s)

    # -- waiting for the client ----------------------------------------------------------------------------------
    def _judge_progress(self, line_ended: bool) -> None:
        if self._deaf or self._parser is None:
            return
        if line_ended and self._stage == "head" and self._url and self._parser.get_http_version() == "0.0":
            self.refuse(HTTP_VERSION)  # a line without a version: HTTP/0.9, behind which nothing need come
        elif self._idle_bytes > _IDLE_BYTES_MAX:
            self.refuse(_UNREADABLE if self._stage == "body" else HEADERS_TOO_LARGE)
        elif self._due == inf and (self._stage != "idle" or self.running is None):
            edges = self.serving.edges
            self._expect_within(edges.body_s if self._stage == "body" else edges.head_s)

    def _expect_within(self, seconds: float) -> None:
        """One timer for all that a connection waits for: a request that comes at once moves ``_due``, and no timer."""
        self._due = due = self.loop.time() + seconds
        if self._timer is None or self._timer.when() > due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_at(due, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._due > self.loop.time() + _CLOCK_S:
            if self._due != inf:
                self._timer = self.loop.call_at(self._due, self._look)
            return
        self._due = inf
        if self._deaf:
            self.transport.close()
        elif self._stage == "body":
            # A client that we told to wait (back-pressure) is not slow, nor while what it held back is on its way.
            slowed, self._slowed = self._slowed, self.read_paused
            if slowed or self._slowed or self._body_bytes >= self.serving.edges.body_bytes:
                self._body_bytes = 0
                self._expect_within(self.serving.edges.body_s)
            else:
                self.refuse(_TOO_SLOW)
        elif self._idle_bytes and not self._kept:
            self.refuse(_TOO_SLOW)
        else:
            self.transport.close()


def _address(transport: asyncio.Transport, name: str) -> tuple[str, int] | None:
    """(host, port); None where the client has gone already."""
    found = transport.get_extra_info(name)
    return (found[0], found[1]) if found else None
