"""What the API answers, as JSON-able values: camelCase, USD as exact Decimals, times in ISO 8601 of UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from policy.decide import Standing
from policy.model import AgentSpec, Rates
from policy.money import usd
from policy.pricing import Item, Quantity, charge, dump_rates, itemize, load_rates
from proxy.denials import iso
from proxy.explanation import basis, reserved_rates
from proxy.ledger.port import Action, Agent, Delivery, Ledger, Reservation


def usd_or_null(nano: int | None) -> Decimal | None:
    return None if nano is None else usd(nano)


def iso_or_null(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso(at_ms)


def rates_json(rates: Rates) -> dict[str, Any]:
    """As the policy writes them: USD by key, or ``base`` and ``tiers`` of [above this many input_tokens, USD]."""
    return {key: _numbers(written) for key, written in dump_rates(rates).items()}


def _numbers(written: Any) -> Any:
    if isinstance(written, str):
        return Decimal(written)
    return {"base": Decimal(written["base"]), "tiers": [[start, Decimal(rate)] for start, rate in written["tiers"]]}


def identity_json(agent: Agent | AgentSpec) -> dict[str, Any]:
    """Who an agent is and what it may spend: what its policy file can say of it."""
    return {
        "id": agent.id,
        "name": agent.name,
        "role": agent.role,
        "ownerId": agent.owner_id,
        "monthlyBudget": usd(agent.monthly_budget),
        "perActionLimit": usd_or_null(agent.per_action_limit),
        "autoResume": agent.auto_resume,
    }


def agent_json(ledger: Ledger, agent: Agent) -> dict[str, Any]:
    """The agent, with its own month's standing."""
    month = ledger.standings(agent.id)[0]
    return identity_json(agent) | {
        "status": agent.status,
        "pausedReason": agent.paused_reason,
        "createdAt": iso(agent.created_at),
        "currentSpend": usd(month.spent),
        "reserved": usd(month.reserved),
        "budgetRemaining": usd(max(0, agent.monthly_budget - month.spent - month.reserved)),
    }


def budgets_json(standings: Sequence[Standing]) -> list[dict[str, Any]]:
    """Every budget that counts an agent's calls, in its running period; ``available`` is never below 0."""
    return [
        {
            "name": standing.budget.name,
            "group": standing.group,
            "period": standing.budget.period,
            "mode": standing.budget.mode,
            "amount": usd(standing.budget.amount),
            "spent": usd(standing.spent),
            "reserved": usd(standing.reserved),
            "available": usd(max(0, standing.budget.amount - standing.spent - standing.reserved)),
            "resetsAt": None if standing.budget.period == "total" else iso(standing.span.end_ms),
        }
        for standing in standings
    ]


def charge_json(action: Action) -> dict[str, Any]:
    """How the charge came about: what the usage comes to, what the estimate came to, and by which of them (``basis``)
    it was ``charged``.
    """
    rates = load_rates(action.rates)
    return {
        "basis": basis(action),
        **_sum_json(rates, action.usage),
        "reserved": usd_or_null(action.reserved),
        "charged": usd(action.cost),
        "ending": action.ending,
        "estimate": _sum_json(reserved_rates(action), action.estimated) if action.estimated else None,
        "outputCap": action.output_cap,
        "price": action.price,
        "rates": rates_json(rates),
        "policyHash": action.policy_hash,
    }


def _sum_json(rates: Rates, usage: Mapping[str, Quantity]) -> dict[str, Any]:
    """The items, and their sum, rounded up once."""
    return {"items": [_item_json(item) for item in itemize(rates, usage)], "total": usd(charge(rates, usage))}


def _item_json(item: Item) -> dict[str, Any]:
    """``rate`` USD for every ``per`` units, as the rate's key in the policy says it; ``amount`` is not rounded."""
    return {
        "usage": item.usage,
        "quantity": item.quantity,
        "key": item.key,
        "rate": item.rate,
        "per": item.units,
        "amount": item.amount,
    }


def delivery_json(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "alertId": delivery.alert.id,
        "webhook": delivery.webhook,
        "attempts": delivery.attempts,
        "lastError": delivery.last_error,
        "nextAt": iso_or_null(delivery.next_at),
        "status": "dead" if delivery.next_at is None else "waiting",
    }


def reservation_json(reservation: Reservation, now_ms: int) -> dict[str, Any]:
    return {
        "actionId": reservation.action_id,
        "agentId": reservation.agent_id,
        "target": reservation.target,
        "reserved": usd(reservation.reserved),
        "createdAt": iso(reservation.created_at),
        "ageMs": max(0, now_ms - reservation.created_at),
    }
