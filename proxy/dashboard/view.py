"""What the first page shows, worked out from the ledger's port: plain values, so that the template only places them."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo

from policy.decide import Standing
from policy.model import MONTHLY_BUDGET, Upstream
from policy.periods import span
from proxy.ledger.port import Action, ActionFilter, Agent, Alert, Health, Ledger
from proxy.state import Sidecar

ACTIONS_SHOWN = 20
ALERTS_SHOWN = 8
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


@dataclass(frozen=True, slots=True)
class AgentRow:
    agent: Agent
    month: Bar | None
    others: Sequence[Bar]
    in_flight: int


@dataclass(frozen=True, slots=True)
class Home:
    """The first page. ``faults`` need an operator now, ``notes`` can wait; times in unix ms, shown in ``zone``."""

    at: int
    zone: ZoneInfo
    agents: Sequence[AgentRow]
    paused: int
    month: Bar
    denied_today: int
    open_alerts: int
    actions: Sequence[Action]
    alerts: Sequence[Alert]
    names: Mapping[str, str]
    faults: Sequence[tuple[str, str]]
    notes: Sequence[str]
    journal: Health
    base_url: str
    upstream: str
    first_call: str


async def home(sidecar: Sidecar, base_url: str, at_ms: int) -> Home:
    """Raises LedgerUnavailable where the engine can't even be read."""
    ledger, policy = sidecar.ledger, sidecar.policy_file.rules.policy
    health = ledger.health()
    upstream = next((one.name for one in policy.upstreams.values() if _speaks_openai(one)), "UPSTREAM")
    in_flight = Counter(reservation.agent_id for reservation in ledger.reservations())
    rows = [_row(ledger, agent, in_flight[agent.id]) for agent in ledger.agents()]
    page = await ledger.actions(ActionFilter(limit=ACTIONS_SHOWN))
    alerts = await ledger.alerts()
    today = await ledger.spend(["outcome"], span("day", at_ms, policy.zone).start_ms, None)
    named = {action.agent_id for action in page.items} | {alert.agent_id for alert in alerts[:ALERTS_SHOWN]}
    return Home(
        at=at_ms,
        zone=policy.zone,
        agents=rows,
        paused=sum(row.agent.status == "paused" for row in rows),
        month=_total([row.month for row in rows if row.month], policy.zone),
        denied_today=sum(row["actions"] for row in today if row["outcome"] == "denied"),
        open_alerts=sum(alert.acknowledged_at is None for alert in alerts),
        actions=page.items,
        alerts=alerts[:ALERTS_SHOWN],
        names={agent.id: agent.name for agent in map(ledger.agent, filter(None, named)) if agent},
        faults=_faults(sidecar),
        notes=[*health.warnings, *sidecar.policy_file.rules.warnings],
        journal=health,
        base_url=base_url,
        upstream=upstream,
        first_call=_first_call(f"{base_url}/{upstream}", rows),
    )


def day(at_ms: int, zone: ZoneInfo) -> str:
    """A moment's date: ``Dec 1``."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone)
    return f"{at:%b} {at.day}"


def when(at_ms: int, zone: ZoneInfo, now_ms: int) -> str:
    """A moment as a person says it today: ``14:03:22``, and ``Nov 21 14:03`` on other days."""
    at, now = (datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone) for ms in (at_ms, now_ms))
    return f"{at:%H:%M:%S}" if at.date() == now.date() else f"{at:%b} {at.day} {at:%H:%M}"


def _row(ledger: Ledger, agent: Agent, in_flight: int) -> AgentRow:
    bars = [_bar(standing) for standing in ledger.standings(agent.id)]
    month = next((bar for bar in bars if bar.name == MONTHLY_BUDGET), None)
    return AgentRow(agent, month, [bar for bar in bars if bar is not month], in_flight)


def _bar(standing: Standing) -> Bar:
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


def _total(months: Sequence[Bar], zone: ZoneInfo) -> Bar:
    amount, spent, reserved = (sum(getattr(bar, field) for bar in months) for field in ("amount", "spent", "reserved"))
    return Bar(MONTHLY_BUDGET, "month", amount, spent, reserved, None, zone, shadow=False)


def _percent(part: int, whole: int) -> float:
    return max(0.0, min(100.0, part * 10_000 // whole / 100)) if whole else 100.0 * (part > 0)


def _faults(sidecar: Sidecar) -> list[tuple[str, str]]:
    """(what it means for the operator, what is known of the cause), worst first."""
    faults = []
    health = sidecar.ledger.health()
    if not health.ok:
        faults.append(("The ledger can't record: every call is denied.", health.detail))
    if sidecar.policy_file.error is not None:
        faults.append(("The policy file was refused: the one before it stays in force.", sidecar.policy_file.error))
    return faults


def _first_call(base_url: str, rows: Sequence[AgentRow]) -> str:
    """A governed call to paste into a shell, as an agent that this ledger has."""
    agent_id = next((row.agent.id for row in rows if not row.agent.keys), "YOUR_AGENT_ID")
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
