"""The decision table as a table: one row a call, with its exact result; far more refusals than admissions."""

from __future__ import annotations

from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.decide import RETRY_AFTER_MAX_S, STATUS, TRANSIENT, Count, Decision, Reason, Standing, Verdict, decide
from policy.model import MONTHLY_BUDGET, Budget, Limit
from policy.periods import Span

NOW_MS = 1_000_000
DAY = Span(0, 86_400_000)
UTC = ZoneInfo("UTC")


def standing(told: str) -> Standing:
    """``day 60+30/100``: spent 60, reserved 30, of 100. ``~`` before the name: a shadow budget; ``total``: no end."""
    name, _, amounts = told.partition(" ")
    held, _, amount = amounts.partition("/")
    spent, _, reserved = held.partition("+")
    mode = "shadow" if name.startswith("~") else "enforce"
    name = name.removeprefix("~")
    period = "total" if name == "total" else "day"
    budget = Budget(MONTHLY_BUDGET if name == "month" else name, int(amount), period, UTC, mode=mode)
    return Standing(budget, "g", DAY, int(spent), int(reserved or 0))


def count(told: str) -> Count:
    """``burst 5/5 ends 30000``: 5 of 5 calls in a minute that has 30,000 ms left. Without an end: calls in flight."""
    name, _, rest = told.partition(" ")
    counted, _, end = rest.partition(" ends ")
    so_far, _, most = counted.partition("/")
    mode = "shadow" if name.startswith("~") else "enforce"
    name = name.removeprefix("~")
    if end:
        limit = Limit(name, requests=int(most), mode=mode)
        return Count(limit, "g", Span(0, NOW_MS + int(end)), int(so_far))
    return Count(Limit(name, concurrent=int(most), mode=mode), "g", None, int(so_far))


def shown(verdict: Verdict | None) -> str:
    if verdict is None:
        return "allow"
    parts = [verdict.reason, verdict.budget or "", "" if verdict.available is None else f"has {verdict.available}"]
    parts.append("" if verdict.resets_at_ms is None else f"till {verdict.resets_at_ms}")
    parts.append("" if verdict.retry_after_s is None else f"retry {verdict.retry_after_s}")
    return " ".join(part for part in parts if part)


def result(decision: Decision) -> str:
    softened = "; ".join(map(shown, decision.softened))
    return shown(decision.denied) + (f" | {softened}" if softened else "")


