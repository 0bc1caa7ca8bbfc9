"""One agent: its month, where it spends, what it may, what is open and what it did last."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route

from policy.match import limits_for
from policy.model import MONTHLY_BUDGET, Limit, Policy
from proxy.dashboard.agents import forecast_of
from proxy.dashboard.editing import Entered, changes_of, entered_of
from proxy.dashboard.frame import Pages, Shown
from proxy.dashboard.money import bar
from proxy.dashboard.plots import burn, daily
from proxy.dashboard.rendering import days_back, segment
from proxy.ledger.port import ActionFilter, Agent, Ledger
from proxy.state import Sidecar

ACTIONS_SHOWN = 20
OPEN_SHOWN = 20
TARGETS_SHOWN = 12
TREND_DAYS = 30
_LABEL_MAX = 44  # characters of a target that stand above its bar on a phone

_HOUR_MS = 3_600_000

# What becomes of an agent's keys when another is made, by the form's value: ms from now; None: they stay in force.
OTHERS: Final[Mapping[str, tuple[str, int | None]]] = {
    "keep": ("stay in force", None),
    "day": ("expire in 24 hours", 24 * _HOUR_MS),
    "hour": ("expire in 1 hour", _HOUR_MS),
    "now": ("expire now", 0),
}


@dataclass(frozen=True, slots=True)
class Part:
    """What the agent's actions of one kind cost; ``share`` in percent of the greatest, or of all."""

    name: str
    cost: int
    actions: int
    share: float
    start: float = 0.0

    @property
    def label(self) -> str:
        return self.name if len(self.name) <= _LABEL_MAX else f"{self.name[: _LABEL_MAX - 1]}…"


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the policy's zone: its first moment (unix ms), what it cost, and how many actions it saw."""

    start_ms: int
    cost: int
    actions: int


def routes(pages: Pages) -> list[Route]:
    return [
        Route("/agents/{agent_id}", pages.shows("agents", view), methods=["GET"]),
        Route("/agents/{agent_id}", pages.changes("agents", _edit), methods=["POST"]),
    ]


