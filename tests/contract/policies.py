"""Policies for the scripts, in a few words each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

from policy.model import AgentSpec, Budget, Limit, Mode, Policy, Scope
from policy.money import parse_usd
from policy.periods import PeriodName

UTC = ZoneInfo("UTC")
STATED = frozenset({"name", "owner_id", "role", "monthly_budget"})


def agent(agent_id: str = "a", monthly: str = "100", limit: str | None = None, **other: Any) -> AgentSpec:
    other = {"name": agent_id.upper(), "owner_id": "team", "role": "work", "managed": STATED} | other
    return AgentSpec(
        agent_id,
        monthly_budget=parse_usd(monthly),
        per_action_limit=limit and parse_usd(limit),
        **other,  # type: ignore[arg-type]
    )


def budget(
    name: str, amount: str, period: PeriodName = "day", mode: Mode = "enforce", zone: ZoneInfo = UTC, **scope: Any
) -> Budget:
    return Budget(name, parse_usd(amount), period, zone, Scope(**scope), mode)


def limit(name: str, mode: Mode = "enforce", each: Any = "agent", **what: Any) -> Limit:
    return Limit(name, scope=Scope(each=each), mode=mode, **what)


def policy(*parts: AgentSpec | Budget | Limit, **other: Any) -> Policy:
    """Without an agent among ``parts``: one named a, with 100 USD a month."""
    agents = [part for part in parts if isinstance(part, AgentSpec)] or [agent()]
    made = Policy(
        "hash",
        agents={spec.id: spec for spec in agents},
        budgets=tuple(part for part in parts if isinstance(part, Budget)),
        limits=tuple(part for part in parts if isinstance(part, Limit)),
    )
    return replace(made, **other)
