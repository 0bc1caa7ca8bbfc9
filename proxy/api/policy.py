"""The policy in force, its reload, and why a call would be priced and decided as it would."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from policy.model import AgentSpec, Budget, Limit, Match, Policy, Price, Scope, Upstream
from policy.money import usd
from policy.parse import PolicyError
from policy.words import host_of, place_of
from proxy.api.resource import answer
from proxy.api.wire import identity_json, rates_json
from proxy.denials import Refused, iso
from proxy.state import Sidecar


async def shown(sidecar: Sidecar, request: Request) -> Response:
    policy_file = sidecar.policy_file
    rules = policy_file.rules
    return answer(
        {
            "hash": rules.policy.hash,
            "loadedAt": iso(policy_file.loaded_at),
            "warnings": rules.warnings,
            "lastError": policy_file.error,
            "policy": policy_json(rules.policy),
        }
    )


async def reload(sidecar: Sidecar, request: Request) -> Response:
    """Put the file as it now is in force. 422 with its problems, as `check` prints them; the old one then stays."""
    try:
        rules = await sidecar.reload()
    except PolicyError as error:
        raise Refused(422, "policy_invalid", "The policy file has problems.", problems=error.render()) from error
    except (OSError, UnicodeError) as error:
        raise Refused(422, "policy_unreadable", "The policy file can't be read.", problems=str(error)) from error
    return answer({"hash": rules.policy.hash, "warnings": rules.warnings})


def policy_json(policy: Policy) -> dict[str, Any]:
    """All of it but what may be a secret: no header's value, no key, and of a webhook's url the host."""
    unpriced = policy.unpriced
    return {
        "defaults": {
            "unpriced": unpriced if isinstance(unpriced, str) else rates_json(unpriced),
            "mode": policy.mode,
            "timezone": str(policy.zone),
            "durability": policy.durability,
            "ledgerUnavailable": policy.ledger_unavailable,
        },
        "upstreams": [_upstream(upstream) for upstream in policy.upstreams.values()],
        "agents": [_agent(agent) for agent in policy.agents.values()],
        "prices": [_price(price) for price in policy.prices],
        "budgets": [_budget(budget) for budget in policy.budgets],
        "limits": [_limit(limit) for limit in policy.limits],
        "alerts": {
            "thresholds": [f"{percent}%" for percent in policy.thresholds],
            "webhooks": [
                {
                    "name": hook.name,
                    "host": host_of(hook),
                    "format": hook.format,
                    "types": hook.types,
                    "signed": hook.secret is not None,
                }
                for hook in policy.webhooks
            ],
        },
    }


def _upstream(upstream: Upstream) -> dict[str, Any]:
    return {
        "name": upstream.name,
        "url": place_of(upstream),
        "meter": upstream.meter,
        "catalog": upstream.catalog,
        "setHeaders": [name for name, _ in upstream.set_headers],
        "timeoutSeconds": upstream.timeout_s,
        "askUsage": upstream.ask_usage,
        "chargeErrors": upstream.charge_errors,
        "maxInFlight": upstream.max_in_flight,
        "circuitBreaker": upstream.circuit_breaker,
    }


def _agent(agent: AgentSpec) -> dict[str, Any]:
    return identity_json(agent) | {"hasKey": agent.key is not None}


def _price(price: Price) -> dict[str, Any]:
    dated = price.rates
    return {
        "name": price.name,
        "match": _match(price.match),
        "rates": dated if isinstance(dated, str) else [{"from": _date(d.from_ms)} | rates_json(d.rates) for d in dated],
        "usage": {source.unit: {source.kind: source.path} for source in price.usage},
        "estimate": {name: Decimal(q.numerator) / q.denominator for name, q in price.estimate.items()},
        "capOutput": price.cap_output,
        "model": price.model,
    }


def _date(from_ms: int) -> str | None:
    return iso(from_ms) if from_ms else None


def _match(match: Match) -> dict[str, Any]:
    return {
        "upstream": match.upstreams,
        "method": match.methods,
        "path": match.paths,
        "body": dict(match.body),
        "websocket": match.websocket,
    }


def _scope(scope: Scope) -> dict[str, Any]:
    named = {
        "agent": scope.agents,
        "ownerId": scope.owner_ids,
        "role": scope.roles,
        "upstream": scope.upstreams,
        "price": scope.prices,
    }
    return {"match": {name: values for name, values in named.items() if values}, "each": scope.each}


def _budget(budget: Budget) -> dict[str, Any]:
    return {
        "name": budget.name,
        "amount": usd(budget.amount),
        "period": budget.period,
        "timezone": str(budget.zone),
        "mode": budget.mode,
    } | _scope(budget.scope)


def _limit(limit: Limit) -> dict[str, Any]:
    return {
        "name": limit.name,
        "requests": limit.requests,
        "concurrent": limit.concurrent,
        "period": limit.period if limit.requests is not None else None,
        "mode": limit.mode,
    } | _scope(limit.scope)
