"""The HTTP server: an ASGI app behind uvicorn's machinery and the hardened protocol; start, drain, stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from proxy.protocol import Edges, Protocol

_CANCELED_S = 5.0


class Server:
    """Serves an ASGI app in the running loop; ``port`` 0 takes a free one. No lifespan, no signals, no access log."""

    def __init__(self, app: ASGIApp, host: str = "127.0.0.1", port: int = 0, edges: Edges | None = None) -> None:
        self._host = host
        self._port = port
        self._edges = edges or Edges()
        self._config = Config(
            app,
            interface="asgi3",
            http="httptools",
            ws="none",
            lifespan="off",
            proxy_headers=False,  # X-Forwarded-For is the client's word, and stays a header
            server_header=False,
            date_header=False,  # an upstream's own Date is passed on, and must not become two
            access_log=False,
            log_config=None,
            timeout_keep_alive=self._edges.keep_alive_s,
        )
        self._state = ServerState()
        self._listener: asyncio.Server | None = None
        self._hurried = False

    async def start(self) -> int:
        """Listen; the port. Raises OSError when the address can't be had."""
        self._config.load()
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Protocol(self._config, self._state, self._edges), self._host, self._port, backlog=2048
        )
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    async def shutdown(self, grace_s: float) -> None:
        """Take nothing new, finish what runs within ``grace_s``, cancel the rest and wait for its clean-up."""
        assert self._listener is not None, "not started"
        self._listener.close()
        state, loop = self._state, asyncio.get_running_loop()
        for connection in list(state.connections):
            connection.shutdown()
        deadline = loop.time() + grace_s
        # uvicorn tells of neither by an event.
        while (state.tasks or state.connections) and loop.time() < deadline and not self._hurried:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for task in list(state.tasks):
            task.cancel()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=_CANCELED_S)
        for connection in list(state.connections):
            connection.transport.abort()
        await self._listener.wait_closed()

    def hurry(self) -> None:
        """Cut the grace of a running or coming shutdown short."""
        self._hurried = True


async def serve(
    server: Server, *, grace_s: float, on_ready: Callable[[int], Any], on_drain: Callable[[], Any] = lambda: None
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the draining at once.

    ``on_ready`` is told the port, ``on_drain`` that the first signal came.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def signaled() -> None:
        if stop.is_set():
            server.hurry()
        stop.set()

    port = await server.start()
    with contextlib.ExitStack() as handlers:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, signaled)
            handlers.callback(loop.remove_signal_handler, number)
        on_ready(port)
        await stop.wait()
        on_drain()
        await server.shutdown(grace_s)
