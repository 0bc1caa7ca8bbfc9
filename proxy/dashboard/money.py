"""Budgets as bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo

from policy.decide import Standing
from policy.model import MONTHLY_BUDGET

_HIGH_PERCENT = 80


@dataclass(frozen=True, slots=True)
class Bar:
    """A budget in its running period. Amounts in nano-dollars; ``*_percent`` of the bar's width, together ≤ 100."""

    name: str
    period: str
    amount: int
    spent: int
    reserved: int
    resets_at: int | None
    zone: ZoneInfo
    shadow: bool

    @property
    def available(self) -> int:
        """Negative where an overrun or a lowered budget left more spent than there is."""
        return self.amount - self.spent - self.reserved

    @property
    def spent_percent(self) -> float:
        return _percent(self.spent, self.amount)

    @property
    def reserved_percent(self) -> float:
        return min(_percent(self.reserved, self.amount), 100 - self.spent_percent)

    @property
    def level(self) -> Literal["ok", "high", "full"]:
        if self.spent <= 0:
            return "ok"
        if self.spent >= self.amount:
            return "full"
        return "high" if self.spent * 100 >= self.amount * _HIGH_PERCENT else "ok"


def bar(standing: Standing) -> Bar:
    budget = standing.budget
    return Bar(
        name=budget.name,
        period=budget.period,
        amount=budget.amount,
        spent=standing.spent,
        reserved=standing.reserved,
        resets_at=None if budget.period == "total" else standing.span.end_ms,
        zone=budget.zone,
        shadow=budget.mode == "shadow",
    )


def total(months: Sequence[Bar], zone: ZoneInfo) -> Bar:
    """All of them as one."""
    amount, spent, reserved = (sum(getattr(bar, field) for bar in months) for field in ("amount", "spent", "reserved"))
    resets_at = max((bar.resets_at for bar in months if bar.resets_at is not None), default=None)
    return Bar(MONTHLY_BUDGET, "month", amount, spent, reserved, resets_at, zone, shadow=False)


def _percent(part: int, whole: int) -> float:
    return max(0.0, min(100.0, part * 10_000 // whole / 100)) if whole else 100.0 * (part > 0)
