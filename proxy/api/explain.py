"""Why a call would be priced and decided as it would. The body is not shown again."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from proxy.api.fields import Fields
from proxy.api.resource import BODY_MAX, answer, read_body
from proxy.api.wire import iso_or_null, rates_json, usd_or_null
from proxy.state import Sidecar
from proxy.whatif import Decision, asked, what_if


async def explain(sidecar: Sidecar, request: Request) -> Response:
    fields = Fields(await read_body(request))
    rules = sidecar.policy_file.rules
    upstream, method, path = fields.line("upstream"), fields.line("method"), fields.text("path", 8192)
    body = fields.json_text("body", BODY_MAX)
    agent_id = fields.line("agentId") if "agentId" in fields else None
    if upstream not in rules.policy.upstreams:
        fields.note("upstream", f"must be one of {', '.join(rules.policy.upstreams)}")
    fields.done()
    told = await what_if(sidecar, rules, asked(rules, upstream, method, path, body), agent_id)
    quoted = told.quoted
    return answer(
        {
            "price": quoted.price.name if quoted.price else None,
            "target": quoted.target,
            "model": quoted.model,
            "misses": [{"price": price, "reason": reason} for price, reason in told.missed],
            "estimate": usd_or_null(quoted.estimate),
            "usage": quoted.usage,
            "rates": rates_json(quoted.rates),
            "outputCap": quoted.output_cap,
            "decision": _decision(told.decision) if told.decision else None,
        }
    )


def _decision(decision: Decision) -> dict[str, Any]:
    verdict = decision.verdict
    return {
        "allowed": verdict is None,
        "reason": verdict.reason if verdict else None,
        "message": decision.message,
        "budget": verdict.budget if verdict else None,
        "available": usd_or_null(verdict.available) if verdict else None,
        "resetsAt": iso_or_null(verdict.resets_at_ms) if verdict else None,
    }
