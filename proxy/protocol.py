"""One client's connection: uvicorn's httptools protocol, hardened where it would believe, wait or hold too much.

What is used of uvicorn beyond its documentation, each held by a test: of `HttpToolsProtocol` the parser's callbacks,
`send_400_response`, `on_response_complete`, `shutdown` and the attributes `app`, `cycle`, `pipeline`, `flow`, `url`,
`headers`, `parser`; of `RequestResponseCycle` the attributes named in `Call`; of `ServerState` its two sets.

Beyond the bound of connections a few spare ones are served, for probes and operators: their requests carry `spare` in
the scope's state, and the app turns calls away. Where even those are taken, the one longest unserved makes room.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import TimerHandle
from dataclasses import dataclass
from typing import Literal, NoReturn

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from proxy.call import Call, refusal_headers
from proxy.framing import (
    HEADER_BYTES_MAX,
    HEADERS_TOO_LARGE,
    HTTP_VERSION,
    TARGET_BYTES_MAX,
    TARGET_TOO_LONG,
    Refusal,
    head_problem,
    malformed,
)
from proxy.load import CONNECTIONS_SPARE, Load

_UNREADABLE = malformed("this is not a well-formed HTTP/1.1 request")
_TOO_SLOW = Refusal(408, "request_timeout", "the request took too long to arrive")
_OVERLOADED = Refusal(503, "overloaded", "too many connections are open; try again in a moment")
# Bytes that may arrive without a header or a piece of body coming of it (an endless header, chunk extension, trailer).
_IDLE_BYTES_MAX = TARGET_BYTES_MAX + HEADER_BYTES_MAX
_PIPELINED_MAX = 32


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
    """Leaves a parser's callback; the parser gives up and uvicorn calls `send_400_response`."""