# agent, estimate (- : no price), per-action limit (- : none), budgets, limits, mode → result | what shadow let pass
TABLE = """
active | 10 | -   | -                                | -                       | enforce | allow
active | 10 | 10  | -                                | -                       | enforce | allow
active | 10 | 10  | month 90+0/100                   | -                       | enforce | allow
active | 10 | 10  | month 60+30/100, day 0+0/10      | burst 4/5 ends 30000    | enforce | allow
active | 0  | 0   | month 100+0/100                  | -                       | enforce | allow
active | 0  | 5   | month 500+70/100, day 1+0/0      | -                       | enforce | allow
active | 0  | -   | month 100+0/100                  | burst 5/5 ends 30000    | enforce | rate_limited burst till 1030000 retry 30
paused | 10 | -   | -                                | -                       | enforce | agent_paused
paused | 0  | -   | -                                | -                       | enforce | agent_paused
paused | -  | 5   | month 100+0/100                  | burst 5/5 ends 30000    | enforce | agent_paused
active | -  | -   | -                                | -                       | enforce | unpriced
active | -  | 5   | month 100+0/100                  | burst 5/5 ends 30000    | enforce | unpriced
active | 11 | 10  | -                                | -                       | enforce | per_action_limit_exceeded has 10
active | 1  | 0   | -                                | -                       | enforce | per_action_limit_exceeded has 0
active | 11 | 10  | month 100+0/100                  | burst 5/5 ends 30000    | enforce | per_action_limit_exceeded has 10
active | 11 | -   | month 90+0/100                   | -                       | enforce | budget_exceeded monthly_budget has 10 till 86400000
active | 1  | -   | month 100+0/100                  | -                       | enforce | budget_exceeded monthly_budget has 0 till 86400000
active | 1  | -   | month 140+0/100                  | -                       | enforce | budget_exceeded monthly_budget has 0 till 86400000
active | 1  | -   | month 0+0/0                      | -                       | enforce | budget_exceeded monthly_budget has 0 till 86400000
active | 11 | -   | month 90+10/100                  | -                       | enforce | budget_exceeded monthly_budget has 0 till 86400000
active | 11 | -   | total 90+5/100                   | -                       | enforce | budget_exceeded total has 5
active | 11 | -   | total 80+15/100                  | -                       | enforce | budget_reserved total has 5 retry 1
active | 10 | -   | month 60+31/100                  | -                       | enforce | budget_reserved monthly_budget has 9 retry 1
active | 10 | -   | month 0+100/100                  | -                       | enforce | budget_reserved monthly_budget has 0 retry 1
active | 10 | -   | month 0+0/100, day 95+0/100      | -                       | enforce | budget_exceeded day has 5 till 86400000
active | 10 | -   | day 95+0/100, month 99+0/100     | -                       | enforce | budget_exceeded monthly_budget has 1 till 86400000
active | 10 | -   | day 95+0/100, week 99+0/100      | -                       | enforce | budget_exceeded day has 5 till 86400000
active | 10 | -   | day 0+95/100, month 99+0/100     | -                       | enforce | budget_exceeded monthly_budget has 1 till 86400000
active | 10 | -   | month 0+95/100, day 99+0/100     | -                       | enforce | budget_exceeded day has 1 till 86400000
active | 10 | -   | month 0+95/100, day 0+99/100     | -                       | enforce | budget_reserved monthly_budget has 5 retry 1
active | 10 | -   | month 95+0/100                   | burst 5/5 ends 30000    | enforce | budget_exceeded monthly_budget has 5 till 86400000
active | 10 | -   | month 0+95/100                   | burst 5/5 ends 30000    | enforce | budget_reserved monthly_budget has 5 retry 1
active | 10 | -   | -                                | burst 5/5 ends 30000    | enforce | rate_limited burst till 1030000 retry 30
active | 10 | -   | -                                | burst 9/5 ends 30000    | enforce | rate_limited burst till 1030000 retry 30
active | 10 | -   | -                                | burst 0/0 ends 30000    | enforce | rate_limited burst till 1030000 retry 30
active | 10 | -   | -                                | burst 5/5 ends 30001    | enforce | rate_limited burst till 1030001 retry 31
active | 10 | -   | -                                | burst 5/5 ends 3600000  | enforce | rate_limited burst till 4600000 retry 60
active | 10 | -   | -                                | burst 5/5 ends 1        | enforce | rate_limited burst till 1000001 retry 1
active | 10 | -   | -                                | burst 5/5 ends -5       | enforce | rate_limited burst till 999995 retry 1
active | 10 | -   | -                                | parallel 16/16          | enforce | rate_limited parallel retry 1
active | 10 | -   | -                                | a 1/2 ends 9000, b 3/3  | enforce | rate_limited b retry 1
active | 10 | -   | -                                | a 2/2 ends 9000, b 3/3  | enforce | rate_limited a till 1009000 retry 9
active | 10 | -   | ~day 95+0/100                    | -                       | enforce | allow | budget_exceeded day has 5 till 86400000
active | 10 | -   | ~day 0+95/100                    | -                       | enforce | allow | budget_reserved day has 5 retry 1
active | 10 | -   | ~day 95+0/100, month 95+0/100    | -                       | enforce | budget_exceeded monthly_budget has 5 till 86400000
active | 10 | -   | ~day 95+0/100, week 99+0/100     | -                       | enforce | budget_exceeded week has 1 till 86400000 | budget_exceeded day has 5 till 86400000
active | 10 | -   | ~day 95+0/100, week 0+99/100     | -                       | enforce | budget_reserved week has 1 retry 1 | budget_exceeded day has 5 till 86400000
active | 10 | -   | ~day 95+0/100                    | parallel 1/1            | enforce | rate_limited parallel retry 1 | budget_exceeded day has 5 till 86400000
active | 10 | -   | -                                | ~parallel 1/1           | enforce | allow | rate_limited parallel retry 1
active | 10 | -   | -                                | ~a 1/1, b 2/2           | enforce | rate_limited b retry 1 | rate_limited a retry 1
paused | 10 | -   | ~day 95+0/100                    | ~parallel 1/1           | shadow  | agent_paused
active | -  | 5   | month 100+0/100                  | -                       | shadow  | allow | unpriced
active | 11 | 10  | -                                | -                       | shadow  | allow | per_action_limit_exceeded has 10
active | 11 | 10  | month 95+0/100                   | parallel 1/1            | shadow  | allow | per_action_limit_exceeded has 10; budget_exceeded monthly_budget has 5 till 86400000; rate_limited parallel retry 1
active | 10 | -   | day 0+95/100, month 95+0/100     | -                       | shadow  | allow | budget_exceeded monthly_budget has 5 till 86400000; budget_reserved day has 5 retry 1
active | 10 | 10  | month 0+0/100                    | parallel 0/1            | shadow  | allow
"""  # noqa: E501
ROWS = [[cell.strip() for cell in line.split("|", 6)] for line in TABLE.strip().splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=[" ".join(" ".join(row[:6]).split()) for row in ROWS])
def test_the_decision_table(row):
    agent, estimate, per_action_limit, budgets, limits, mode, expected = row
    decision = decide(
        paused=agent == "paused",
        estimate=None if estimate == "-" else int(estimate),
        per_action_limit=None if per_action_limit == "-" else int(per_action_limit),
        standings=[] if budgets == "-" else [standing(told) for told in budgets.split(", ")],
        counts=[] if limits == "-" else [count(told) for told in limits.split(", ")],
        mode=mode,
        now_ms=NOW_MS,
    )
    assert result(decision) == expected


