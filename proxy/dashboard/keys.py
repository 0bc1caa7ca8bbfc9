"""An agent's keys: to make one, which is shown once, to let the others expire, to revoke one."""

from __future__ import annotations

import time
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from proxy.dashboard import agent
from proxy.dashboard.frame import Pages, Shown
from proxy.identify import digest, new_key
from proxy.state import Sidecar


def routes(pages: Pages) -> list[Route]:
    return [
        # The answer to the form is a page at this path, which fetches itself again while it is open.
        Route("/agents/{agent_id}/keys", pages.shows("agents", agent.view), methods=["GET"]),
        Route("/agents/{agent_id}/keys", pages.changes("agents", _make), methods=["POST"]),
        Route("/agents/{agent_id}/keys/{key_id}/revoke", pages.changes("agents", _revoke), methods=["POST"]),
    ]


async def _make(sidecar: Sidecar, request: Request, form: Mapping[str, str]) -> Shown:
    """The only page that ever has the key."""
    agent_id = agent.agent_of(sidecar, request).id
    if form.get("others") not in agent.OTHERS:
        raise HTTPException(422, "Say what becomes of the agent's other keys.")
    secret = new_key()
    await sidecar.ledger.add_key(agent_id, digest(secret), None, agent.OTHERS[form["others"]][1])
    changed = agent.agent_of(sidecar, request)
    return await agent.show(sidecar, changed, time.time_ns() // 1_000_000, made=secret)


async def _revoke(sidecar: Sidecar, request: Request, form: Mapping[str, str]) -> str:
    found = agent.agent_of(sidecar, request)
    if await sidecar.ledger.revoke_key(found.id, request.path_params["key_id"]) is None:
        raise HTTPException(404, "The agent has no key of this id.")
    return agent.path_of(found)
