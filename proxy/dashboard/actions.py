"""All actions, newest first: filtered, in pages, and as a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from policy.periods import Span, span
from proxy.dashboard.agents import names
from proxy.dashboard.frame import Pages, Shown
from proxy.export import export_response
from proxy.ledger.port import Action, ActionFilter, Agent, Ledger
from proxy.state import Sidecar

SHOWN = 50
AGENTS_OFFERED = 500

OUTCOMES: Final = {"": "Any outcome", "success": "Success", "failure": "Failure", "denied": "Denied"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the visitor wants to see: text as it was typed, empty for all; dates are whole days, the last one too."""

    agent: str
    outcome: str
    since: str
    until: str
    cursor: str

    @property
    def filtered(self) -> bool:
        return bool(self.agent or self.outcome or self.since or self.until)

    def query(self, **more: str) -> str:
        """The part of the url after its ?, of the same at another cursor."""
        asked = {"agent": self.agent, "outcome": self.outcome, "since": self.since, "until": self.until, **more}
        return urlencode({name: value for name, value in asked.items() if value})


def routes(pages: Pages) -> list[Route]:
    return [
        Route("/actions", pages.shows("actions", view), methods=["GET"]),
        Route("/export", _Export(pages).export, methods=["GET"]),
    ]


async def view(sidecar: Sidecar, request: Request, at_ms: int) -> Shown:
    ledger = sidecar.ledger
    asked, agents = _asked(request), ledger.agents()
    agent = _named(ledger, agents, asked.agent)
    items: Sequence[Action] = ()
    next_cursor = None
    if agent is not None or not asked.agent:
        query = _filter(asked, agent, sidecar.policy_file.rules.policy.zone)
        try:
            page = await ledger.actions(query)
        except ValueError as error:
            raise HTTPException(400, "There is no such page of actions.") from error
        items, next_cursor = page.items, page.next_cursor
    values = {
        "asked": asked,
        "agent": agent,
        "agents": agents[:AGENTS_OFFERED],
        "outcomes": OUTCOMES,
        "actions": items,
        "names": names(ledger, items),
        "next_cursor": next_cursor,
    }
    return Shown("actions.html", values)


class _Export:
    """What fits, as a file of CSV: the API's export, for whom a cookie let in."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def export(self, request: Request) -> Response:
        if self._pages.visit(request) is None:
            return RedirectResponse("/ui/sign-in", 303)
        sidecar, asked = self._pages.sidecar, _asked(request)
        agent = _named(sidecar.ledger, sidecar.ledger.agents(), asked.agent)
        if agent is None and asked.agent:
            raise HTTPException(404, "No agent has this id.")
        asked_for = _filter(asked, agent, sidecar.policy_file.rules.policy.zone)
        return await export_response(sidecar.ledger.export(asked_for), "csv")


def _asked(request: Request) -> Asked:
    query = request.query_params
    outcome = query.get("outcome", "")
    return Asked(
        agent=query.get("agent", "").strip(),
        outcome=outcome if outcome in OUTCOMES else "",
        since=_date(query.get("since", "")),
        until=_date(query.get("until", "")),
        cursor=query.get("cursor", ""),
    )


def _date(text: str) -> str:
    """The date as a date field has it; empty for what is none, or of a year that has no moments."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return ""
    return found.isoformat() if 1970 <= found.year < 9999 else ""


def _named(ledger: Ledger, agents: Sequence[Agent], text: str) -> Agent | None:
    """By id, archived or not; else the one of that name."""
    if not text or (agent := ledger.agent(text)) is not None:
        return agent if text else None
    called = [agent for agent in agents if agent.name.casefold() == text.casefold()]
    return called[0] if len(called) == 1 else None


def _filter(asked: Asked, agent: Agent | None, zone: ZoneInfo) -> ActionFilter:
    return ActionFilter(
        agent_id=agent.id if agent else None,
        outcome=asked.outcome or None,
        since=_day(asked.since, zone).start_ms if asked.since else None,
        until=_day(asked.until, zone).end_ms if asked.until else None,
        limit=SHOWN,
        cursor=asked.cursor or None,
    )


def _day(text: str, zone: ZoneInfo) -> Span:
    noon = datetime.combine(date.fromisoformat(text), time(12), zone)
    return span("day", int(noon.timestamp() * 1000), zone)
