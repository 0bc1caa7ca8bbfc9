from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.alerting import (
    exceeded_message,
    failed_message,
    name,
    next_threshold,
    overrun_message,
    paused_reason,
    reached,
    threshold_message,
)
from policy.model import Budget
from policy.periods import PeriodName, span

USD = 10**9
BERLIN = ZoneInfo("Europe/Berlin")
AT = 1_793_577_600_000  # 2026-11-02T00:00Z


@pytest.mark.parametrize(
    ("spent", "amount", "expected"),
    [
        (0, 100, ()),
        (49, 100, ()),
        (50, 100, (50,)),
        (79, 100, (50,)),
        (80, 100, (50, 80)),
        (99, 100, (50, 80)),
        (100, 100, (50, 80, 100)),
        (10**30, 100, (50, 80, 100)),
        (-5, 100, ()),
        (1, 3, ()),
        (2, 3, (50,)),
        (0, 0, ()),
        (1, 0, (50, 80, 100)),
    ],
)
def test_thresholds_are_reached_exactly(spent: int, amount: int, expected: tuple[int, ...]) -> None:
    assert reached(spent, amount, (50, 80, 100)) == expected


def test_no_thresholds() -> None:
    assert reached(100, 100, ()) == ()
    assert next_threshold(100, 100, ()) > 10**30


@given(st.integers(-100, 1100), st.integers(0, 1000), st.sets(st.integers(1, 100), max_size=3).map(sorted))
def test_the_next_threshold_is_the_least_amount_that_reaches_more(spent: int, amount: int, asked: list[int]) -> None:
    following = next_threshold(spent, amount, asked)
    assert following > spent
    assert reached(min(following - 1, 1100), amount, asked) == reached(spent, amount, asked)
    if following <= 1100:
        assert len(reached(following, amount, asked)) > len(reached(spent, amount, asked))


@pytest.mark.parametrize(
    ("period", "zone", "expected"),
    [
        ("minute", BERLIN, " in the minute from 2026-11-02 00:00"),
        ("hour", BERLIN, " in the hour from 2026-11-02 00:00"),
        ("day", BERLIN, " in the day from 2026-11-02"),
        ("week", ZoneInfo("America/New_York"), " in the week from 2026-10-26"),
        ("month", BERLIN, " in the month from 2026-11-01"),
        ("year", BERLIN, " in the year from 2026-01-01"),
        ("total", BERLIN, " in total"),
    ],
)
def test_a_message_names_amounts_budget_and_period(period: PeriodName, zone: ZoneInfo, expected: str) -> None:
    budget = Budget("cap", 25 * USD, period, zone)
    told = threshold_message(80, budget, "", span(period, AT, zone), 20 * USD)
    assert told == f"budget cap reached 80%: $20.00 of $25.00 spent{expected}"


def test_messages_of_the_other_alerts() -> None:
    budget = Budget("cap", USD, "day", BERLIN)
    running = span("day", AT, BERLIN)
    assert name(budget, "a") == "budget cap (a)"
    assert exceeded_message(budget, "a", running, USD // 2, USD, "denied") == (
        "budget cap (a) exceeded: $0.50 of $1.00 spent in the day from 2026-11-02; a call of $1.00 was denied"
    )
    assert "would have been exceeded (shadow)" in exceeded_message(budget, "", running, 0, USD, "let pass (shadow)")
    assert paused_reason(budget, running, 1) == (
        "budget_exceeded: cap, $0.000000001 of $1.00 spent in the day from 2026-11-02"
    )
    assert overrun_message("a", "x:y", USD, 3 * USD) == "a: x:y cost $3.00, $2.00 above its reservation of $1.00"
    assert failed_message("a", "x:y", 500) == "a: x:y failed (status 500)"
    assert failed_message("a", "x:y", None) == "a: x:y failed"
