"""A scriptable upstream on a real socket: it reads a request exactly, and answers exact bytes when a test says."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

Script = Callable[["Seen", "Line"], Awaitable[None]]


@dataclass
class Seen:
    """One request as it came. ``body`` is empty where the upstream only counts (``size``)."""

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    size: int = 0

    def header(self, name: str) -> str | None:
        found = [value.decode("latin-1") for key, value in self.headers if key.lower() == name.encode()]
        assert len(found) < 2, f"{name} is there {len(found)} times"
        return found[0] if found else None

    def names(self) -> list[bytes]:
        return [name.lower() for name, _ in self.headers]


@dataclass
class Line:
    """The upstream's end of one connection. ``ended`` once either side is done with it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    sent: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            self.sent += len(piece)

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()

    def half_close(self) -> None:
        """No more from us; what the other side still says is read."""
        self.writer.write_eof()

    async def gone(self) -> None:
        """Wait until the other side has closed, cleanly or not."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


def answer(body: bytes = b"", status: str = "200 OK", *headers: bytes) -> bytes:
    """A whole answer with a Content-Length."""
    lines = [b"HTTP/1.1 " + status.encode(), *headers, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def says(*pieces: bytes) -> Script:
    """A script that sends these bytes, and keeps the connection for the next request."""

    async def script(seen: Seen, line: Line) -> None:
        await line.say(*pieces)

    return script


@dataclass
class ScriptedUpstream:
    """``script`` runs for each request; ``seen`` and ``lines`` are what came, in order. Use as ``async with``.

    It listens at a port of its own, or at ``sock``, which is bound.
    """

    script: Script
    keep_body: bool = True
    seen: list[Seen] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    url: str = ""
    sock: socket.socket | None = None

    async def __aenter__(self) -> ScriptedUpstream:
        self._tasks: set[asyncio.Task[None]] = set()
        if self.sock is None:
            self.sock = socket.create_server(("127.0.0.1", 0))
        self._server = await asyncio.start_server(self._accept, sock=self.sock, limit=1 << 20)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(task := asyncio.get_running_loop().create_task(self._converse(Line(reader, writer))))
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, line: Line) -> None:
        self.lines.append(line)
        try:
            while not line.writer.is_closing():
                await self.script(await self._request(line), line)
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the other side left
        finally:
            line.close()
            line.ended.set()

    async def _request(self, line: Line) -> Seen:
        head = await line.reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        method, target, _ = first.split(b" ")
        headers = [(name, value.strip()) for name, _, value in (entry.partition(b":") for entry in lines)]
        seen = Seen(method.decode(), target, headers)
        self.seen.append(seen)
        async for piece in _body(line.reader, seen):
            seen.size += len(piece)
            if self.keep_body:
                seen.body += piece
        return seen


async def _body(reader: asyncio.StreamReader, seen: Seen) -> AsyncIterator[bytes]:
    length, coding = seen.header("content-length"), seen.header("transfer-encoding")
    assert length is None or coding is None, "both framings at once"
    if coding is not None:
        assert coding == "chunked"
        while size := int(await reader.readuntil(b"\r\n"), 16):
            yield (await reader.readexactly(size + 2))[:-2]
        assert await reader.readuntil(b"\r\n") == b"\r\n", "trailers"
    left = int(length or 0)
    while left:
        piece = await reader.read(min(left, 1 << 16))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
        yield piece
