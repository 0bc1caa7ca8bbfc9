"""Why a call would be priced and decided as it would. Nothing is sent, held or recorded, nor the body kept."""

from __future__ import annotations

import asyncio
import time

from msgspec import Struct

from policy.decide import Verdict
from policy.match import misses
from policy.model import Price
from proxy.denials import sentence
from proxy.ledger.port import Agent
from proxy.quote import Quote, quote
from proxy.request import ProxyRequest
from proxy.rules import Rules
from proxy.state import Sidecar


class Decision(Struct, frozen=True):
    """What `authorize` would say to an agent's call: ``verdict`` None is that it may go, ``message`` is what the agent
    would be told where it may not.
    """

    verdict: Verdict | None
    message: str | None


class WhatIf(Struct, frozen=True):
    """``missed`` are the prices passed over before the one that matches (or all), each with why. ``decision`` None: it
    was asked for no agent.
    """

    quoted: Quote
    missed: list[tuple[str, str]]
    decision: Decision | None


def asked(rules: Rules, upstream: str, method: str, path: str, body: str | None) -> ProxyRequest:
    """A call to one of the policy's upstreams; its body, if any, is JSON."""
    content = body.encode() if body else None
    return ProxyRequest(rules.policy.upstreams[upstream], method, path, content, "application/json" if body else "")


async def what_if(sidecar: Sidecar, rules: Rules, request: ProxyRequest, agent_id: str | None) -> WhatIf:
    """Raises Refused (400) for a body that the prices have to read and can't, AgentUnknown, LedgerUnavailable."""
    agent = sidecar.ledger.agent(agent_id) if agent_id else None
    candidates = rules.prices.candidates(request.upstream.name, request.method, request.path)
    # Not on the loop: a body may be large.
    quoted, missed = await asyncio.to_thread(_priced, rules, request, candidates, agent)
    if not agent_id:
        return WhatIf(quoted, missed, None)
    verdict = await sidecar.ledger.preview(quoted.call(agent_id, rules.policy.hash))
    message = sentence(verdict, agent, quoted.estimate, quoted.unmetered) if verdict else None
    return WhatIf(quoted, missed, Decision(verdict, message))


def _priced(
    rules: Rules, request: ProxyRequest, candidates: tuple[Price, ...], agent: Agent | None
) -> tuple[Quote, list[tuple[str, str]]]:
    limit = agent.per_action_limit if agent else None
    quoted = quote(rules, request, candidates, int(time.time() * 1000), limit)
    return quoted, misses(rules.policy, request.upstream.name, request.method, request.path, quoted.body)
