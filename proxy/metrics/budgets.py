"""What is spent of each budget, where budgets and agents are few: each is looked up by name, nothing is walked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily, Metric

from policy.model import MONTHLY_BUDGET, Budget, Policy, Scope
from policy.money import NANO
from proxy.ledger.port import Agent, Ledger

if TYPE_CHECKING:
    from proxy.state import Sidecar

AGENTS_MAX = 200
GROUPS_MAX = 200  # of all budgets together


def budget_families(sidecar: Sidecar) -> Iterator[Metric]:
    """The agents' own months, and the policy's budgets by group, in their running periods.

    What is too many has no series at all, and is counted as left out: a part would be taken for the whole.
    """
    agents, policy = sidecar.ledger.agents(), sidecar.policy_file.rules.policy
    yield from _agents(sidecar.ledger, policy, agents)
    yield from _budgets(sidecar.ledger, policy, agents)


def _agents(ledger: Ledger, policy: Policy, agents: Sequence[Agent]) -> Iterator[Metric]:
    count = GaugeMetricFamily("agent_ledger_agents", "Agents, but for archived ones.", labels=["status"])
    by_status = Counter(agent.status for agent in agents)
    for status in ("active", "paused"):
        count.add_metric([status], by_status[status])
    yield count
    told = agents if len(agents) <= AGENTS_MAX else ()
    spent = GaugeMetricFamily("agent_ledger_agent_spent_usd", "USD it spent this month.", labels=["agent"])
    budget = GaugeMetricFamily("agent_ledger_agent_budget_usd", "Its monthly budget, USD.", labels=["agent"])
    month = Budget(MONTHLY_BUDGET, 0, "month", policy.zone, Scope(each="agent"))
    for agent in told:
        spent.add_metric([agent.id], ledger.standing(month, agent.id).spent / NANO)
        budget.add_metric([agent.id], agent.monthly_budget / NANO)
    yield from (spent, budget)
    left_out = len(agents) - len(told)
    yield GaugeMetricFamily("agent_ledger_agents_left_out", f"Agents, where more than {AGENTS_MAX}.", left_out)


def _budgets(ledger: Ledger, policy: Policy, agents: Sequence[Agent]) -> Iterator[Metric]:
    by_group = ["budget", "group"]
    amount = GaugeMetricFamily(
        "agent_ledger_budget_amount_usd", "A budget's amount, of each group.", labels=["budget", "period", "mode"]
    )
    spent = GaugeMetricFamily("agent_ledger_budget_spent_usd", "USD spent in the running period.", labels=by_group)
    reserved = GaugeMetricFamily("agent_ledger_budget_reserved_usd", "USD held for calls in flight.", labels=by_group)
    room, left_out = GROUPS_MAX, 0
    for budget in policy.budgets:
        groups = _groups(budget.scope, policy, agents)
        if len(groups) > room:
            left_out += 1
            continue
        room -= len(groups)
        amount.add_metric([budget.name, budget.period, budget.mode], budget.amount / NANO)
        for group in groups:
            standing = ledger.standing(budget, group)
            spent.add_metric([budget.name, group], standing.spent / NANO)
            reserved.add_metric([budget.name, group], standing.reserved / NANO)
    yield from (amount, spent, reserved)
    yield GaugeMetricFamily(
        "agent_ledger_budgets_left_out", f"Budgets whose groups would be more than {GROUPS_MAX} in all.", left_out
    )


def _groups(scope: Scope, policy: Policy, agents: Sequence[Agent]) -> Sequence[str]:
    """Those that such a budget may be counted in."""
    counted = (agent for agent in agents if _counts(scope, agent))
    match scope.each:
        case None:
            return ("",)
        case "agent":
            return [agent.id for agent in counted]
        case "owner_id":
            return _distinct(agent.owner_id for agent in counted)
        case "role":
            return _distinct(agent.role for agent in counted)
        case "upstream":
            return scope.upstreams or tuple(policy.upstreams)
        case "price":
            return scope.prices or [price.name for price in policy.prices]


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _counts(scope: Scope, agent: Agent) -> bool:
    return (
        (not scope.agents or agent.id in scope.agents)
        and (not scope.owner_ids or agent.owner_id in scope.owner_ids)
        and (not scope.roles or agent.role in scope.roles)
    )
