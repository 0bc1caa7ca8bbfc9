"""The sidecar that one would write first, without a gate: Starlette's Request and StreamingResponse, httpx's client.

`python -m tests.bench.naive PORT UPSTREAM_URL`
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

_OF_THE_CONNECTION = ("host", "connection", "transfer-encoding", "keep-alive")


def app(upstream: str) -> Starlette:
    client = httpx.AsyncClient(base_url=upstream, timeout=600, limits=httpx.Limits(max_connections=None))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    async def forward(request: Request) -> StreamingResponse:
        headers = [(name, value) for name, value in request.headers.items() if name not in _OF_THE_CONNECTION]
        sent = client.build_request(request.method, request.url.path, headers=headers, content=await request.body())
        answer = await client.send(sent, stream=True)
        headers = [(name, value) for name, value in answer.headers.items() if name not in _OF_THE_CONNECTION]
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, dict(headers), background=BackgroundTask(answer.aclose)
        )

    return Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST"])], lifespan=lifespan)


if __name__ == "__main__":
    uvicorn.run(app(sys.argv[2]), port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False)
