"""A policy as the ledger reads it: which budgets and limits a call is counted against, and in which period."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple
from zoneinfo import ZoneInfo

from policy.decide import Count, Standing
from policy.match import budgets_for, limits_for
from policy.model import MONTHLY_BUDGET, Budget, Limit, Policy, Scope
from policy.periods import PeriodName, Span, span
from proxy.ledger.book import Book
from proxy.ledger.entries import Terms, dumps
from proxy.ledger.plan import Plan, plan_of
from proxy.ledger.port import Agent

_MATCHES_MAX = 4096


class Matched(NamedTuple):
    """Each with the group it is counted in."""

    budgets: tuple[tuple[Budget, str], ...]
    limits: tuple[tuple[Limit, str], ...]


class Rulebook:
    """One policy snapshot. Matches and running periods are remembered, within bounds, while they hold."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.budgets = {budget.name: budget for budget in policy.budgets}
        month = Budget(MONTHLY_BUDGET, 0, "month", policy.zone, Scope(each="agent"))
        self.terms = {budget.name: Terms(_signature(budget), budget.amount) for budget in (month, *policy.budgets)}
        self.webhooks = {webhook.name: webhook.types for webhook in policy.webhooks}
        self._month = month
        self._anywhere = [_anywhere(policy, budget) for budget in policy.budgets]
        self._matches: dict[tuple[str, str, str | None], tuple[Agent, Matched]] = {}
        self._plans: dict[tuple[str, str, str | None], Plan] = {}
        self._spans: dict[tuple[PeriodName, ZoneInfo], Span] = {}

    def plan(self, book: Book, agent: Agent, upstream: str, price: str | None, at: int) -> Plan:
        """Of such calls at that moment."""
        key = (agent.id, upstream, price)
        plan = self._plans.get(key)
        if plan is None or plan.agent is not agent or not plan.start_ms <= at < plan.end_ms:
            if len(self._plans) >= _MATCHES_MAX:
                self._plans.clear()
            matched = self.match(agent, upstream, price)
            plan = plan_of(agent, self.standings(book, matched, at), self.counts(book, matched, at))
            self._plans[key] = plan
        return plan

    def match(self, agent: Agent, upstream: str, price: str | None) -> Matched:
        """The agent's own month first, then the policy's in its order."""
        key = (agent.id, upstream, price)
        found = self._matches.get(key)
        if found is not None and found[0] is agent:  # agents are immutable: a changed one is another object
            return found[1]
        if len(self._matches) >= _MATCHES_MAX:
            self._matches.clear()
        kind = (agent.id, agent.owner_id, agent.role, upstream, price)
        matched = Matched(((self.month_of(agent), agent.id), *self.budgets_for(*kind)), self.limits_for(*kind))
        self._matches[key] = (agent, matched)
        return matched

    def budgets_for(
        self, agent_id: str, owner_id: str, role: str, upstream: str, price: str | None
    ) -> tuple[tuple[Budget, str], ...]:
        """The policy's own budgets that count such a call."""
        return budgets_for(self.policy, agent_id=agent_id, owner_id=owner_id, role=role, upstream=upstream, price=price)

    def limits_for(
        self, agent_id: str, owner_id: str, role: str, upstream: str, price: str | None
    ) -> tuple[tuple[Limit, str], ...]:
        return limits_for(self.policy, agent_id=agent_id, owner_id=owner_id, role=role, upstream=upstream, price=price)

    def opens(self, book: Book, at: int) -> dict[str, Span]:
        """The budgets whose balance is still to be opened, each with its running period."""
        return {
            name: self.span(budget.period, budget.zone, at)
            for name, budget in {MONTHLY_BUDGET: self._month, **self.budgets}.items()
            if name not in book.budgets or book.budgets[name].signature != self.terms[name].signature
        }

    def month_of(self, agent: Agent) -> Budget:
        return replace(self._month, amount=agent.monthly_budget)

    def named(self, name: str, agent: Agent) -> Budget | None:
        """The budget of that name as now in force; the month's is the agent's own."""
        return self.month_of(agent) if name == MONTHLY_BUDGET else self.budgets.get(name)

    def amount(self, name: str, agent: Agent) -> int | None:
        if name == MONTHLY_BUDGET:
            return agent.monthly_budget
        budget = self.budgets.get(name)
        return None if budget is None else budget.amount

    def span(self, period: PeriodName, zone: ZoneInfo, at: int) -> Span:
        key = (period, zone)
        found = self._spans.get(key)
        if found is None or not found.start_ms <= at < found.end_ms:
            found = self._spans[key] = span(period, at, zone)
        return found

    def standings(self, book: Book, matched: Matched, at: int) -> list[Standing]:
        return [self.standing(book, budget, group, at) for budget, group in matched.budgets]

    def standing(self, book: Book, budget: Budget, group: str, at: int) -> Standing:
        running = self.span(budget.period, budget.zone, at)
        balance = book.balances.get((budget.name, group, running.start_ms))
        if balance is None:
            return Standing(budget, group, running, 0, 0)
        return Standing(budget, group, running, balance.spent, balance.reserved)

    def counts(self, book: Book, matched: Matched, at: int) -> list[Count]:
        counts = []
        for limit, group in matched.limits:
            if limit.requests is None:
                counts.append(Count(limit, group, None, book.flying.get((limit.name, group), 0)))
            else:
                running = self.span(limit.period, self.policy.zone, at)
                count, _ = book.rates.get((limit.name, group, running.start_ms), (0, 0))
                counts.append(Count(limit, group, running, count))
        return counts

    def standings_of(self, book: Book, agent: Agent, at: int) -> list[Standing]:
        """Every budget that counts some call of the agent's: of those cut by upstream or price, the groups in use."""
        standings = [self.standing(book, self.month_of(agent), agent.id, at)]
        for budget, each, alone in self._anywhere:
            for _, group in budgets_for(
                alone, agent_id=agent.id, owner_id=agent.owner_id, role=agent.role, upstream="", price=None
            ):
                groups = [group] if each == budget.scope.each else list(self._groups(book, budget, at))
                standings += [self.standing(book, budget, each_group, at) for each_group in groups]
        return standings

    def _groups(self, book: Book, budget: Budget, at: int) -> Iterator[str]:
        start_ms = self.span(budget.period, budget.zone, at).start_ms
        return (group for name, group, start in book.balances if name == budget.name and start == start_ms)


def _anywhere(policy: Policy, budget: Budget) -> tuple[Budget, str | None, Policy]:
    """The budget, what of the agent it is cut by, and a policy of it alone that counts calls to anywhere."""
    each = budget.scope.each if budget.scope.each not in ("upstream", "price") else None
    anywhere = replace(budget, scope=replace(budget.scope, upstreams=(), prices=(), each=each))
    return budget, each, replace(policy, budgets=(anywhere,))


def _signature(budget: Budget) -> str:
    """All that decides which actions a balance adds up; amount and mode may change and keep it."""
    scope = budget.scope
    which = (scope.agents, scope.owner_ids, scope.roles, scope.upstreams, scope.prices, scope.each)
    return dumps((budget.period, budget.zone.key, *which))
