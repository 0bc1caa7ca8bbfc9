"""The sidecar's own server and transport with nothing between them: what is left of its cost without the gate.

`python -m tests.bench.bare PORT UPSTREAM_URL`
"""

from __future__ import annotations

import asyncio
import sys

from starlette.types import ASGIApp, Receive, Scope, Send

from policy.model import Upstream
from proxy.call import CLIENT
from proxy.forward import Forwarder
from proxy.loop import run
from proxy.server import Server

_OF_THE_CONNECTION = frozenset((b"host", b"connection", b"transfer-encoding", b"keep-alive"))


def app(url: str) -> ASGIApp:
    upstream, forwarder = Upstream("bare", url), Forwarder()

    async def forward(scope: Scope, receive: Receive, send: Send) -> None:
        body = scope["extensions"][CLIENT].whole_body
        if body is None:
            body = await gather(receive)
        headers = [header for header in scope["headers"] if header[0] not in _OF_THE_CONNECTION]
        answer = await forwarder.send(upstream, scope["method"], scope["raw_path"], headers, body)
        headers = [header for header in answer.headers if header[0] not in _OF_THE_CONNECTION]
        try:
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            async for chunk in answer.chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await answer.aclose()

    return forward


async def gather(receive: Receive) -> bytes:
    chunks, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError
        chunks.append(message["body"])
        more = message["more_body"]
    return b"".join(chunks)


async def main(port: int, url: str) -> None:
    await Server(app(url), "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    run(main(int(sys.argv[1]), sys.argv[2]))
