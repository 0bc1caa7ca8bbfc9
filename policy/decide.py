"""The decision table: allow or deny, with the reason and the budget that bound. Pure; the ledger acts on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from policy.model import MONTHLY_BUDGET, Budget, Limit, Mode
from policy.periods import Span

Reason = Literal[
    "unauthenticated",
    "agent_not_found",
    "agent_paused",
    "unpriced",
    "per_action_limit_exceeded",
    "budget_exceeded",
    "budget_reserved",
    "rate_limited",
    "ledger_unavailable",
]

STATUS: dict[Reason, int] = {
    "unauthenticated": 401,
    "agent_not_found": 404,
    "agent_paused": 403,
    "unpriced": 403,
    "per_action_limit_exceeded": 400,
    "budget_exceeded": 403,
    "budget_reserved": 429,
    "rate_limited": 429,
    "ledger_unavailable": 503,
}
TRANSIENT: frozenset[Reason] = frozenset({"budget_reserved", "rate_limited", "ledger_unavailable"})
RETRY_AFTER_MAX_S = 60


@dataclass(frozen=True, slots=True)
class Standing:
    """One budget that matches the call, in its running period. Amounts in nano-dollars."""

    budget: Budget
    group: str
    span: Span
    spent: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Count:
    """One limit that matches the call: how many it has admitted in ``span``, or has in flight."""

    limit: Limit
    group: str
    span: Span | None
    count: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check that failed. ``resets_at_ms`` where waiting helps; ``retry_after_s`` only where it is soon."""

    reason: Reason
    budget: str | None = None
    group: str = ""
    available: int | None = None
    resets_at_ms: int | None = None
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """``denied`` is None for an allowed call; ``softened`` are the checks that shadow mode let pass."""

    denied: Verdict | None = None
    softened: tuple[Verdict, ...] = ()


def decide(
    *,
    paused: bool,
    estimate: int | None,
    per_action_limit: int | None,
    standings: Sequence[Standing],
    counts: Sequence[Count],
    mode: Mode,
    now_ms: int,
) -> Decision:
    """The first row of the table that denies, in the table's order; shadow rows are collected and passed over.

    ``estimate`` is None where no price matches and the policy denies what it can't price.
    """
    if paused:
        return Decision(Verdict("agent_paused"))
    softened: list[Verdict] = []
    shadow = mode == "shadow"
    if estimate is None:
        if not shadow:
            return Decision(Verdict("unpriced"))
        softened.append(Verdict("unpriced"))
        estimate = 0
    if per_action_limit is not None and estimate > per_action_limit:
        verdict = Verdict("per_action_limit_exceeded", available=per_action_limit)
        if not shadow:
            return Decision(verdict)
        softened.append(verdict)
    for failed, budget_mode in _over_budget(standings, estimate):
        if not (shadow or budget_mode == "shadow"):
            return Decision(failed, tuple(softened))
        softened.append(failed)
    for failed, limit_mode in _over_limit(counts, now_ms):
        if not (shadow or limit_mode == "shadow"):
            return Decision(failed, tuple(softened))
        softened.append(failed)
    return Decision(None, tuple(softened))


def _over_budget(standings: Sequence[Standing], estimate: int) -> list[tuple[Verdict, Mode]]:
    """Exceeded budgets first, the agent's own month before the others, then those that only calls in flight fill."""
    if estimate == 0:
        return []
    exceeded: list[tuple[Verdict, Mode]] = []
    reserved: list[tuple[Verdict, Mode]] = []
    for standing in standings:
        budget = standing.budget
        if standing.spent + standing.reserved + estimate <= budget.amount:
            continue
        over = standing.spent + estimate > budget.amount
        verdict = Verdict(
            "budget_exceeded" if over else "budget_reserved",
            budget=budget.name,
            group=standing.group,
            available=max(0, budget.amount - standing.spent - standing.reserved),
            resets_at_ms=standing.span.end_ms if over and budget.period != "total" else None,
            retry_after_s=None if over else 1,
        )
        (exceeded if over else reserved).append((verdict, budget.mode))
    exceeded.sort(key=lambda found: found[0].budget != MONTHLY_BUDGET)
    return exceeded + reserved


def _over_limit(counts: Sequence[Count], now_ms: int) -> list[tuple[Verdict, Mode]]:
    failed: list[tuple[Verdict, Mode]] = []
    for count in counts:
        limit = count.limit
        most = limit.requests if limit.requests is not None else limit.concurrent
        if most is None or count.count < most:
            continue
        wait_s = 1 if count.span is None else -(-(count.span.end_ms - now_ms) // 1000)
        verdict = Verdict(
            "rate_limited",
            budget=limit.name,
            group=count.group,
            resets_at_ms=count.span.end_ms if count.span else None,
            retry_after_s=max(1, min(RETRY_AFTER_MAX_S, wait_s)),
        )
        failed.append((verdict, limit.mode))
    return failed