class Protocol(HttpToolsProtocol):
    """Refuses by raising `_Refused` in the parser's callbacks, or by `refuse` outside them."""

    def __init__(
        self, config: Config, state: ServerState, edges: Edges, load: Load, spare: dict[Protocol, None]
    ) -> None:
        super().__init__(config, state, {})
        self.access_log = False  # whatever handlers are attached to its logger: it would print ?key=
        self.served = self.app
        self.edges = edges
        self.load = load
        self.spare = spare  # oldest first
        self.stage: Literal["idle", "head", "body"] = "idle"
        self.running: RequestResponseCycle | None = None  # with pipelined requests `cycle` is the last one read
        self.refusal = _UNREADABLE
        self.deaf = False
        self.half_closed = False
        self.idle_bytes = 0
        self.header_bytes = 0
        self.body_bytes = 0
        self.held = False
        self.deadline: TimerHandle | None = None
        self.stall: TimerHandle | None = None

    # -- the connection ------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_more()
        self.load.connections += 1
        if self.load.connections > self.load.connections_max:
            self.app_state["spare"] = True
            self.spare[self] = None
            if len(self.spare) > CONNECTIONS_SPARE:
                next(each for each in self.spare if each.unserved)._shed()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.load.connections -= 1
        self.spare.pop(self, None)
        self._expect_no_more()
        self.resume_writing()
        self._disconnect_running()

    def data_received(self, data: bytes) -> None:
        if not self.deaf:
            self.idle_bytes += len(data)
            super().data_received(data)
            self._judge_progress(line_ended=data.endswith(b"\n"))

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether to go on: a client may say that it sends no more, and still wait for the answers to what it sent."""
        if self.half_closed:
            return True  # it is told again when reading, that was paused, goes on
        running = self.running
        if running is None or running.response_complete or running.disconnected:
            return False
        if self.stage != "idle" and not self.deaf:
            return False  # it ends in the middle of a request
        self.half_closed = True
        self.cycle.keep_alive = False
        running.message_event.set()
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stall = self.loop.call_later(self.edges.stall_s, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.stall is not None:
            self.stall.cancel()
            self.stall = None

    # -- the parser's callbacks ----------------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        self.stage = "head"
        self.header_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > TARGET_BYTES_MAX:
            self._raise(TARGET_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.header_bytes += len(name) + len(value) + 4
        if self.header_bytes > HEADER_BYTES_MAX:
            self._raise(HEADERS_TOO_LARGE)
        # Trailers come here too, and X_Agent_Id is X-Agent-Id to whoever reads headers as CGI does: both are dropped.
        if self.stage == "head" and b"_" not in name:
            super().on_header(name, value.rstrip(b" \t"))  # the parser leaves what white space follows a value

    def on_headers_complete(self) -> None:
        problem = head_problem(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)
        if problem is not None:
            self._raise(problem)
        if len(self.pipeline) == _PIPELINED_MAX:
            self._raise(_UNREADABLE)  # never told: those before it are still to be answered
        self._expect_no_more()
        self.stage = "body"
        self.idle_bytes = self.body_bytes = 0
        self.app = call = Call(self.served, self)
        super().on_headers_complete()
        call.cycle = self.cycle
        if self.load.closing or self in self.spare:
            self.cycle.keep_alive = False
        if self.cycle.scope["http_version"] == "1.0":
            self.cycle.waiting_for_100_continue = False  # such a client may not know what that is
        if not self.pipeline:
            self.running = self.cycle

    def on_body(self, body: bytes) -> None:
        self.idle_bytes = 0
        self.body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._expect_no_more()
        self.stage = "idle"
        self.idle_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self.pipeline:
            self.running = self.pipeline[-1][0]  # at once: it may be told that no more comes before its task begins
        super().on_response_complete()
        if self.stage == "body" and self.cycle.response_complete and not self.transport.is_closing():
            self._linger()  # answered before its body was read: what still comes of it is not worth a connection

    @property
    def unserved(self) -> bool:
        return self.running is None or self.running.response_complete

    # -- refusing ------------------------------------------------------------------------------------------------
    def send_400_response(self, msg: str) -> None:
        self.refuse(self.refusal)

    def refuse(self, refusal: Refusal) -> None:
        """Answer with the refusal if nothing else is being answered; read no further request from this client."""
        running = self.running
        if running is None or running.response_complete:
            self._answer(refusal)
        elif self.stage != "body" or running is not self.cycle:
            self.deaf = True  # an earlier request is sound: it gets its answer, and then uvicorn closes
            running.keep_alive = False
            self._expect_no_more()
        elif running.response_started:
            self._disconnect_running()
            self.transport.abort()
        else:
            self._disconnect_running()
            self._answer(refusal)

    def _raise(self, refusal: Refusal) -> NoReturn:
        self.refusal = refusal
        raise _Refused

    def _answer(self, refusal: Refusal) -> None:
        self.load.refused[refusal.code] += 1
        lines = [b"%b: %b\r\n" % header for header in refusal_headers(refusal)]
        self.transport.write(b"".join([STATUS_LINE[refusal.status], *lines, b"\r\n", refusal.body()]))
        self._linger()

    def _shed(self) -> None:
        self.load.shed += 1
        del self.spare[self]
        if not self.deaf:
            self._answer(_OVERLOADED)
        self.transport.close()

    def _linger(self) -> None:
        self.deaf = True
        self._unset_keepalive_if_required()
        self._expect_no_more()
        self.flow.resume_reading()
        with contextlib.suppress(OSError):  # a reset that has not been told yet
            self.transport.write_eof()
        self.deadline = self.loop.call_later(self.edges.linger_s, self.transport.close)

    def _disconnect_running(self) -> None:
        if self.running is not None and not self.running.response_complete:
            self.running.disconnected = True
            self.running.message_event.set()

    # -- waiting for the client ----------------------------------------------------------------------------------
    def _judge_progress(self, line_ended: bool) -> None:
        if self.deaf:
            return
        if line_ended and self.stage == "head" and self.url and self.parser.get_http_version() == "0.0":
            self.refuse(HTTP_VERSION)  # a line without a version: HTTP/0.9, behind which nothing need come
        elif self.idle_bytes > _IDLE_BYTES_MAX:
            self.refuse(_UNREADABLE if self.stage == "body" else HEADERS_TOO_LARGE)
        elif self.stage != "idle" or self.unserved:
            self._expect_more()

    def _expect_more(self) -> None:
        if self.deadline is None:
            wait_s = self.edges.body_s if self.stage == "body" else self.edges.head_s
            self.deadline = self.loop.call_later(wait_s, self._waited)

    def _expect_no_more(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def _waited(self) -> None:
        self.deadline = None
        if self.stage == "body":
            # A client that we told to wait (back-pressure) is not slow, nor while what it held back is on its way.
            held, self.held = self.held, self.flow.read_paused
            if held or self.held or self.body_bytes >= self.edges.body_bytes:
                self.body_bytes = 0
                self._expect_more()
            else:
                self.refuse(_TOO_SLOW)
        elif self.idle_bytes:
            self.refuse(_TOO_SLOW)
        else:
            self.transport.close()
