"""What a ledger shows of itself, and whether the model says the same."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from policy.decide import Standing
from proxy.ledger.port import Action, ActionFilter, Agent, Alert, Ledger, Reservation
from tests.contract.accounts import ENDLESS, Told
from tests.contract.histories import AGENTS
from tests.contract.model import Model
from tests.contract.roster import same


class Seen(NamedTuple):
    """What the ledger shows of itself after a step: the new alerts, the newest rows, and by alert and webhook what is
    not delivered, and whether it was given up."""

    agents: Sequence[Agent]
    keys: dict[str, str | None]
    balances: dict[str, dict[tuple[str, str], tuple[int, ...]]]
    reserved: list[Reservation]
    alerts: Sequence[Alert]
    rows: Sequence[Action]
    outbox: dict[tuple[str, str], bool]


async def see(ledger: Ledger, told: Sequence[Alert]) -> Seen:
    """``told`` are the alerts seen before; they are still as they were."""
    alerts = list(reversed(await ledger.alerts()))
    assert alerts[: len(told)] == told
    agents = ledger.agents()
    digests = [key.digest for agent_id in AGENTS if (agent := ledger.agent(agent_id)) for key in agent.keys]
    return Seen(
        agents,
        {digest: getattr(ledger.agent_by_key(digest), "id", None) for digest in digests},
        {agent_id: _balances(ledger.standings(agent_id)) for agent_id in AGENTS},
        list(ledger.reservations()),
        alerts[len(told) :],
        (await ledger.actions(ActionFilter(limit=10))).items,
        {(each.alert.id, each.webhook): each.next_at is None for each in ledger.deliveries()},
    )


def shows(model: Model, seen: Seen) -> None:
    """The model says the same."""
    mine = sorted((agent for agent in model.agents.values() if not agent.archived), key=lambda agent: agent.created_at)
    assert [agent.id for agent in seen.agents] == [agent.id for agent in mine]
    for agent, own in zip(seen.agents, mine, strict=True):
        same(agent, own)
    assert seen.keys == {
        key.digest: model.agent_by_key(key.digest) for each in model.agents.values() for key in each.keys
    }
    for agent_id, agent in model.agents.items():
        assert seen.balances[agent_id] == model.standings(agent)
    drafts = [held.draft for held in model.open.values()]
    assert seen.reserved == [
        Reservation(draft.id, draft.agent_id, draft.target, draft.reserved or 0, draft.created_at) for draft in drafts
    ]
    queued = [place for place in seen.outbox if place not in model.outbox]
    hooks = {alert.id: tuple(sorted(hook for of, hook in queued if of == alert.id)) for alert in seen.alerts}
    told = sorted(Told(each.type, each.agent_id, each.message, each.created_at, hooks[each.id]) for each in seen.alerts)
    expected = sorted(model.alerts)
    begun = zip(told, expected, strict=False)
    assert [each._replace(begins=each.begins[: len(other.begins)]) for each, other in begun] == expected, told
    assert len(told) == len(expected), told
    assert {place: seen.outbox[place] for place in seen.outbox if place[0] not in hooks} == model.outbox
    assert not any(seen.outbox[place] for place in queued)
    assert seen.rows == model.listed()[:10]


def _balances(standings: Sequence[Standing]) -> dict[tuple[str, str], tuple[int, ...]]:
    """As the model tells them: without the groups by call that hold nothing."""
    return {
        (each.budget.name, each.group): (
            each.span.start_ms,
            each.span.end_ms if each.budget.period != "total" else ENDLESS,
            each.budget.amount,
            each.spent,
            each.reserved,
        )
        for each in standings
        if each.budget.scope.each not in ("upstream", "price") or each.spent or each.reserved
    }


def matches(query: ActionFilter, row: Action) -> bool:
    return (
        query.agent_id in (None, row.agent_id)
        and query.outcome in (None, row.outcome)
        and (query.since is None or query.since <= row.created_at)
        and (query.until is None or row.created_at < query.until)
    )


def group_of(row: Action, groups: Sequence[str], zone: ZoneInfo) -> tuple[Any, ...]:
    at = datetime.fromtimestamp(row.created_at // 1000, UTC).astimezone(zone)
    by_time = {
        "hour": at.replace(minute=0, second=0).isoformat(timespec="minutes").replace("+00:00", "Z"),
        "day": at.strftime("%Y-%m-%d"),
        "month": at.strftime("%Y-%m"),
        "agent": row.agent_id,
    }
    return tuple(by_time[group] if group in by_time else getattr(row, group) for group in groups)
