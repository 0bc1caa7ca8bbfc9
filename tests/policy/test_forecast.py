from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policy.forecast import DAY_MS, Forecast, forecast, pace

HOUR = DAY_MS // 24
TODAY = 100 * DAY_MS
NOON = TODAY + 12 * HOUR
AMOUNTS = st.integers(0, 10**18)


def test_a_week_of_equal_days_is_their_pace() -> None:
    assert pace([50, 50, 10, 10, 10, 10, 10, 10, 5], NOON, TODAY, 0) == 10  # 65 in 6.5 days; what was before is past


def test_an_agent_made_yesterday_is_judged_by_its_time() -> None:
    assert pace([0] * 28 + [30, 30], NOON, TODAY, TODAY - 12 * HOUR) == 60


def test_the_first_minutes_are_taken_for_an_hour() -> None:
    assert pace([5], TODAY + 1000, TODAY, TODAY) == 5 * 24


def test_credits_make_no_negative_pace() -> None:
    assert pace([-5, 1], NOON, TODAY, 0) == 0


def test_at_its_pace_the_budget_ends_in_two_days() -> None:
    assert forecast(80, 100, 10, NOON, NOON + 10 * DAY_MS) == Forecast(180, NOON + 2 * DAY_MS)


def test_it_lasts_the_month() -> None:
    assert forecast(80, 100, 10, NOON, NOON + DAY_MS) == Forecast(90, None)
    assert forecast(0, 100, 0, NOON, NOON + DAY_MS) == Forecast(0, None)


def test_what_is_exhausted_is_so_now() -> None:
    assert forecast(100, 100, 0, NOON, NOON + DAY_MS).exhausted_at == NOON


@given(AMOUNTS, AMOUNTS, AMOUNTS, st.integers(0, 400 * DAY_MS))
def test_it_is_exhausted_before_the_end_exactly_where_more_will_be_spent(
    spent: int, amount: int, rate: int, left: int
) -> None:
    told = forecast(spent, amount, rate, NOON, NOON + left)
    assert told.at_end >= spent
    if spent < amount and told.exhausted_at is not None:
        assert NOON < told.exhausted_at < NOON + left
        assert told.at_end >= amount
    if told.at_end > amount:
        assert told.exhausted_at is not None
