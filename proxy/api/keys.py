"""An agent's keys: several at once, so that one rolls over while its clients move on. Only the admin handles them."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from proxy.api.agents import agent_of
from proxy.api.fields import Fields
from proxy.api.resource import answer, read_body
from proxy.api.wire import iso_or_null
from proxy.denials import Refused
from proxy.identify import digest, new_key
from proxy.ledger.port import Key, ManagedField, TooManyKeys
from proxy.state import Sidecar

RETIRE_MAX_S = 366 * 86_400


async def listed(sidecar: Sidecar, request: Request) -> Response:
    """In the order they were made; those that ended lately too, and never a key itself or its digest."""
    return answer([_key_json(key) for key in agent_of(sidecar, request).keys])


async def create(sidecar: Sidecar, request: Request) -> Response:
    """201 with the key, which is never shown again."""
    agent = agent_of(sidecar, request)
    fields = Fields(await read_body(request))
    expires_at = fields.time("expiresAt") if "expiresAt" in fields else None
    if expires_at is not None and expires_at <= time.time() * 1000:
        fields.note("expiresAt", "must be later than now")
    name = "retireOthersAfterS"
    retire_others_s = fields.whole(name, RETIRE_MAX_S) if name in fields else None
    fields.done()
    secret = new_key()
    retire_others_ms = None if retire_others_s is None else retire_others_s * 1000
    try:
        key = await sidecar.ledger.add_key(agent.id, digest(secret), expires_at, retire_others_ms)
    except TooManyKeys as error:
        raise Refused(409, "too_many_keys", str(error)) from error
    return answer(_key_json(key) | {"key": secret}, 201)


async def revoke(sidecar: Sidecar, request: Request) -> Response:
    """204: from now on it is refused everywhere; once is enough."""
    agent = agent_of(sidecar, request)
    try:
        key = await sidecar.ledger.revoke_key(agent.id, request.path_params["keyId"])
    except ManagedField as error:
        raise Refused(409, "managed_by_policy", "This key is the policy file's: change it there.") from error
    if key is None:
        raise Refused(404, "not_found", "The agent has no key of this id.")
    return Response(status_code=204)


def _key_json(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "createdAt": iso_or_null(key.created_at or None),
        "expiresAt": iso_or_null(key.expires_at),
        "active": key.in_force(int(time.time() * 1000)),
    }
