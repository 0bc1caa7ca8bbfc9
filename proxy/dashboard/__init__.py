"""The operator's pages, rendered on the server; they read and change the ledger through its port alone."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from proxy.dashboard import action, actions, agent, agents, alerts, entrance, events, keys, policy
from proxy.dashboard.frame import Pages, problem
from proxy.ledger.port import LedgerError
from proxy.state import Sidecar

__all__ = ["routes"]


def routes(sidecar: Sidecar) -> list[Route | Mount]:
    """`/` and everything under `/ui`."""
    pages = Pages(sidecar)
    middleware = [Middleware(ExceptionMiddleware, handlers={HTTPException: problem, LedgerError: problem})]
    under_ui = [
        *entrance.routes(pages),
        *agents.routes(pages),
        *agent.routes(pages),
        *keys.routes(pages),
        *actions.routes(pages),
        *action.routes(pages),
        *alerts.routes(pages),
        *policy.routes(pages),
        *events.routes(pages),
        Mount("/static", StaticFiles(packages=[("proxy.dashboard", "static")])),
    ]
    return [
        Route("/", pages.shows("agents", agents.view), methods=["GET"], middleware=middleware),
        Mount("/ui", routes=under_ui, middleware=middleware),
    ]
