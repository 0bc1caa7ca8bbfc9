from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from html import unescape
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from starlette.requests import Request

from policy.decide import Standing
from policy.model import MONTHLY_BUDGET, Budget
from policy.periods import span
from proxy.dashboard.agents import ALERTS_SHOWN, CARDS_SHOWN, view
from proxy.dashboard.money import Bar
from proxy.ledger.port import Action, Agent, Alert, Key, Reservation

UTC_ZONE = ZoneInfo("UTC")
USD = 1_000_000_000
NOW = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()) * 1000
DAY = 86_400_000


def bar(amount: int, spent: int, reserved: int = 0) -> Bar:
    return Bar("b", "month", amount, spent, reserved, None, UTC_ZONE, shadow=False)


def standing(name: str, amount: int, spent: int, reserved: int = 0) -> Standing:
    group = "" if name == "team" else "a"
    return Standing(Budget(name, amount, "month", UTC_ZONE), group, span("month", NOW, UTC_ZONE), spent, reserved)


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


async def seen(sidecar, query: str = "") -> dict[str, Any]:
    """The values of the page, as a browser would have asked for it."""
    scope = {
        "type": "http", "method": "GET", "path": "/", "query_string": query.encode(), "scheme": "http",
        "headers": [(b"host", b"here")], "server": ("here", 80),
    }  # fmt: skip
    return dict((await view(sidecar, Request(scope), NOW)).values)


def hold(shelf, agent_id: str, spent: int, amount: int = 10 * USD, **fields) -> None:
    shelf.held[agent_id] = Agent(agent_id, fields.pop("name", agent_id), "", "", amount, None, 0, **fields)
    shelf.standing[agent_id] = [standing(MONTHLY_BUDGET, amount, spent)]


async def test_totals_are_of_every_agents_month(sidecar, shelf):
    for name, status in (("a", "active"), ("b", "paused")):
        shelf.held[name] = Agent(name, name, "", "", 10 * USD, None, 0, status=status)
        shelf.standing[name] = [
            standing(MONTHLY_BUDGET, 10 * USD, 2 * USD, USD),
            standing("day", 9 * USD, USD),
            standing("team", 99 * USD, 50 * USD),
        ]
    shelf.open = [Reservation("x", "a", "demo:gpt-4o", USD, NOW)]
    page = await seen(sidecar, "sort=name")
    assert (page["count"], page["paused"]) == (2, 1)
    assert (page["month"].amount, page["month"].spent, page["month"].reserved) == (20 * USD, 4 * USD, 2 * USD)
    assert [card.in_flight for card in page["cards"]] == [1, 0]
    assert [bar.name for bar in page["cards"][0].others] == ["day"]
    assert [(bar.name, bar.spent) for bar in page["shared"]] == [("team", 50 * USD)]


async def test_today_is_since_midnight_and_the_trend_has_thirty_days(sidecar, shelf):
    hold(shelf, "a", 5)
    shelf.rows = [
        Action("4", "a", "call", "t", 0, "denied", NOW, count=14),
        Action("3", "a", "call", "t", 5, "success", NOW),
        Action("2", "a", "call", "t", 7, "failure", NOW - 29 * DAY),
        Action("1", "a", "call", "t", 0, "denied", NOW - DAY, count=3),
    ]
    page = await seen(sidecar)
    assert (page["denied_today"], page["today"]) == (14, 5)
    assert page["cards"][0].days == [7, *[0] * 28, 5]
    assert [column.height for column in page["cards"][0].trend if column.height] == [24, 17.14]


