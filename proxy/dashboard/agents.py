"""The first page: every agent's month at a glance; and to pause and resume an agent, from any page."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.routing import Route

from policy.forecast import Forecast, forecast, pace
from policy.model import MONTHLY_BUDGET, Upstream
from policy.periods import span
from proxy.dashboard.charts import Column, columns
from proxy.dashboard.frame import Pages, Shown
from proxy.dashboard.money import Bar, bar, total
from proxy.dashboard.rendering import days_back
from proxy.ledger.port import Action, ActionFilter, Agent, Alert, Ledger
from proxy.state import Sidecar

CARDS_SHOWN = 48
ACTIONS_SHOWN = 12
ALERTS_SHOWN = 5
TREND_DAYS = 30
REASON_MAX = 200
_AT_ONCE = 20

SORTS = {"attention": "Needs attention", "name": "Name", "spent": "Spent this month", "today": "Spent today"}
STATUSES = {"": "All", "active": "Active", "paused": "Paused"}


@dataclass(frozen=True, slots=True)
class Card:
    """An agent. ``others`` are the budgets it has for itself beside its month; ``days`` is what each of the last
    TREND_DAYS cost, today's last. Amounts in nano-dollars.
    """

    agent: Agent
    month: Bar | None
    others: Sequence[Bar]
    in_flight: int
    days: Sequence[int]
    forecast: Forecast | None

    @property
    def today(self) -> int:
        return self.days[-1]

    @property
    def trend(self) -> Sequence[Column]:
        return columns(self.days)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the visitor wants to see of the agents."""

    text: str
    status: str
    sort: str
    page: int

    def query(self, page: int) -> str:
        """The part of the url after its ?, for another page of the same."""
        return urlencode({"q": self.text, "status": self.status, "sort": self.sort, "page": page})


def routes(pages: Pages) -> list[Route]:
    return [
        Route("/agents/{agent_id}/pause", pages.changes("agents", _pause), methods=["POST"]),
        Route("/agents/{agent_id}/resume", pages.changes("agents", _resume), methods=["POST"]),
    ]


async def _pause(sidecar: Sidecar, request: Request, form: Mapping[str, str]) -> None:
    changes: dict[str, str] = {"status": "paused"}
    if reason := " ".join(form.get("reason", "").split())[:REASON_MAX]:
        changes["paused_reason"] = reason
    await sidecar.ledger.change_agent(request.path_params["agent_id"], changes)


async def _resume(sidecar: Sidecar, request: Request, form: Mapping[str, str]) -> None:
    await sidecar.ledger.change_agent(request.path_params["agent_id"], {"status": "active"})


