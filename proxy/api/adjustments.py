"""Adjustments: how an operator reconciles the ledger with an invoice."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from proxy.api.fields import Fields
from proxy.api.resource import answer, idempotency_of, read_body
from proxy.export import action_json
from proxy.ledger.port import Adjustment
from proxy.state import Sidecar

REASON_MAX = 1024


async def adjust(sidecar: Sidecar, request: Request) -> Response:
    """An action of its own, of type `adjust`; no budget, limit or pause judges it. 404 for an agent there never was."""
    body = await read_body(request)
    fields = Fields(body)
    adjustment = Adjustment(
        agent_id=fields.line("agentId"),
        amount=fields.signed_money("amount"),
        reason=fields.text("reason", REASON_MAX),
        target=fields.line("target") if "target" in fields else None,
        at=fields.time("at") if "at" in fields else None,
    )
    if adjustment.at is not None and not 0 <= adjustment.at <= time.time() * 1000:
        fields.note("at", "must lie between 1970 and now")
    idempotency = idempotency_of(fields, request, body)
    fields.done()
    recorded = await sidecar.ledger.adjust(adjustment, idempotency)
    assert recorded.action is not None
    response = answer(action_json(recorded.action), 201)
    if recorded.replayed:
        response.headers["idempotency-replayed"] = "true"
    else:
        sidecar.metrics.adjusted(recorded.action)
    return response
