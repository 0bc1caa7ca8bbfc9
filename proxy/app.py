"""The sidecar, put together: one ASGI application over one ledger, one policy file, one forwarder."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from policy.catalog import Catalog
from proxy import api, dashboard
from proxy.access import Guard
from proxy.forward import Forwarder
from proxy.gate import Gate
from proxy.ledger.embedded import open_embedded
from proxy.metrics import Metrics
from proxy.rules import PolicyFile
from proxy.server import Server
from proxy.settings import Settings
from proxy.standin import StandIn
from proxy.state import Sidecar

log = logging.getLogger("agent_ledger")

DRAIN_S = 25.0  # below a pod's usual grace period of 30 s


class App:
    """`/{upstream}/…` goes to the gate; everything else is the sidecar's own, behind its guard."""

    def __init__(self, sidecar: Sidecar, gate: ASGIApp, own: ASGIApp) -> None:
        self.sidecar = sidecar
        self._gate = gate
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        first = scope["raw_path"][1:].partition(b"/")[0].decode("latin-1")
        if first in self.sidecar.policy_file.rules.policy.upstreams:
            await self._gate(scope, receive, send)
        else:
            await self._own(scope, receive, send)


@asynccontextmanager
async def sidecar_app(settings: Settings) -> AsyncIterator[App]:
    """Opens the ledger, puts the policy in force, and closes all again.

    Raises PolicyError, LedgerError, OSError: nothing is left open then.
    """
    policy_file = PolicyFile(settings.policy, Catalog())
    async with contextlib.AsyncExitStack() as closing:
        ledger = await open_embedded(settings.data)
        closing.push_async_callback(ledger.close)
        await ledger.use(policy_file.rules.policy)
        standin = StandIn()
        closing.push_async_callback(standin.stop)
        forwarder = Forwarder(builtin=standin.url)
        closing.push_async_callback(forwarder.aclose)
        sidecar = Sidecar(settings, ledger, policy_file, Metrics())
        own = Starlette(routes=[*api.routes(sidecar), *dashboard.routes(sidecar)])
        own.router.redirect_slashes = False
        yield App(sidecar, Gate(sidecar, forwarder), Guard(own, sidecar))


async def serve(
    settings: Settings,
    on_ready: Callable[[int], None],
    alongside: Callable[[str], Awaitable[None]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; SIGHUP reloads the policy. ``alongside`` runs while it serves."""
    async with sidecar_app(settings) as app:
        server = Server(app, settings.host, settings.port)
        port = await server.start()
        on_ready(port)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: tasks.add(loop.create_task(_reload(app.sidecar))))
        if alongside is not None:
            tasks.add(loop.create_task(alongside(f"http://{settings.host}:{port}")))  # type: ignore[arg-type]
        await stop.wait()
        log.info("stopping: no new calls, those in flight have %d s", DRAIN_S)
        app.sidecar.draining = True
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, server.stop_now)  # a second signal: at once
        for task in tasks:
            task.cancel()
        await server.shutdown(DRAIN_S)


async def _reload(sidecar: Sidecar) -> None:
    # PolicyFile has logged the failure, and /readyz, the metrics and the dashboard show it.
    with contextlib.suppress(Exception):
        await sidecar.policy_file.reload(sidecar.ledger)
