"""Agents: register, show, change, archive."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from proxy.api.fields import Fields
from proxy.api.resource import answer, array, as_json, own, read_body
from proxy.api.wire import agent_json, budgets_json
from proxy.denials import Refused
from proxy.export import action_json
from proxy.identify import digest, new_key
from proxy.ledger.port import ActionFilter, Agent, Key, ManagedField
from proxy.state import Sidecar

LATEST_ACTIONS = 50


async def create(sidecar: Sidecar, request: Request) -> Response:
    """201 with the agent's key: it is stored as its digest, and never shown again."""
    fields = Fields(await read_body(request))
    key = new_key()
    agent = Agent(
        id="",
        name=fields.text("name"),
        role=fields.text("role"),
        owner_id=fields.line("ownerId"),
        monthly_budget=fields.money("monthlyBudget"),
        per_action_limit=fields.money_or_null("perActionLimit"),
        created_at=0,
        keys=(Key(digest(key)),),
    )
    fields.done()
    agent = await sidecar.ledger.create_agent(agent)
    response = answer(agent_json(sidecar.ledger, agent) | {"key": key}, 201)
    response.headers["location"] = f"/api/agents/{agent.id}"
    return response


async def listed(sidecar: Sidecar, request: Request) -> Response:
    return as_json(await array(sidecar.ledger.agents(), partial(agent_json, sidecar.ledger)))


async def shown(sidecar: Sidecar, request: Request) -> Response:
    agent = agent_of(sidecar, request)
    page = await sidecar.ledger.actions(ActionFilter(agent_id=agent.id, limit=LATEST_ACTIONS))
    latest = [action_json(action) for action in page.items]
    budgets = budgets_json(sidecar.ledger.standings(agent.id))
    return answer(agent_json(sidecar.ledger, agent) | {"budgets": budgets, "actions": latest})


async def change(sidecar: Sidecar, request: Request) -> Response:
    """What is named is changed, the rest stays. A pause set here is an operator's: only a PATCH lifts it."""
    agent = agent_of(sidecar, request)
    fields = Fields(await read_body(request))
    readers: dict[str, tuple[str, Callable[[str], Any]]] = {
        "name": ("name", fields.text),
        "role": ("role", fields.text),
        "ownerId": ("owner_id", fields.line),
        "monthlyBudget": ("monthly_budget", fields.money),
        "perActionLimit": ("per_action_limit", fields.money_or_null),
        "autoResume": ("auto_resume", fields.flag),
        "status": ("status", lambda name: fields.choice(name, ("active", "paused"))),
        "pausedReason": ("paused_reason", fields.line),
    }
    changes = {to: read(name) for name, (to, read) in readers.items() if name in fields}
    if "paused_reason" in changes and changes.get("status") != "paused":
        fields.note("pausedReason", "goes with the status paused")
    fields.done()
    try:
        agent = await sidecar.ledger.change_agent(agent.id, changes)
    except ManagedField as error:
        raise Refused(409, "managed_by_policy", str(error)) from error
    return answer(agent_json(sidecar.ledger, agent))


async def archive(sidecar: Sidecar, request: Request) -> Response:
    """204. Its actions stay; its keys and its id are no longer known."""
    agent = agent_of(sidecar, request)
    try:
        await sidecar.ledger.change_agent(agent.id, {"archived": True})
    except ManagedField as error:
        raise Refused(409, "managed_by_policy", "The policy file has this agent: remove it there.") from error
    return Response(status_code=204)


def agent_of(sidecar: Sidecar, request: Request) -> Agent:
    """The agent of the path. Raises Refused: 403 another's, 404."""
    agent_id = request.path_params["id"]
    own(request, agent_id)
    agent = sidecar.ledger.agent(agent_id)
    if agent is None or agent.archived:
        raise Refused(404, "not_found", "No agent has this id.")
    return agent
