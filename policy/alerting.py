"""Which alerts an entry of the ledger raises, and their words. Pure; the ledger journals what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from policy.model import Budget
from policy.money import format_usd
from policy.periods import Span

_NEVER = 1 << 100


def reached(spent: int, amount: int, thresholds: Sequence[int]) -> tuple[int, ...]:
    """The thresholds (percent of ``amount``) that ``spent`` has come up to; none while nothing is spent."""
    if spent <= 0:
        return ()
    return tuple(percent for percent in thresholds if spent * 100 >= amount * percent)


def next_threshold(spent: int, amount: int, thresholds: Sequence[int]) -> int:
    """The least above ``spent`` that comes up to a threshold (nano-dollars): below it, `reached` answers the same."""
    needed = [max(1, -(-amount * percent // 100)) for percent in thresholds]
    return min([need for need in needed if need > spent], default=_NEVER)


def threshold_message(percent: int, budget: Budget, group: str, span: Span, spent: int) -> str:
    """``budget agent-day (painter) reached 80%: $20.00 of $25.00 spent in the day from 2026-11-22``."""
    return f"{name(budget, group)} reached {percent}%: {_spent(budget, span, spent)}"


def exceeded_message(budget: Budget, group: str, span: Span, spent: int, estimate: int, outcome: str) -> str:
    """``outcome`` says what followed: ``denied``, ``denied and the agent paused``, ``let pass (shadow)``."""
    verb = "would have been exceeded (shadow)" if "shadow" in outcome else "exceeded"
    call = f"a call of {format_usd(estimate)} was {outcome}"
    return f"{name(budget, group)} {verb}: {_spent(budget, span, spent)}; {call}"


def paused_reason(budget: Budget, span: Span, spent: int) -> str:
    """``budget_exceeded: monthly_budget, $98.00 of $100.00 spent in the month from 2026-11-01``."""
    return f"budget_exceeded: {budget.name}, {_spent(budget, span, spent)}"


def overrun_message(agent_id: str, target: str, reserved: int, charge: int) -> str:
    over = format_usd(charge - reserved)
    return f"{agent_id}: {target} cost {format_usd(charge)}, {over} above its reservation of {format_usd(reserved)}"


def failed_message(agent_id: str, target: str, upstream_status: int | None) -> str:
    status = f" (status {upstream_status})" if upstream_status is not None else ""
    return f"{agent_id}: {target} failed{status}"


def name(budget: Budget, group: str) -> str:
    """``budget agent-day (painter)``: the budget, and the group it is counted apart by."""
    return f"budget {budget.name} ({group})" if group else f"budget {budget.name}"


def _spent(budget: Budget, span: Span, spent: int) -> str:
    return f"{format_usd(spent)} of {format_usd(budget.amount)} spent{_when(budget, span)}"


def _when(budget: Budget, span: Span) -> str:
    if budget.period == "total":
        return " in total"
    zone = ZoneInfo("UTC") if budget.period in ("minute", "hour") else budget.zone
    form = "%Y-%m-%d %H:%M" if budget.period in ("minute", "hour") else "%Y-%m-%d"
    return f" in the {budget.period} from {datetime.fromtimestamp(span.start_ms / 1000, zone).strftime(form)}"