async def _edit(sidecar: Sidecar, request: Request, form: Mapping[str, str]) -> Shown | str:
    agent = agent_of(sidecar, request)
    changes, entered = changes_of(agent, form)
    if entered:
        return await show(sidecar, agent, time.time_ns() // 1_000_000, entered=entered)
    await sidecar.ledger.change_agent(agent.id, changes)
    return f"{path_of(agent)}?saved=1"


async def view(sidecar: Sidecar, request: Request, at_ms: int) -> Shown:
    return await show(sidecar, agent_of(sidecar, request), at_ms, saved=request.query_params.get("saved") == "1")


def agent_of(sidecar: Sidecar, request: Request) -> Agent:
    """The agent of the path, archived or not. Raises HTTPException (404)."""
    agent = sidecar.ledger.agent(request.path_params["agent_id"])
    if agent is None:
        raise HTTPException(404, "No agent has this id.")
    return agent


def path_of(agent: Agent) -> str:
    return f"/ui/agents/{segment(agent.id)}"


async def show(
    sidecar: Sidecar,
    agent: Agent,
    at_ms: int,
    *,
    entered: Sequence[Entered] = (),
    made: str | None = None,
    saved: bool = False,
) -> Shown:
    """Its page; with what was typed into its form and why it can't be (422), or with the key that was just made."""
    ledger, policy = sidecar.ledger, sidecar.policy_file.rules.policy
    held = [reservation for reservation in ledger.reservations() if reservation.agent_id == agent.id]
    values = {
        "agent": agent,
        **await _month(ledger, policy, agent, at_ms),
        "targets": await _targets(ledger, policy, agent, at_ms),
        "limits": _limits(policy, agent),
        "held": [(reservation, max(0, at_ms - reservation.created_at)) for reservation in held[:OPEN_SHOWN]],
        "held_count": len(held),
        "held_sum": sum(reservation.reserved for reservation in held),
        "actions": (await ledger.actions(ActionFilter(agent_id=agent.id, limit=ACTIONS_SHOWN))).items,
        "fields": entered or entered_of(agent),
        "keys": [(key, key.in_force(at_ms)) for key in agent.keys],
        "others": {name: label for name, (label, _) in OTHERS.items()},
        "made": made,
        "saved": saved,
        "policy_path": str(sidecar.settings.policy),
    }
    return Shown("agent.html", values, 422 if entered else 200)


async def _month(ledger: Ledger, policy: Policy, agent: Agent, at_ms: int) -> dict[str, Any]:
    """The charts of the month and of the last days, and every budget that counts its calls."""
    dates = days_back(at_ms, policy.zone, TREND_DAYS + 1)
    costs: dict[str, list[int]] = {day: [0, 0] for day, _ in dates}
    outcomes: dict[str, list[int]] = {name: [0, 0] for name in ("success", "failure", "denied")}
    for row in await ledger.spend(["day", "outcome"], dates[0][1], None, agent.id):
        if row["day"] not in costs:
            continue
        _add(costs[row["day"]], row)
        if row["day"] != dates[0][0]:
            _add(outcomes.setdefault(row["outcome"], [0, 0]), row)
    days = [Day(start_ms, *costs[day]) for day, start_ms in dates]
    shown = days[1:]
    bars = [bar(standing) for standing in ledger.standings(agent.id)]
    month = next((each for each in bars if each.name == MONTHLY_BUDGET), None)
    expected = forecast_of(month, [day.cost for day in shown], agent.created_at, at_ms, policy.zone) if month else None
    # A budget that is spent leads nowhere: its calls are denied.
    led_to = None if month is None or month.level == "full" else expected
    of_month = days[-date.fromisoformat(dates[-1][0]).day :]
    plotted = [(day.start_ms, day.cost) for day in of_month]
    return {
        "month": month,
        "expected_end": expected,
        "bars": bars,
        "burn": burn(month, plotted[0][0], at_ms, plotted, led_to) if month else None,
        "month_days": of_month,
        "days": shown,
        "daily": daily([(day.start_ms, day.cost) for day in shown]),
        "outcomes": _outcomes(outcomes),
    }


def _add(total: list[int], row: Mapping[str, Any]) -> None:
    total[0] += row["cost"]
    total[1] += row["actions"]


def _outcomes(found: Mapping[str, Sequence[int]]) -> list[Part]:
    """Side by side, by how many actions ended so."""
    whole = sum(actions for _, actions in found.values())
    parts, start = [], 0.0
    for name, (cost, actions) in found.items():
        share = round(actions * 100 / whole, 2) if whole else 0.0
        parts.append(Part(name, cost, actions, share, round(start, 2)))
        start += share
    return parts


async def _targets(ledger: Ledger, policy: Policy, agent: Agent, at_ms: int) -> list[Part]:
    """What cost most first, and all others as one."""
    since = days_back(at_ms, policy.zone, TREND_DAYS)[0][1]
    spent = await ledger.spend(["target"], since, None, agent.id)
    rows = sorted(spent, key=lambda row: (-row["cost"], -row["actions"]))
    kept = [(row["target"], row["cost"], row["actions"]) for row in rows[:TARGETS_SHOWN]]
    if rest := rows[TARGETS_SHOWN:]:
        name = f"{len(rest)} other{'s' if len(rest) > 1 else ''}"
        kept.append((name, sum(row["cost"] for row in rest), sum(row["actions"] for row in rest)))
    most = max([cost for _, cost, _ in kept] + [1])
    return [Part(name, cost, actions, round(max(0, cost) * 100 / most, 2)) for name, cost, actions in kept]


def _limits(policy: Policy, agent: Agent) -> list[Limit]:
    """Those that count some call of the agent's, whatever its upstream and price."""
    anywhere = [
        replace(limit, scope=replace(limit.scope, upstreams=(), prices=(), each=None)) for limit in policy.limits
    ]
    counted = limits_for(
        replace(policy, limits=tuple(anywhere)),
        agent_id=agent.id, owner_id=agent.owner_id, role=agent.role, upstream="", price=None,
    )  # fmt: skip
    names = {limit.name for limit, _ in counted}
    return [limit for limit in policy.limits if limit.name in names]
