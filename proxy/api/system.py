"""The sidecar itself: is it alive, may it be sent calls, what does it count, what is its contract."""

from __future__ import annotations

import asyncio
import json
from functools import cache
from importlib.resources import files

import yaml
from starlette.requests import Request
from starlette.responses import Response

from proxy.access import Access
from proxy.api.resource import answer
from proxy.denials import Refused
from proxy.state import Sidecar


async def healthz(sidecar: Sidecar, request: Request) -> Response:
    return answer({"status": "ok"})


async def readyz(sidecar: Sidecar, request: Request) -> Response:
    """503 while calls would be denied or cut short. A reload that failed leaves the old policy in force: still ready.

    Open to anyone, so the detail names what is wrong and quotes nothing of it.
    """
    health = sidecar.ledger.health()
    checks = {
        "ledger": health.ok,
        "policy": sidecar.policy_file.error is None,
        "draining": sidecar.draining,
    }
    detail = []
    if not health.ok:
        detail.append("the ledger can't record")
    if sidecar.policy_file.error is not None:
        detail.append("the last policy reload was refused, the policy before it is in force: see GET /api/policy")
    if sidecar.draining:
        detail.append("stopping: no new calls")
    ready = health.ok and not sidecar.draining
    return answer({"ready": ready, "checks": checks, "detail": "; ".join(detail)}, 200 if ready else 503)


async def metrics(sidecar: Sidecar, request: Request) -> Response:
    if not Access(sidecar).reads_metrics(request.headers):
        raise Refused(401, "unauthenticated", "Send the admin's or the metrics token as Authorization: Bearer.")
    text, content_type = await sidecar.metrics.render(sidecar, request.headers.get("accept", ""))
    return Response(text, headers={"content-type": content_type})


async def contract(sidecar: Sidecar, request: Request) -> Response:
    """openapi.yaml as JSON. Reading YAML is slow: once, and not in the loop."""
    return Response(await asyncio.to_thread(_contract), media_type="application/json")


@cache
def _contract() -> bytes:
    return json.dumps(yaml.safe_load(files("proxy.api").joinpath("openapi.yaml").read_bytes())).encode()
