"""Server-sent events that tell an open page when to fetch itself again: nothing else is sent, and nothing hooked in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from proxy.dashboard.frame import Pages, version

TICK_S = 0.5
_QUIET_TICKS = 30  # a comment at least so often, that nothing between takes the stream for dead
_LIFE_TICKS = 1200  # then the browser connects anew, and is asked who it is
_PAGES_MAX = 64


def routes(pages: Pages) -> list[Route]:
    return [Route("/events", _Events(pages).stream, methods=["GET"])]


class _Events:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._open = 0

    async def stream(self, request: Request) -> Response:
        if self._pages.visit(request) is None:
            return Response(status_code=401)
        if self._open >= _PAGES_MAX:
            return Response(status_code=503, headers={"retry-after": "30"})
        return StreamingResponse(self._versions(), media_type="text/event-stream")

    async def _versions(self) -> AsyncIterator[str]:
        self._open += 1
        try:
            told, quiet = "", 0
            for _ in range(_LIFE_TICKS):
                if self._pages.sidecar.draining:
                    return
                now = version(self._pages.sidecar)
                if now != told:
                    told, quiet = now, 0
                    yield f"data: {now}\n\n"
                elif (quiet := quiet + 1) >= _QUIET_TICKS:
                    quiet = 0
                    yield ": quiet\n\n"
                await asyncio.sleep(TICK_S)
        finally:
            self._open -= 1