async def test_at_its_pace_a_budget_ends_before_its_month_or_lasts(sidecar, shelf):
    for name, amount in (("spender", 65), ("saver", 1000)):
        hold(shelf, name, 52 * USD, amount * USD)
        shelf.rows += [
            Action(f"{name}{back}", name, "call", "t", 13 * USD // 2, "success", NOW - back * DAY) for back in range(7)
        ]
    page = await seen(sidecar, "sort=name")
    saver, spender = page["cards"]
    assert spender.forecast.exhausted_at == NOW + -(-13 * DAY // 7)
    assert saver.forecast.exhausted_at is None
    assert saver.forecast.at_end == 52 * USD + 7 * USD * 17 // 2  # eight days and a half are left


async def test_an_agent_that_never_spent_has_no_date(sidecar, shelf):
    hold(shelf, "a", 0)
    (card,) = (await seen(sidecar))["cards"]
    assert (card.forecast.at_end, card.forecast.exhausted_at) == (0, None)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["paused", "full", "half", "Empty"]),
        ("sort=name", ["Empty", "full", "half", "paused"]),
        ("sort=spent", ["full", "half", "paused", "Empty"]),
        ("sort=nothing&status=nothing&page=x", ["paused", "full", "half", "Empty"]),
        ("status=paused", ["paused"]),
        ("q=EMP", ["Empty"]),
        ("q=nobody", []),
        ("page=99", ["paused", "full", "half", "Empty"]),
    ],
)
async def test_agents_are_searched_and_sorted(sidecar, shelf, query, expected):
    for name, spent, status in (("half", 5, "active"), ("Empty", 0, "active"), ("full", 10, "active")):
        hold(shelf, name, spent * USD, status=status)
    hold(shelf, "paused", USD, status="paused")
    page = await seen(sidecar, query)
    assert [card.agent.id for card in page["cards"]] == expected
    assert (page["found"], page["count"]) == (len(expected), 4)


async def test_many_agents_come_in_pages_that_keep_what_was_asked(operator, shelf):
    for number in range(CARDS_SHOWN + 1):
        hold(shelf, f"a{number:02}", 0)
    first = (await operator.get("/?q=a&sort=name")).text
    assert first.count('class="panel card') == CARDS_SHOWN
    (after,) = re.findall(r'href="(/\?[^"]*)" rel="next"', first)
    last = (await operator.get(unescape(after))).text
    assert last.count('class="panel card') == 1
    assert "Page 2 of 2" in last


async def test_an_operator_pauses_with_a_reason_and_comes_back_to_where_the_form_was(operator, shelf):
    hold(shelf, "a", 0)
    page = (await operator.get("/?q=a")).text
    fields = {name: unescape(value) for name, value in re.findall(r'name="(form_token|back)" value="([^"]*)"', page)}
    answer = await operator.post("/ui/agents/a/pause", data=fields | {"reason": "  over\r\n the   top "})
    assert answer.headers["location"] == "/?q=a"
    assert (shelf.held["a"].status, shelf.held["a"].paused_reason) == ("paused", "over the top")


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example", "/\\evil.example", "", "/a\nb"])
async def test_a_form_leads_to_no_other_site(operator, shelf, back):
    hold(shelf, "a", 0)
    token = re.search(r'name="form_token" value="(\w+)"', (await operator.get("/")).text)[1]
    answer = await operator.post("/ui/agents/a/pause", data={"form_token": token, "back": back})
    assert answer.headers["location"] == "/"


async def test_open_alerts_are_those_not_acknowledged(operator, shelf):
    shelf.raised = [Alert(str(n), None, "overrun", "m", NOW, NOW if n % 2 else None) for n in range(21)]
    page = (await operator.get("/")).text
    assert '<span class="count">11<' in page
    assert page.count('id="alert-') == ALERTS_SHOWN


async def test_the_first_call_pastes_into_a_shell_as_an_agent_without_a_key(sidecar, shelf):
    shelf.held = {
        "keyed": Agent("keyed", "Keyed", "", "", USD, None, 0, keys=(Key("00"),)),
        "it's; rm": Agent("it's; rm", "Odd", "", "", USD, None, 0),
    }
    words = shlex.split((await seen(sidecar))["first_call"].replace("\\\n", " "))
    assert words[1] == "http://here/demo/v1/chat/completions"
    assert words[3] == "X-Agent-Id: it's; rm"
