"""A request body that is sent as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable

import httpx

from proxy.transport.answer import Answer
from proxy.transport.connection import Connection
from proxy.transport.raw import Line


async def upload(connection: Connection, answer: Answer, headers: list[Line], pieces: AsyncIterable[bytes]) -> None:
    """Until the answer begins: an upstream that answers early wants no more of the body.

    ``headers`` say how it is framed. Raises what broke off the answer, or the body.
    """
    connection.uploading(True)
    task = asyncio.get_running_loop().create_task(_send(connection, answer, headers, pieces))
    try:
        await answer.begun()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])  # it reads from the client, and so may whoever comes next


async def _send(connection: Connection, answer: Answer, headers: list[Line], pieces: AsyncIterable[bytes]) -> None:
    names = {name.lower(): value for name, value in headers}
    chunked = b"transfer-encoding" in names
    left = int(names.get(b"content-length", b"0"))
    source = aiter(pieces)
    try:
        async for piece in source:
            if not piece:
                continue  # as a chunk it would end the body
            left -= len(piece)
            if left < 0 and not chunked:
                raise httpx.LocalProtocolError("a body longer than its Content-Length")
            await connection.upload(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if left and not chunked:
            raise httpx.LocalProtocolError("a body shorter than its Content-Length")
        if chunked:
            await connection.upload(b"0\r\n\r\n")
        connection.uploading(False)
    except (Exception, asyncio.CancelledError) as error:
        if not answer.status:
            connection.fail(error)
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()
