"""`budgets:` and `limits:` — what is counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args
from zoneinfo import ZoneInfo

from policy.model import MONTHLY_BUDGET, Budget, GroupKey, Limit, Scope
from policy.parse.reader import MODES, Reader
from policy.periods import PeriodName
from policy.source import Node, ScalarNode

_PERIODS: tuple[PeriodName, ...] = get_args(PeriodName)
_GROUPS: tuple[GroupKey, ...] = get_args(GroupKey)
_BUDGET_KEYS = ("name", "each", "match", "amount", "period", "timezone", "mode")
_LIMIT_KEYS = ("name", "each", "match", "requests", "period", "concurrent", "mode")


@dataclass(frozen=True, slots=True)
class ScopeContext:
    """The names that a scope can refer to."""

    agents: Mapping[str, ScalarNode]
    upstreams: Mapping[str, ScalarNode]
    prices: Mapping[str, ScalarNode]


def read_budgets(reader: Reader, node: Node | None, context: ScopeContext, zone: ZoneInfo) -> tuple[Budget, ...]:
    """``zone`` is the policy's own, for budgets that state none."""
    names: dict[str, ScalarNode] = {}
    return tuple(_budget(reader, item, context, zone, names) for item in reader.items(node, "budgets"))


def _budget(reader: Reader, node: Node, context: ScopeContext, zone: ZoneInfo, names: dict[str, ScalarNode]) -> Budget:
    fields = reader.fields(node, "a budget", _BUDGET_KEYS, required=("name", "amount", "period"))
    name = reader.unique(names, fields.get("name"), "budget")
    if name == MONTHLY_BUDGET:
        reader.note(fields["name"], "reserved-name", "this is the name of the budget that every agent has anyway")
    return Budget(
        name=name,
        amount=reader.usd(fields.get("amount")),
        period=reader.choice(fields.get("period"), _PERIODS, "month"),
        zone=reader.zone(fields.get("timezone"), zone),
        scope=_scope(reader, fields, context),
        mode=reader.choice(fields.get("mode"), MODES, "enforce"),
    )


def read_limits(reader: Reader, node: Node | None, context: ScopeContext) -> tuple[Limit, ...]:
    names: dict[str, ScalarNode] = {}
    return tuple(_limit(reader, item, context, names) for item in reader.items(node, "limits"))


def _limit(reader: Reader, node: Node, context: ScopeContext, names: dict[str, ScalarNode]) -> Limit:
    fields = reader.fields(node, "a limit", _LIMIT_KEYS, required=("name",))
    stated = fields.keys() & {"requests", "period", "concurrent"}
    if fields and stated not in ({"requests", "period"}, {"concurrent"}):
        reader.note(node, "limit-kind", "a limit says either requests and period, or concurrent")
    return Limit(
        name=reader.unique(names, fields.get("name"), "limit"),
        requests=reader.count(fields["requests"]) if "requests" in fields else None,
        concurrent=reader.count(fields["concurrent"]) if "concurrent" in fields else None,
        period=reader.choice(fields.get("period"), _PERIODS, "minute"),
        scope=_scope(reader, fields, context),
        mode=reader.choice(fields.get("mode"), MODES, "enforce"),
    )


def _scope(reader: Reader, fields: Mapping[str, Node], context: ScopeContext) -> Scope:
    match = reader.fields(fields["match"], "match", _GROUPS) if "match" in fields else {}
    each = reader.choice(fields["each"], _GROUPS, "agent") if "each" in fields else None
    return Scope(
        agents=reader.references(match.get("agent"), context.agents, "agent"),
        owner_ids=_texts(reader, match.get("owner_id"), "an owner's id"),
        roles=_texts(reader, match.get("role"), "a role"),
        upstreams=reader.references(match.get("upstream"), context.upstreams, "upstream"),
        prices=reader.references(match.get("price"), context.prices, "price"),
        each=each,
    )


def _texts(reader: Reader, node: Node | None, what: str) -> tuple[str, ...]:
    return tuple(reader.text(item) for item in reader.one_or_many(node, what))
