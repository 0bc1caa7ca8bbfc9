"""What an operator looks over: alerts, totals of spend, open reservations."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from policy.money import usd
from proxy.api.fields import Query
from proxy.api.resource import answer, array, as_json, own, principal_of
from proxy.api.wire import reservation_json
from proxy.denials import Refused
from proxy.jsontext import dumps
from proxy.notify.message import alert_json
from proxy.state import Sidecar

# As the API names the groups, and as the ledger does.
GROUPS = {name: name for name in ("agent", "role", "upstream", "price", "target", "outcome", "hour", "day", "month")}
GROUPS["ownerId"] = "owner_id"


async def alerts(sidecar: Sidecar, request: Request) -> Response:
    """Newest first. An agent sees its own."""
    query = Query(request.query_params)
    agent_id = query.text("agentId") or principal_of(request).agent_id
    open_only = query.choice("open", ("true", "false")) == "true"
    query.done()
    if agent_id is not None:
        own(request, agent_id)
    found = await sidecar.ledger.alerts(agent_id, open_only=open_only)
    return as_json(await array(found, alert_json, at_once=100))


async def acknowledge(sidecar: Sidecar, request: Request) -> Response:
    alert = await sidecar.ledger.acknowledge(request.path_params["id"])
    if alert is None:
        raise Refused(404, "not_found", "No alert has this id.")
    return answer(alert_json(alert))


async def spend(sidecar: Sidecar, request: Request) -> Response:
    """Totals by any of the groups, in the order they are named; by agent, if none is. An agent sees its own."""
    query = Query(request.query_params)
    names = query.choices("groupBy", GROUPS) or ["agent"]
    since, until = query.time("since"), query.time("until")
    agent_id = query.text("agentId") or principal_of(request).agent_id
    query.done()
    if agent_id is not None:
        own(request, agent_id)
    rows = await sidecar.ledger.spend([GROUPS[name] for name in names], since, until, agent_id)
    total = usd(sum(row["cost"] for row in rows))
    items = await array(rows, partial(_total_json, names), at_once=100)
    return as_json(f'{{"groupBy":{dumps(names)},"items":{items},"total":{dumps(total)}}}')


def _total_json(names: Sequence[str], row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[GROUPS[name]] for name in names} | {"cost": usd(row["cost"]), "actions": row["actions"]}


async def reservations(sidecar: Sidecar, request: Request) -> Response:
    now_ms = int(time.time() * 1000)
    return answer([reservation_json(reservation, now_ms) for reservation in sidecar.ledger.reservations()])
