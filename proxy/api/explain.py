"""Why a call would be priced and decided as it would. Nothing is sent, held or recorded, nor the body shown again."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from policy.match import misses
from proxy.api.fields import Fields
from proxy.api.resource import BODY_MAX, answer, read_body
from proxy.api.wire import iso_or_null, rates_json, usd_or_null
from proxy.denials import sentence
from proxy.quote import Quote, quote
from proxy.request import ProxyRequest
from proxy.state import Sidecar


async def explain(sidecar: Sidecar, request: Request) -> Response:
    fields = Fields(await read_body(request))
    rules = sidecar.policy_file.rules
    name, method, path = fields.line("upstream"), fields.line("method"), fields.text("path", 8192)
    body = fields.json_text("body", BODY_MAX)
    agent_id = fields.line("agentId") if "agentId" in fields else None
    upstream = rules.policy.upstreams.get(name)
    if upstream is None:
        fields.note("upstream", f"must be one of {', '.join(rules.policy.upstreams)}")
    fields.done()
    assert upstream is not None
    asked = ProxyRequest(upstream, method, path, body.encode() if body else None, "application/json" if body else "")
    agent = sidecar.ledger.agent(agent_id) if agent_id else None
    limit = agent.per_action_limit if agent else None
    quoted = quote(rules, asked, rules.prices.candidates(name, method, path), int(time.time() * 1000), limit)
    missed = misses(rules.policy, name, method, path, quoted.body)
    return answer(
        {
            "price": quoted.price.name if quoted.price else None,
            "target": quoted.target,
            "model": quoted.model,
            "misses": [{"price": price, "reason": reason} for price, reason in missed],
            "estimate": usd_or_null(quoted.estimate),
            "usage": quoted.usage,
            "rates": rates_json(quoted.rates),
            "outputCap": quoted.output_cap,
            "decision": await _decision(sidecar, agent_id, quoted) if agent_id else None,
        }
    )


async def _decision(sidecar: Sidecar, agent_id: str, quoted: Quote) -> dict[str, Any]:
    """Raises AgentUnknown."""
    verdict = await sidecar.ledger.preview(quoted.call(agent_id, sidecar.policy_file.rules.policy.hash))
    agent = sidecar.ledger.agent(agent_id)
    return {
        "allowed": verdict is None,
        "reason": verdict.reason if verdict else None,
        "message": sentence(verdict, agent, quoted.estimate, quoted.unmetered) if verdict else None,
        "budget": verdict.budget if verdict else None,
        "available": usd_or_null(verdict.available) if verdict else None,
        "resetsAt": iso_or_null(verdict.resets_at_ms) if verdict else None,
    }