def test_each_reason_has_the_status_the_design_gives_it():
    assert STATUS == {
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
    assert set(STATUS) == set(get_args(Reason))
    assert {"budget_reserved", "rate_limited", "ledger_unavailable"} == TRANSIENT


AMOUNTS = st.integers(0, 100)
STANDINGS = st.lists(
    st.builds(
        lambda name, amount, spent, reserved, mode: Standing(
            Budget(name, amount, "day", UTC, mode=mode), "", DAY, spent, reserved
        ),
        st.sampled_from([MONTHLY_BUDGET, "day", "week"]),
        AMOUNTS,
        AMOUNTS,
        AMOUNTS,
        st.sampled_from(["enforce", "shadow"]),
    ),
    max_size=4,
)
COUNTS = st.lists(
    st.builds(
        lambda most, so_far, mode: Count(Limit("burst", requests=most, mode=mode), "", DAY, so_far),
        st.integers(0, 5),
        st.integers(0, 5),
        st.sampled_from(["enforce", "shadow"]),
    ),
    max_size=3,
)


@given(AMOUNTS, STANDINGS, COUNTS)
def test_promise_1_what_is_admitted_fits_every_enforced_budget_and_what_fits_is_admitted(estimate, standings, counts):
    decision = decide(
        paused=False, estimate=estimate, per_action_limit=None, standings=standings, counts=counts, mode="enforce",
        now_ms=NOW_MS,
    )  # fmt: skip
    fits = estimate == 0 or all(
        each.spent + each.reserved + estimate <= each.budget.amount
        for each in standings
        if each.budget.mode == "enforce"
    )
    within = all(each.count < each.limit.requests for each in counts if each.limit.mode == "enforce")
    assert (decision.denied is None) == (fits and within)


@given(AMOUNTS, STANDINGS, COUNTS)
def test_only_what_may_soon_pass_is_to_be_retried(estimate, standings, counts):
    for mode in ("enforce", "shadow"):
        decision = decide(
            paused=False, estimate=estimate, per_action_limit=50, standings=standings, counts=counts, mode=mode,
            now_ms=NOW_MS,
        )  # fmt: skip
        verdicts = [*decision.softened, *([decision.denied] if decision.denied else [])]
        for verdict in verdicts:
            assert (verdict.retry_after_s is not None) == (verdict.reason in TRANSIENT)
            assert verdict.retry_after_s is None or 1 <= verdict.retry_after_s <= RETRY_AFTER_MAX_S
            assert verdict.available is None or verdict.available >= 0
