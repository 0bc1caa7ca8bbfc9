"""The alerts that a line of the journal raises, each with the key that keeps it from being raised again."""

from __future__ import annotations

from collections.abc import Sequence

from policy.alerting import (
    exceeded_message,
    failed_message,
    next_threshold,
    overrun_message,
    paused_reason,
    reached,
    threshold_message,
)
from policy.decide import Decision, Standing, Verdict
from policy.model import MONTHLY_BUDGET
from policy.periods import Span
from proxy.ledger.book import Book, threshold_key
from proxy.ledger.entries import Hold, Notice, Pause
from proxy.ledger.ids import new_id
from proxy.ledger.port import Action, Agent, Alert
from proxy.ledger.rulebook import Rulebook

HOUR_MS = 3_600_000
_DAY_MS = 24 * HOUR_MS


def notice(at: int, agent_id: str | None, kind: str, message: str, once: str | None = None, until: int = 0) -> Notice:
    return Notice(Alert(new_id("alr", at), agent_id, kind, message, at), once, until)


def of_decision(
    book: Book, agent: Agent, decision: Decision, standings: Sequence[Standing], estimate: int, at: int
) -> tuple[tuple[Notice, ...], Pause | None]:
    """A budget that denied the call, or shadow budgets that would have; the agent's own month also pauses it."""
    denied = decision.denied
    if denied is None:
        return _shadow(book, agent, decision.softened, standings, estimate, at), None
    if denied.reason != "budget_exceeded":
        return (), None
    standing = _find(standings, denied)
    if denied.budget == MONTHLY_BUDGET:
        message = _exceeded(standing, estimate, "denied and the agent paused")
        reason = paused_reason(standing.budget, standing.span, standing.spent)
        pause = Pause(agent.id, reason, standing.span.start_ms, standing.budget.amount)
        return (notice(at, agent.id, "budget_exceeded", message),), pause
    once = _exceeded_key(standing, "enforce")
    if book.raised(once, at):
        return (), None
    message = _exceeded(standing, estimate, "denied")
    return (notice(at, agent.id, "budget_exceeded", message, once, standing.span.end_ms),), None


def _shadow(
    book: Book, agent: Agent, softened: Sequence[Verdict], standings: Sequence[Standing], estimate: int, at: int
) -> tuple[Notice, ...]:
    raised = []
    for verdict in softened:
        if verdict.reason != "budget_exceeded":
            continue
        standing = _find(standings, verdict)
        once = _exceeded_key(standing, "shadow")
        if not book.raised(once, at):
            message = _exceeded(standing, estimate, "let pass (shadow)")
            raised.append(notice(at, agent.id, "budget_exceeded", message, once, standing.span.end_ms))
    return tuple(raised)


def of_ending(
    book: Book, rules: Rulebook, agent: Agent, action: Action, holds: Sequence[Hold], at: int
) -> tuple[Notice, ...]:
    """What ending the action raises: thresholds its charge brings budgets to, an overrun, a failure."""
    raised = []
    cost = action.cost
    if cost > 0:
        told_to, balances = book.told_to, book.balances
        for hold in holds:
            cell = hold[:3]
            most = told_to.get(cell)
            # Keys outlive their period: while it runs, what was told stays told.
            if most is None or balances[cell].spent + cost >= most or at >= hold[3]:
                raised += _thresholds(book, rules, agent, hold, cost, at)
    if action.reserved is not None and action.cost > action.reserved:
        once = f"overrun|{agent.id}|{action.target}"
        if not book.raised(once, at):
            message = overrun_message(agent.id, action.target, action.reserved, action.cost)
            raised.append(notice(at, agent.id, "overrun", message, once, at // _DAY_MS * _DAY_MS + _DAY_MS))
    if action.outcome == "failure":
        once = f"action_failed|{agent.id}|{action.target}"
        if not book.raised(once, at):
            message = failed_message(agent.id, action.target, action.upstream_status)
            raised.append(notice(at, agent.id, "action_failed", message, once, at // HOUR_MS * HOUR_MS + HOUR_MS))
    return tuple(raised)


def _thresholds(book: Book, rules: Rulebook, agent: Agent, hold: Hold, charge: int, at: int) -> list[Notice]:
    name, group, start_ms, end_ms = hold
    amount = rules.amount(name, agent)
    if amount is None:
        return []
    balance = book.balances.get(hold[:3])
    spent = charge if balance is None else balance.spent + charge
    raised = []
    for percent in reached(spent, amount, rules.policy.thresholds):
        once = threshold_key(name, group, start_ms, percent)
        budget = None if book.raised(once, at) else rules.named(name, agent)
        if budget is not None:
            message = threshold_message(percent, budget, group, Span(start_ms, end_ms), spent)
            # A charge may still come after the period's end: the key outlives it by a day.
            raised.append(notice(at, agent.id, "budget_threshold", message, once, end_ms + _DAY_MS))
    if balance is not None and not raised:
        book.told_to[hold[:3]] = next_threshold(spent, amount, rules.policy.thresholds)
    return raised


def _find(standings: Sequence[Standing], verdict: Verdict) -> Standing:
    return next(each for each in standings if (each.budget.name, each.group) == (verdict.budget, verdict.group))


def _exceeded(standing: Standing, estimate: int, outcome: str) -> str:
    return exceeded_message(standing.budget, standing.group, standing.span, standing.spent, estimate, outcome)


def _exceeded_key(standing: Standing, mode: str) -> str:
    budget = standing.budget
    return f"budget_exceeded|{mode}|{budget.name}|{standing.group}|{budget.period}|{standing.span.start_ms}"
