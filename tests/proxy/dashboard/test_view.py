from __future__ import annotations

import shlex
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from policy.decide import Standing
from policy.model import MONTHLY_BUDGET, Budget
from policy.periods import span
from proxy.dashboard.view import Bar, day, home, when
from proxy.ledger.port import Action, Agent, Alert, Key, Reservation

UTC_ZONE = ZoneInfo("UTC")
USD = 1_000_000_000
NOW = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()) * 1000
DAY = 86_400_000


def bar(amount: int, spent: int, reserved: int = 0) -> Bar:
    return Bar("b", "month", amount, spent, reserved, None, UTC_ZONE, shadow=False)


def standing(name: str, amount: int, spent: int, reserved: int = 0) -> Standing:
    return Standing(Budget(name, amount, "month", UTC_ZONE), "a", span("month", NOW, UTC_ZONE), spent, reserved)


@pytest.mark.parametrize(
    ("shown", "percents", "level", "available"),
    [
        (bar(100, 0), (0, 0), "ok", 100),
        (bar(100, 79, 21), (79, 21), "ok", 0),
        (bar(100, 80), (80, 0), "high", 20),
        (bar(100, 100), (100, 0), "full", 0),
        (bar(100, 130, 10), (100, 0), "full", -40),
        (bar(0, 0), (0, 0), "ok", 0),
        (bar(0, 1), (100, 0), "full", -1),
        (bar(100, -30, 10), (0, 10), "ok", 120),
        (bar(0, -30), (0, 0), "ok", 30),
        (bar(3 * USD, USD), (33.33, 0), "ok", 2 * USD),
    ],
)
def test_a_bar_never_leaves_its_track(shown, percents, level, available):
    assert (shown.spent_percent, shown.reserved_percent) == percents
    assert (shown.level, shown.available) == (level, available)


def test_moments_are_told_in_the_policys_zone():
    zone = ZoneInfo("Asia/Tokyo")
    assert when(NOW, zone, NOW) == "21:00:00"
    assert when(NOW + 4 * 3_600_000, zone, NOW) == "Nov 23 01:00"
    assert day(NOW + 4 * 3_600_000, zone) == "Nov 23"


async def test_totals_are_of_every_agents_month(sidecar, shelf):
    for name, status in (("a", "active"), ("b", "paused")):
        shelf.held[name] = Agent(name, name, "", "", 10 * USD, None, 0, status=status)
        shelf.standing[name] = [
            standing(MONTHLY_BUDGET, 10 * USD, 2 * USD, USD),
            standing("team", 99 * USD, 50 * USD),
        ]
    shelf.open = [Reservation("x", "a", "demo:gpt-4o", USD, NOW)]
    page = await home(sidecar, "http://here", NOW)
    assert (len(page.agents), page.paused) == (2, 1)
    assert (page.month.amount, page.month.spent, page.month.reserved) == (20 * USD, 4 * USD, 2 * USD)
    assert [row.in_flight for row in page.agents] == [1, 0]
    assert [bar.name for bar in page.agents[0].others] == ["team"]


async def test_denied_today_counts_every_denial_since_midnight(sidecar, shelf):
    shelf.rows = [
        Action("3", "a", "call", "t", 0, "denied", NOW, count=14),
        Action("2", "a", "call", "t", 5, "success", NOW),
        Action("1", "a", "call", "t", 0, "denied", NOW - DAY, count=3),
    ]
    assert (await home(sidecar, "http://here", NOW)).denied_today == 14


async def test_open_alerts_are_those_not_acknowledged(sidecar, shelf):
    shelf.raised = [Alert(str(n), None, "overrun", "m", NOW, NOW if n % 2 else None) for n in range(21)]
    page = await home(sidecar, "http://here", NOW)
    assert (page.open_alerts, len(page.alerts)) == (11, 8)


async def test_the_first_call_pastes_into_a_shell_as_an_agent_without_a_key(sidecar, shelf):
    shelf.held = {
        "keyed": Agent("keyed", "Keyed", "", "", USD, None, 0, keys=(Key("00"),)),
        "it's; rm": Agent("it's; rm", "Odd", "", "", USD, None, 0),
    }
    words = shlex.split((await home(sidecar, "http://here", NOW)).first_call.replace("\\\n", " "))
    assert words[1] == "http://here/demo/v1/chat/completions"
    assert words[3] == "X-Agent-Id: it's; rm"
