"""One connection to an upstream: a request at a time, and what comes taken apart by llhttp."""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, cast

import httpx
from httptools import HttpParserError, HttpResponseParser

from proxy.transport.answer import HELD_MAX, Answer
from proxy.transport.raw import Line
from proxy.transport.strictness import HEAD_BYTES_MAX, Refused, ends_with_connection, judge

if TYPE_CHECKING:
    from proxy.transport.pool import Pool


class Connection(asyncio.Protocol):
    """`ask` begins a request, `send` and `upload` say it; the answer is fed as it comes.

    One whose answer is whole, and that may serve on, gives itself back to its pool. Any other is closed, and so is one
    on which anything is said that nobody asked.
    """

    __slots__ = (
        "_active", "_answer", "_barren", "_bodiless", "_clock", "_complete", "_due", "_headers", "_held", "_loop",
        "_parser", "_patience", "_poll", "_pool", "_read_s", "_reusable", "_transport", "_unsent", "_until_close",
        "_uploading", "_writable", "_write_s",
    )  # fmt: skip

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._poll = select.poll()
        self._answer: Answer | None = None  # that is being read
        self._headers: list[Line] = []
        self._bodiless = False  # HEAD
        self._barren = 0  # bytes that came since the request began, or since the last of a body
        self._complete = self._reusable = self._until_close = False
        self._held = False  # the upstream is, for the reader lags
        self._uploading = False
        self._writable: asyncio.Future[None] | None = None  # while more than enough is unsent
        self._read_s = self._write_s = float("inf")
        self._clock: asyncio.TimerHandle | None = None
        self._due = self._active = 0.0
        self._unsent: int | None = None  # at the clock's last look

    # -- the request -----------------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether neither side has closed it, nor said anything since its last answer, as far as the system knows.

        The loop may learn of it only later: it takes a look at its sockets between all that is ready to run.
        """
        return not self._transport.is_closing() and not self._poll.poll(0)

    def ask(self, read_s: float, write_s: float, *, bodiless: bool) -> Answer:
        """Begin a request. ``bodiless``: its answer has no body, whatever that says of one."""
        self._answer = answer = Answer(self, self._loop)
        self._read_s = read_s
        self._write_s = write_s
        self._bodiless = bodiless
        self._uploading = False
        self._unsent = None
        self._barren = 0
        self._complete = False
        if self._transport.is_closing():  # the upstream closed it as soon as it was made
            self.fail(httpx.ReadError("the connection broke"))
        else:
            self.expect()
        return answer

    def send(self, data: bytes) -> None:
        if self._answer is not None:
            self._transport.write(data)

    async def upload(self, piece: bytes) -> None:
        """Send it; return when the next may come."""
        self.send(piece)
        if self._writable is not None:
            await self._writable

    def uploading(self, is_so: bool) -> None:
        """While it is, silence is not the upstream's, and no connection is used again that was left so."""
        self._uploading = is_so
        self._active = self._loop.time()

    # -- the answer's reader ---------------------------------------------------------------------------------------

    def expect(self) -> None:
        """Somebody begins to wait for the upstream. The clock is set anew only where it would go off too late."""
        self._active = now = self._loop.time()
        due = now + min(self._read_s, self._write_s)
        if self._clock is None or due < self._due:
            self._set_clock(due)

    def go_on(self) -> None:
        """The reader has taken all there was."""
        if self._held and not self._transport.is_closing():
            self._held = False
            self._transport.resume_reading()

    def fail(self, error: BaseException) -> None:
        """Close it at once; the answer that is being read, if any, breaks off."""
        answer, self._answer = self._answer, None
        self._transport.abort()
        if answer is not None:
            answer.end(error)

    def close(self) -> None:
        """Close it, if no answer is being read, in good order."""
        self._transport.close()

    # -- the transport's callbacks ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._pool.made(self)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None or self._parser is None:
            self._pool.drop(self)
            self._transport.abort()
            return
        self._active = self._loop.time()
        self._barren += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            if not self._complete:
                self.fail(httpx.RemoteProtocolError(f"malformed: {error}"))
                return
            self._reusable = False  # the answer is whole, and what follows it is no answer to anything
        if self._complete:
            self._finish(answer)
        elif self._barren > HEAD_BYTES_MAX:
            self.fail(httpx.RemoteProtocolError("a head, a trailer or a chunk's extension has no end"))
        elif answer.held:
            answer.wake()
            if answer.held > HELD_MAX and not self._held:
                self._held = True
                self._transport.pause_reading()

    def eof_received(self) -> None:
        if self._answer is None:
            self._pool.drop(self)
        elif self._until_close and self._answer.status:
            self._finish(self._answer)
        else:
            self.fail(httpx.RemoteProtocolError("the connection ended before its answer did"))

    def connection_lost(self, error: Exception | None) -> None:
        self.fail(httpx.ReadError("the connection broke"))
        self._pool.lost(self)
        self.resume_writing()
        if self._clock is not None:
            self._clock.cancel()
        self._parser = None  # it holds our methods: a circle

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        waiter, self._writable = self._writable, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # -- the parser's callbacks ------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._complete:
            raise Refused
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        assert self._answer is not None
        status = self._parser.get_status_code()
        if status < 200:
            if not 100 <= status != 101:
                raise Refused
            return
        headers = self._headers
        self._headers = []  # trailers go there, and nowhere
        judge(headers, self._barren)
        self._reusable = self._parser.should_keep_alive() and not self._bodiless
        self._complete = self._bodiless  # llhttp knows nothing of HEAD, and would wait for a body
        self._until_close = False
        if not self._reusable:
            if self._parser.get_http_version() not in ("1.1", "1.0"):
                raise Refused
            self._until_close = ends_with_connection(headers)
        self._barren = 0
        self._answer.begin(status, headers)

    def on_body(self, piece: bytes) -> None:
        assert self._answer is not None
        if self._complete or not self._answer.status:
            raise Refused
        self._barren = 0
        self._answer.add(piece)

    def on_message_complete(self) -> None:
        assert self._answer is not None
        self._complete = self._answer.status != 0

    def _finish(self, answer: Answer) -> None:
        """The answer is whole. Its connection serves on if all of the request was sent, and none of it is under way."""
        self._answer = None
        answer.end()
        if self._uploading or self._transport.get_write_buffer_size():
            self._transport.abort()
        elif self._reusable:
            self.go_on()
            self._pool.give(self)
        else:
            self._transport.close()

    # -- the clock -------------------------------------------------------------------------------------------------

    def _set_clock(self, due: float) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        if due < float("inf"):
            self._due = due
            self._clock = self._loop.call_at(due, self._look)

    def _look(self) -> None:
        """One clock for all of a connection's life, that looks back when it goes off: nothing is set at each read."""
        self._clock = None
        if self._answer is None or not self._answer.awaited:
            return
        now, unsent, before = self._loop.time(), self._transport.get_write_buffer_size(), self._unsent
        taken = unsent > 0 if before is None else unsent < before
        if taken or (self._uploading and not unsent):
            self._active = now  # the upstream takes what it is sent, or the request is still to come
        self._unsent = unsent
        due = self._active + (self._write_s if unsent else self._read_s)
        if due > now:
            self._set_clock(due)
        elif unsent:
            self.fail(httpx.WriteTimeout("the upstream took no more of the request"))
        else:
            self.fail(httpx.ReadTimeout("the upstream fell silent"))
