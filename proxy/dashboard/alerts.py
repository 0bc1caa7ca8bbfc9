"""Alerts: those to acknowledge, those that were; and what the policy's webhooks have not taken yet."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from policy.model import Webhook
from policy.parse.alerts import ALERT_TYPES
from policy.words import host_of
from proxy.dashboard.agents import names
from proxy.dashboard.frame import Pages, Shown
from proxy.ledger.port import Alert, Delivery
from proxy.state import Sidecar

OPEN_SHOWN = 500
READ_SHOWN = 100
DELIVERIES_SHOWN = 100
AGENTS_OFFERED = 200

_HELD = 1000  # of the latest, among which those of a type are looked for


class Asked(NamedTuple):
    """Which alerts the visitor wants to see; "" any."""

    agent: str
    type: str

    @property
    def query(self) -> str:
        return urlencode({name: value for name, value in self._asdict().items() if value})

    def fits(self, alert: Alert) -> bool:
        return self.type in ("", alert.type)


class Hook(NamedTuple):
    """A webhook of the policy, and how much of it waits or was given up."""

    name: str
    host: str
    format: str
    types: Sequence[str]
    waiting: int
    dead: int


def routes(pages: Pages) -> list[Route]:
    return [
        Route("/alerts", pages.shows("alerts", view), methods=["GET"]),
        Route("/alerts/acknowledge", pages.changes("alerts", _acknowledge_shown), methods=["POST"]),
        Route("/alerts/{alert_id}/acknowledge", pages.changes("alerts", _acknowledge), methods=["POST"]),
        Route("/deliveries/{delivery_id}/retry", pages.changes("alerts", _retry), methods=["POST"]),
    ]


async def view(sidecar: Sidecar, request: Request, at_ms: int) -> Shown:
    ledger, policy = sidecar.ledger, sidecar.policy_file.rules.policy
    asked = Asked(request.query_params.get("agent", "").strip(), request.query_params.get("type", ""))
    agent_id = asked.agent or None
    to_read = [alert for alert in await ledger.alerts(agent_id, _HELD, open_only=True) if asked.fits(alert)]
    latest = [alert for alert in await ledger.alerts(agent_id, _HELD) if asked.fits(alert)]
    read = [alert for alert in latest if alert.acknowledged_at is not None][:READ_SHOWN]
    undelivered = ledger.deliveries()
    dead = [delivery for delivery in undelivered if delivery.next_at is None]
    waiting = [delivery for delivery in undelivered if delivery.next_at is not None]
    shown = [*to_read[:OPEN_SHOWN], *read, *(delivery.alert for delivery in undelivered)]
    values = {
        "asked": asked,
        "types": ALERT_TYPES if asked.type in ("", *ALERT_TYPES) else (*ALERT_TYPES, asked.type),
        "agents": ledger.agents()[:AGENTS_OFFERED],
        "to_read": to_read[:OPEN_SHOWN],
        "open_count": len(to_read),
        "read": read,
        "read_most": READ_SHOWN,
        "any": bool(latest or to_read),
        "hooks": _hooks(policy.webhooks, undelivered),
        "dead": dead[:DELIVERIES_SHOWN],
        "dead_count": len(dead),
        "waiting": waiting[:DELIVERIES_SHOWN],
        "waiting_count": len(waiting),
        "names": names(ledger, alerts=shown),
        "policy_path": str(sidecar.settings.policy),
    }
    return Shown("alerts.html", values)


def _hooks(webhooks: Sequence[Webhook], undelivered: Sequence[Delivery]) -> list[Hook]:
    dead = Counter(delivery.webhook for delivery in undelivered if delivery.next_at is None)
    waiting = Counter(delivery.webhook for delivery in undelivered if delivery.next_at is not None)
    return [
        Hook(hook.name, host_of(hook), hook.format, hook.types, waiting[hook.name], dead[hook.name])
        for hook in webhooks
    ]


async def _acknowledge(sidecar: Sidecar, request: Request, form: Mapping[str, str]) -> None:
    if await sidecar.ledger.acknowledge(request.path_params["alert_id"]) is None:
        raise HTTPException(404, "There is no such alert.")


async def _acknowledge_shown(sidecar: Sidecar, request: Request, form: Mapping[str, str]) -> None:
    """Those that the form's page showed, by their ids between spaces: what was raised since stays open."""
    ids = dict.fromkeys(form.get("ids", "").split()[:OPEN_SHOWN])
    # Together, so that they share the journal's syncs. One that is gone by now needs nobody's look.
    await asyncio.gather(*map(sidecar.ledger.acknowledge, ids))


async def _retry(sidecar: Sidecar, request: Request, form: Mapping[str, str]) -> None:
    if await sidecar.ledger.redeliver(request.path_params["delivery_id"]) is None:
        raise HTTPException(404, "There is no such delivery to try again.")
