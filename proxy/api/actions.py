"""Actions: report one, list, show with the arithmetic of its charge, export."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from policy.money import usd
from proxy.access import refusal_response
from proxy.api.fields import Fields, Query
from proxy.api.resource import answer, array, as_json, idempotency_of, own, principal_of, read_body
from proxy.api.wire import charge_json
from proxy.denials import Refused, refused
from proxy.export import FORMS, action_json, export_response
from proxy.jsontext import dumps
from proxy.ledger.port import ADJUST, ActionFilter, Agent, Call, Denial
from proxy.metrics.labels import REPORTED
from proxy.state import Sidecar

METADATA_MAX_BYTES = 16 * 1024
PAGE_MAX = 1000

_REPORTED: tuple[Literal["success", "failure"], ...] = ("success", "failure")
_OUTCOMES = ("success", "failure", "denied")


async def report(sidecar: Sidecar, request: Request) -> Response:
    """A self-reported action: decided upon as a proxied call is, with its cost as both estimate and charge.

    Refused as the decision table says; 422 for an Idempotency-Key that came with another body, 409 while its first
    call is in flight. A replayed answer is the first one again, and says so in `idempotency-replayed`.
    """
    body = await read_body(request)
    fields = Fields(body)
    call = _call(fields, sidecar.policy_file.rules.policy.hash)
    outcome = fields.choice("outcome", _REPORTED)
    idempotency = idempotency_of(fields, request, body)
    fields.done()
    own(request, call.agent_id)
    recorded = await sidecar.ledger.record(call, outcome, idempotency)
    if recorded.action is not None:
        response = answer(action_json(recorded.action), 201)
        if not recorded.replayed:
            sidecar.metrics.reported(recorded.action)
    else:
        assert recorded.denial is not None
        agent = sidecar.ledger.agent(call.agent_id)
        if idempotency is not None and agent is not None:
            # Why it was paused is not kept with the answer, and a replay is to be the first answer again.
            agent = replace(agent, paused_reason=None)
        response = refusal_response(_denied(recorded.denial, agent, call))
        if not recorded.replayed:
            sidecar.metrics.refused(recorded.denial.verdict.reason, REPORTED)
    if recorded.replayed:
        response.headers["idempotency-replayed"] = "true"
    return response


def _call(fields: Fields, policy_hash: str) -> Call:
    target, action_type = fields.line("target"), fields.line("actionType")
    if action_type == ADJUST:
        fields.note("actionType", "is an operator's: POST /api/adjustments")
    return Call(
        agent_id=fields.line("agentId"),
        action_type=action_type,
        target=target,
        upstream=target.partition(":")[0],
        price=None,
        estimate=fields.money("cost"),
        policy_hash=policy_hash,
        metadata=fields.json_text("metadata", METADATA_MAX_BYTES),
    )


def _denied(denial: Denial, agent: Agent | None, call: Call) -> Refused:
    refusal = refused(denial.verdict, agent, call.estimate, denial.action_id)
    if denial.verdict.available is not None:
        refusal.details["available"] = usd(denial.verdict.available)
    return refusal


async def listed(sidecar: Sidecar, request: Request) -> Response:
    """A page, newest first; or with `after`, what was recorded since, in that order. An agent sees its own."""
    query = Query(request.query_params)
    asked = ActionFilter(
        agent_id=query.text("agentId") or principal_of(request).agent_id,
        outcome=query.choice("outcome", _OUTCOMES),
        since=query.time("since"),
        until=query.time("until"),
        limit=query.count("limit", 100, PAGE_MAX),
        cursor=query.text("cursor", 1024),
    )
    after = query.text("after", 1024)
    if after is not None and asked.cursor is not None:
        query.note("after", "goes with no cursor")
    query.done()
    if asked.agent_id is not None:
        own(request, asked.agent_id)
    ledger = sidecar.ledger
    try:
        page = await (
            ledger.actions(asked) if after is None else ledger.recorded(asked, None if after == "now" else after)
        )
    except ValueError as error:
        query.note("cursor" if after is None else "after", str(error))
        query.done()
        raise
    items = await array(page.items, action_json)
    return as_json(f'{{"items":{items},"nextCursor":{dumps(page.next_cursor)}}}')


async def shown(sidecar: Sidecar, request: Request) -> Response:
    action = await sidecar.ledger.action(request.path_params["id"])
    if action is None or principal_of(request).agent_id not in (None, action.agent_id):
        raise Refused(404, "not_found", "No action has this id.")
    return answer(action_json(action) | {"charge": charge_json(action)})


async def export(sidecar: Sidecar, request: Request) -> Response:
    """All actions of a stretch of time, oldest first, streamed."""
    query = Query(request.query_params)
    form = query.choice("format", FORMS) or "jsonl"
    asked = ActionFilter(since=query.time("since"), until=query.time("until"))
    query.done()
    return await export_response(sidecar.ledger.export(asked), form)
