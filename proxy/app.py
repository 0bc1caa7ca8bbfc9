"""The sidecar, put together: one ASGI application over one ledger, one policy file, one forwarder."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from policy.catalog import Catalog
from proxy import api, dashboard
from proxy import server as server_module
from proxy.access import Guard
from proxy.api.resource import Missing
from proxy.calllog import CallLog
from proxy.forward import Forwarder
from proxy.gate import Gate
from proxy.ledger.embedded import open_embedded
from proxy.ledger.port import AgentUnknown
from proxy.load import Load, affordable
from proxy.logs import loop_error, write_stderr
from proxy.metrics import Metrics
from proxy.places import Places
from proxy.receive import counting
from proxy.rules import PolicyFile
from proxy.server import Server, Stop
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
        elif b"%2f" in scope["raw_path"].lower():
            # The router reads the path decoded, where what is one segment here would be two.
            await self._own({**scope, "path": scope["raw_path"].decode()}, receive, send)
        elif first == "api":
            with self.sidecar.load.hold() as hold:
                await self._own(scope, counting(receive, hold), send)
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
        if settings.agent is not None and ledger.agent(settings.agent) is None:
            raise AgentUnknown(f"--agent: there is no agent {settings.agent}")
        standin = StandIn()
        closing.push_async_callback(standin.stop)
        forwarder = Forwarder(builtin=standin.url)
        closing.push_async_callback(forwarder.aclose)
        places = Places(forwarder, policy_file.rules.policy.upstreams.values())
        sidecar = Sidecar(settings, ledger, policy_file, Metrics(ledger.deliveries), places, _load(settings))
        sidecar.notifier.use(policy_file.rules.policy.webhooks)
        closing.push_async_callback(sidecar.notifier.aclose)
        if settings.call_log is not None:
            sidecar.calls = CallLog(settings.call_log, write_stderr)
            closing.push_async_callback(sidecar.calls.close)
        own = Starlette(routes=[*api.routes(sidecar), *dashboard.routes(sidecar)])
        own.router.redirect_slashes = False
        own.router.default = Missing()
        gate = Gate(sidecar)
        closing.callback(gate.close)
        yield App(sidecar, gate, Guard(own, sidecar))


def _load(settings: Settings) -> Load:
    connections_max = affordable(settings.connections_max)
    if connections_max < settings.connections_max:
        log.warning(
            "at most %d connections at once, not %d: the limit of open files (ulimit -n) allows no more",
            connections_max,
            settings.connections_max,
        )
    return Load(connections_max, settings.buffered_max)


async def serve(
    settings: Settings,
    on_ready: Callable[[str], None],
    alongside: Callable[[str], Coroutine[None, None, None]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; SIGHUP reloads the policy. Both callables are told the url.

    ``alongside`` runs while it serves. Raises what `sidecar_app` does.
    """
    asyncio.get_running_loop().set_exception_handler(loop_error)
    with server_module.stop_signals() as stop:
        async with sidecar_app(settings) as app:
            await _serve(app, settings, stop, on_ready, alongside)


async def _serve(
    app: App,
    settings: Settings,
    stop: Stop,
    on_ready: Callable[[str], None],
    alongside: Callable[[str], Coroutine[None, None, None]] | None,
) -> None:
    if stop.asked.is_set():
        log.info("asked to stop while starting: nothing was served")
        return
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def begin(task: Coroutine[None, None, None]) -> None:
        tasks.add(started := loop.create_task(task))
        started.add_done_callback(tasks.discard)

    def ready(port: int) -> None:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        url = f"http://{host}:{port}"
        loop.add_signal_handler(signal.SIGHUP, lambda: begin(_reload(app.sidecar)))
        if alongside is not None:
            begin(alongside(url))
        # What there is now stays: no collection need walk it again (70,000 objects, most of them price lists).
        gc.collect()
        gc.freeze()
        on_ready(url)

    def drain() -> None:
        log.info("stopping: not ready from now, no new calls in %g s, %d s for those in flight", delay_s, DRAIN_S)
        app.sidecar.draining = True
        for task in tasks:
            task.cancel()

    delay_s = settings.drain_delay_s
    server = Server(app, settings.host, settings.port, load=app.sidecar.load)
    await server_module.serve(server, stop, grace_s=DRAIN_S, delay_s=delay_s, on_ready=ready, on_drain=drain)


async def _reload(sidecar: Sidecar) -> None:
    # PolicyFile has logged the failure, and /readyz, the metrics and the dashboard show it.
    with contextlib.suppress(Exception):
        await sidecar.reload()
