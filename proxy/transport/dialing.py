"""A new connection: the name looked up, its addresses tried, TLS spoken; all in one bound of time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass
from typing import Any

import httpx

from proxy.transport.connection import Connection
from proxy.transport.pool import Pool

# An address that does not answer holds up the next one no longer than this (RFC 8305).
_NEXT_S = 0.25

Address = tuple[Any, ...]  # as `socket.getaddrinfo` gives it
_Attempt = asyncio.Task[socket.socket]


@dataclass(frozen=True, slots=True)
class Origin:
    """``host`` as it is looked up, and named in TLS; ``tls`` None for plain http."""

    host: str
    port: int
    tls: ssl.SSLContext | None


async def dial(origin: Origin, pool: Pool, timeout_s: float | None) -> Connection:
    """Raises httpx.ConnectTimeout or httpx.ConnectError: nothing was sent."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            sock = await _connect(await _addresses(origin, loop), loop)
            try:
                _, connection = await loop.create_connection(
                    lambda: Connection(pool, loop),
                    sock=sock,
                    ssl=origin.tls,
                    server_hostname=origin.host if origin.tls else None,
                )
            except BaseException:
                sock.close()
                raise
    except TimeoutError as late:
        raise httpx.ConnectTimeout("no connection in time") from late
    except (OSError, ValueError) as why:  # a name that is none is a ValueError
        raise httpx.ConnectError("no connection") from why
    if pool.closed:
        connection.fail(error := httpx.ConnectError("the connections to this upstream were closed"))
        raise error
    return connection


async def _addresses(origin: Origin, loop: asyncio.AbstractEventLoop) -> list[Address]:
    """An address needs no look-up, which would be made in a thread."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, origin.host)
            return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (origin.host, origin.port))]
    return await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)


async def _connect(addresses: list[Address], loop: asyncio.AbstractEventLoop) -> socket.socket:
    """The first that connects. The next address is tried as soon as one fails, or does not answer for a while."""
    if len(addresses) == 1:
        return await _reach(addresses[0], loop)
    left, tried, running = addresses[::-1], list[_Attempt](), set[_Attempt]()
    failed: BaseException = OSError("no address")
    try:
        while left or running:
            if left:
                tried.append(loop.create_task(_reach(left.pop(), loop)))
                running.add(tried[-1])
            wait_s = _NEXT_S if left else None
            done, running = await asyncio.wait(running, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            for attempt in done:
                tried.remove(attempt)
                if (error := attempt.exception()) is None:
                    return attempt.result()
                failed = error
        raise failed
    finally:
        for attempt in tried:
            attempt.cancel()
            attempt.add_done_callback(_close)


def _close(attempt: _Attempt) -> None:
    """One that came too late."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _reach(address: Address, loop: asyncio.AbstractEventLoop) -> socket.socket:
    family, kind, protocol, _, where = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock
