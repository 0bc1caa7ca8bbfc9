"""The JSON API, and what operators' tools read: every path, its methods, and who may call them."""

from __future__ import annotations

from starlette.routing import Route

from proxy.api import accounts, actions, adjustments, agents, deliveries, explain, keys, policy, system
from proxy.api.resource import Method, Missing, Resource, Who
from proxy.state import Sidecar


def routes(sidecar: Sidecar) -> list[Route]:
    """To be served behind a `Guard`, which says who calls."""
    admin, agent, anyone = Who.ADMIN, Who.AGENTS, Who.ANYONE
    table = {
        "/api/agents": {"GET": Method(admin, agents.listed), "POST": Method(admin, agents.create)},
        "/api/agents/{id}": {
            "GET": Method(agent, agents.shown),
            "PATCH": Method(admin, agents.change),
            "DELETE": Method(admin, agents.archive),
        },
        "/api/agents/{id}/keys": {"GET": Method(admin, keys.listed), "POST": Method(admin, keys.create)},
        "/api/agents/{id}/keys/{keyId}": {"DELETE": Method(admin, keys.revoke)},
        "/api/actions": {"GET": Method(agent, actions.listed), "POST": Method(agent, actions.report)},
        "/api/actions/{id}": {"GET": Method(agent, actions.shown)},
        "/api/adjustments": {"POST": Method(admin, adjustments.adjust)},
        "/api/export": {"GET": Method(admin, actions.export)},
        "/api/alerts": {"GET": Method(agent, accounts.alerts)},
        "/api/alerts/test": {"POST": Method(admin, deliveries.test)},
        "/api/alerts/{id}/acknowledge": {"POST": Method(admin, accounts.acknowledge)},
        "/api/deliveries": {"GET": Method(admin, deliveries.listed)},
        "/api/deliveries/{id}/retry": {"POST": Method(admin, deliveries.retry)},
        "/api/spend": {"GET": Method(agent, accounts.spend)},
        "/api/reservations": {"GET": Method(admin, accounts.reservations)},
        "/api/policy": {"GET": Method(admin, policy.shown)},
        "/api/policy/reload": {"POST": Method(admin, policy.reload)},
        "/api/explain": {"POST": Method(admin, explain.explain)},
        "/healthz": {"GET": Method(anyone, system.healthz)},
        "/readyz": {"GET": Method(anyone, system.readyz)},
        "/metrics": {"GET": Method(anyone, system.metrics)},
        "/openapi.json": {"GET": Method(agent, system.contract)},
    }
    found = [Route(path, Resource(sidecar, methods)) for path, methods in table.items()]
    return [*found, Route("/api", Missing()), Route("/api/{rest:path}", Missing())]