async def view(sidecar: Sidecar, request: Request, at_ms: int) -> Shown:
    """Raises LedgerUnavailable where the engine can't even be read."""
    ledger, policy = sidecar.ledger, sidecar.policy_file.rules.policy
    asked = _asked(request)
    cards, shared = await _cards(ledger, policy.zone, at_ms)
    today = await ledger.spend(["outcome"], span("day", at_ms, policy.zone).start_ms, None)
    found = sorted((card for card in cards if _matches(card, asked)), key=_ORDERS[asked.sort])
    pages = max(1, -(-len(found) // CARDS_SHOWN))
    first = (min(asked.page, pages) - 1) * CARDS_SHOWN
    base_url = f"{request.url.scheme}://{request.url.netloc}"
    upstream = next((one.name for one in policy.upstreams.values() if _speaks_openai(one)), "UPSTREAM")
    actions = (await ledger.actions(ActionFilter(limit=ACTIONS_SHOWN))).items
    alerts = await ledger.alerts(limit=ALERTS_SHOWN)
    month = total([card.month for card in cards if card.month], policy.zone)
    values = {
        "asked": asked,
        "sorts": SORTS,
        "statuses": STATUSES,
        "cards": found[first : first + CARDS_SHOWN],
        "found": len(found),
        "pages": pages,
        "page": min(asked.page, pages),
        "count": len(cards),
        "paused": sum(card.agent.status == "paused" for card in cards),
        "month": month,
        "shared": shared,
        "month_forecast": forecast_of(month, _sum([card.days for card in cards]), 0, at_ms, policy.zone),
        "today": sum(card.today for card in cards),
        "denied_today": sum(row["actions"] for row in today if row["outcome"] == "denied"),
        "actions": actions,
        "alerts": alerts,
        "names": names(ledger, actions, alerts),
        "base_url": base_url,
        "upstream": upstream,
        "first_call": _first_call(f"{base_url}/{upstream}", cards),
        "policy_path": str(sidecar.settings.policy),
    }
    return Shown("agents.html", values)


def names(ledger: Ledger, actions: Sequence[Action] = (), alerts: Sequence[Alert] = ()) -> Mapping[str, str]:
    """Of the agents that these are about, by id."""
    ids = {action.agent_id for action in actions} | {alert.agent_id for alert in alerts}
    return {agent.id: agent.name for agent in map(ledger.agent, filter(None, ids)) if agent}


async def _cards(ledger: Ledger, zone: ZoneInfo, at_ms: int) -> tuple[list[Card], list[Bar]]:
    """All agents' cards, and the budgets that several of them draw on, once each."""
    dates = days_back(at_ms, zone, TREND_DAYS)
    place = {date: number for number, (date, _) in enumerate(dates)}
    days: defaultdict[str, list[int]] = defaultdict(lambda: [0] * TREND_DAYS)
    for row in await ledger.spend(["agent", "day"], dates[0][1], None):
        if (number := place.get(row["day"])) is not None:
            days[row["agent"]][number] += row["cost"]
    in_flight = Counter(reservation.agent_id for reservation in ledger.reservations())
    cards: list[Card] = []
    shared: dict[str, Bar] = {}
    for agent in ledger.agents():
        if len(cards) % _AT_ONCE == 0:
            await asyncio.sleep(0)  # calls go first: there may be hundreds
        own = []
        for standing in ledger.standings(agent.id):
            if standing.group:
                own.append(bar(standing))
            elif standing.budget.name not in shared:
                shared[standing.budget.name] = bar(standing)
        cards.append(_card(agent, own, in_flight[agent.id], days[agent.id], at_ms, zone))
    return cards, list(shared.values())


def _card(agent: Agent, own: list[Bar], in_flight: int, days: list[int], at_ms: int, zone: ZoneInfo) -> Card:
    month = next((each for each in own if each.name == MONTHLY_BUDGET), None)
    others = [each for each in own if each is not month]
    expected = forecast_of(month, days, agent.created_at, at_ms, zone) if month else None
    return Card(agent, month, others, in_flight, days, expected)


def forecast_of(month: Bar, days: Sequence[int], since_ms: int, at_ms: int, zone: ZoneInfo) -> Forecast | None:
    """Of that month at the pace of the last week of ``days``, which began to be spent at ``since_ms``."""
    if month.resets_at is None or not days:
        return None
    per_day = pace(days, at_ms, span("day", at_ms, zone).start_ms, since_ms)
    return forecast(month.spent, month.amount, per_day, at_ms, month.resets_at)


def _sum(days: Sequence[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*days, strict=True)]


# -- what is asked for -------------------------------------------------------------------------------------------------
def _asked(request: Request) -> Asked:
    query = request.query_params
    page = query.get("page", "1")
    return Asked(
        text=query.get("q", "").strip()[:100],
        status=query.get("status", "") if query.get("status") in STATUSES else "",
        sort=query.get("sort", "") if query.get("sort") in SORTS else "attention",
        page=max(1, int(page)) if page.isascii() and page.isdigit() and len(page) < 6 else 1,
    )


def _matches(card: Card, asked: Asked) -> bool:
    agent, text = card.agent, asked.text.casefold()
    if asked.status and agent.status != asked.status:
        return False
    return any(text in field.casefold() for field in (agent.name, agent.id, agent.role, agent.owner_id))


def _used(card: Card) -> float:
    """The fullest of its budgets' share, in percent."""
    return max((each.spent_percent + each.reserved_percent for each in (card.month, *card.others) if each), default=0)


_ORDERS = {
    "attention": lambda card: (card.agent.status != "paused", -_used(card), card.agent.name.casefold()),
    "name": lambda card: card.agent.name.casefold(),
    "spent": lambda card: -card.month.spent if card.month else 0,
    "today": lambda card: -card.today,
}


# -- the first call ----------------------------------------------------------------------------------------------------
def _first_call(base_url: str, cards: Sequence[Card]) -> str:
    """A governed call to paste into a shell, as an agent that this ledger has."""
    agent_id = next((card.agent.id for card in cards if not card.agent.keys), "YOUR_AGENT_ID")
    body = {"model": "gpt-4o-mini", "max_tokens": 32, "messages": [{"role": "user", "content": "Say hello."}]}
    lines = [
        f"curl {shlex.quote(f'{base_url}/v1/chat/completions')}",
        f"  -H {shlex.quote(f'X-Agent-Id: {agent_id}')}",
        "  -H 'Content-Type: application/json'",
        f"  -d {shlex.quote(json.dumps(body))}",
    ]
    return " \\\n".join(lines)


def _speaks_openai(upstream: Upstream) -> bool:
    return upstream.url == "builtin:demo" or upstream.meter == "openai" or "api.openai.com" in upstream.url
