"""A raw-socket HTTP client for tests: sends exact bytes, and tells a clean end of an answer from an abort."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

WAIT_S = 10.0  # a test that waits longer has failed; nothing is measured against it


@dataclass(frozen=True)
class Answer:
    """``complete`` is False where the connection ended before the answer did. ``version`` is ``HTTP/1.1`` or so."""

    version: str
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    complete: bool

    def header(self, name: str) -> str | None:
        """The value of the only header of that name; None if there is none."""
        found = self.header_all(name)
        assert len(found) < 2, f"{name} is there {len(found)} times"
        return found[0] if found else None

    def header_all(self, name: str) -> list[str]:
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == name.lower().encode()]

    def json(self) -> Any:
        return json.loads(self.body)


class Raw:
    """One connection. ``async with Raw.connect(port) as raw: await raw.send(b"..."); await raw.answer()``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, port: int) -> AsyncIterator[Raw]:
        raw = cls(*await asyncio.open_connection("127.0.0.1", port))
        try:
            yield raw
        finally:
            raw.writer.close()
            with contextlib.suppress(OSError):
                await raw.writer.wait_closed()

    async def send(self, data: bytes) -> None:
        """A server may refuse and close before all is sent: that is read from its answer, not from here."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def answer(self, method: str = "GET") -> Answer:
        """The next final answer, whole or as far as it came. Raises EOFError if the connection ends without one."""
        async with asyncio.timeout(WAIT_S):
            head = await self._head()
            while head.split(b" ", 2)[1].startswith(b"1"):
                head = await self._head()
            first, *lines = head[:-4].split(b"\r\n")
            version, status, _ = first.decode().split(" ", 2)
            headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
            fields = {name.lower(): value for name, value in headers}
            if method == "HEAD" or status in ("204", "304"):
                return Answer(version, int(status), headers, b"", True)
            body, complete = await self._body(fields)
            return Answer(version, int(status), headers, body, complete)

    async def closed(self) -> bool:
        """Wait for the server to close; True for a clean end (FIN), False for a reset. Fails on further bytes."""
        async with asyncio.timeout(WAIT_S):
            try:
                rest = await self.reader.read()
            except ConnectionError:
                return False
        assert rest == b"", f"unexpected {rest[:200]!r}"
        return True

    def reset(self) -> None:
        """Vanish with a RST, as a killed process may."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def _head(self) -> bytes:
        try:
            return await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise EOFError("the connection ended without an answer") from error

    async def _body(self, fields: dict[bytes, bytes]) -> tuple[bytes, bool]:
        body = bytearray()
        try:
            if b"content-length" in fields:
                body += await self.reader.readexactly(int(fields[b"content-length"]))
            elif fields.get(b"transfer-encoding") == b"chunked":
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    body += (await self.reader.readexactly(size + 2))[:-2]
                await self.reader.readexactly(2)
            else:
                body += await self.reader.read()
        except asyncio.IncompleteReadError as error:
            return bytes(body) + error.partial, False
        except ConnectionError:
            return bytes(body), False
        return bytes(body), True


async def ask(port: int, data: bytes) -> Answer:
    """Send bytes on a connection of their own; the answer."""
    async with Raw.connect(port) as raw:
        await raw.send(data)
        return await raw.answer()


async def refused(port: int, data: bytes) -> Answer:
    """As `ask`, and the server must close behind its answer, cleanly, without another byte."""
    async with Raw.connect(port) as raw:
        await raw.send(data)
        answer = await raw.answer()
        assert await raw.closed()
        return answer
