"""The HTTP server: uvicorn's, with the hardened protocol as its `http`, and a stop of our own; start, drain, stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from proxy.load import Load
from proxy.protocol import Connection, Edges, Serving

logger = logging.getLogger("agent_ledger.server")

_CANCELED_S = 5.0


class Server:
    """Serves an ASGI app in the running loop; ``port`` 0 takes a free one. No lifespan, no signals, no access log."""

    def __init__(
        self,
        app: ASGIApp,
        host: str = "127.0.0.1",
        port: int = 0,
        edges: Edges | None = None,
        load: Load | None = None,
    ) -> None:
        self._serving = Serving(app, edges or Edges(), load or Load())
        self._listeners: list[socket.socket] = []
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                app,
                host,
                port,
                http=cast("type[asyncio.Protocol]", self._connection),
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level=logging.WARNING,
            )
        )

    async def start(self) -> int:
        """Listen; the port. Raises OSError when the address can't be had."""
        server, config = self._uvicorn, self._uvicorn.config
        found = await asyncio.get_running_loop().getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)
        try:
            for family, _, _, _, address in dict.fromkeys(found):
                self._listeners.append(socket.create_server(address[:2], family=family, backlog=config.backlog))
        except OSError:
            self._close_listeners()
            raise
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=self._listeners)
        port: int = self._listeners[0].getsockname()[1]
        return port

    async def shutdown(self, grace_s: float, delay_s: float = 0.0, hurried: asyncio.Event | None = None) -> None:
        """Serve on for ``delay_s``; then take no new calls, finish what runs within ``grace_s``, cancel the rest and
        wait for its clean-up. ``hurried``, once set, cuts both times short.

        While something runs the app is still asked, so that it can say that it takes no calls: `Load.closing` is set
        then, and each answer is its connection's last.
        """
        assert self._listeners, "not started"
        hurried = hurried or asyncio.Event()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hurried.wait(), delay_s)
        serving = self._serving
        serving.load.close()
        deadline = asyncio.get_running_loop().time() + grace_s
        for connection in serving.connections:
            if connection.running is not None:
                connection.shutdown()  # which leaves it open until it has been answered
        await _until(lambda: not serving.tasks, deadline, hurried)
        for listening in self._uvicorn.servers:
            listening.close()
        self._close_listeners()
        for connection in list(serving.connections):
            connection.shutdown()
        await _until(lambda: not (serving.tasks or serving.connections), deadline, hurried)
        for task in list(serving.tasks):
            task.cancel()
        if serving.tasks:
            await asyncio.wait(serving.tasks, timeout=_CANCELED_S)
        for connection in list(serving.connections):
            connection.transport.abort()

    def _connection(self, **of_uvicorn: Any) -> Connection:
        return Connection(self._serving)

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()


async def _until(true: Callable[[], bool], deadline: float, hurried: asyncio.Event) -> None:
    # Neither a task's end nor a connection's costs the line an event.
    loop = asyncio.get_running_loop()
    while not true() and loop.time() < deadline and not hurried.is_set():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


class Stop:
    """What the signals asked for: ``asked`` is set by the first SIGTERM or SIGINT, ``hurried`` by the second."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()

    def signaled(self) -> None:
        (self.hurried if self.asked.is_set() else self.asked).set()


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Heeds SIGTERM and SIGINT in the block: a container's first process ignores them where nothing does."""
    loop, stop = asyncio.get_running_loop(), Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.signaled)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def serve(
    server: Server,
    stop: Stop,
    *,
    grace_s: float,
    delay_s: float = 0.0,
    on_ready: Callable[[int], Any],
    on_drain: Callable[[], Any] = lambda: None,
) -> None:
    """Serve until asked to stop, then drain. ``on_ready`` is told the port, ``on_drain`` that it was asked."""
    on_ready(await server.start())
    await stop.asked.wait()
    on_drain()
    await server.shutdown(grace_s, delay_s, stop.hurried)
