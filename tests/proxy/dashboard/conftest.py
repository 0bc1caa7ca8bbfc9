"""A ledger that holds what a test puts in it, and a real server that shows it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from policy.decide import Standing
from policy.model import Policy, Upstream
from proxy import dashboard
from proxy.access import Guard
from proxy.ledger.embedded import open_embedded
from proxy.ledger.port import (
    Action,
    ActionFilter,
    Agent,
    AgentUnknown,
    Alert,
    Delivery,
    Health,
    Ledger,
    Page,
    Reservation,
)
from proxy.metrics import Metrics
from proxy.places import Places
from proxy.server import Server
from proxy.settings import Settings
from proxy.state import Sidecar
from tests.proxy.dashboard.governed import DAY, POLICY, Clock

TOKEN = "the-admin-token"


@dataclass
class Shelf:
    """As much of the ledger's port as the dashboard may ask."""

    held: dict[str, Agent] = field(default_factory=dict)
    standing: dict[str, list[Standing]] = field(default_factory=dict)
    rows: list[Action] = field(default_factory=list)
    raised: list[Alert] = field(default_factory=list)
    open: list[Reservation] = field(default_factory=list)
    undelivered: list[Delivery] = field(default_factory=list)
    state: Health = field(default_factory=lambda: Health(True, "", 0, ""))

    def agents(self) -> Sequence[Agent]:
        return list(self.held.values())

    def agent(self, agent_id: str) -> Agent | None:
        return self.held.get(agent_id)

    def agent_by_key(self, digest: str) -> Agent | None:
        held = self.held.values()
        return next((agent for agent in held if digest in [key.digest for key in agent.keys]), None)

    def standings(self, agent_id: str) -> Sequence[Standing]:
        return self.standing.get(agent_id, [])

    def reservations(self) -> Sequence[Reservation]:
        return self.open

    async def actions(self, query: ActionFilter) -> Page:
        return Page(self.rows[: query.limit], None)

    async def alerts(
        self, agent_id: str | None = None, limit: int = 1000, *, open_only: bool = False
    ) -> Sequence[Alert]:
        found = (alert for alert in self.raised if agent_id in (None, alert.agent_id))
        return [alert for alert in found if not (open_only and alert.acknowledged_at)][:limit]

    def open_alerts(self) -> int:
        return sum(alert.acknowledged_at is None for alert in self.raised)

    def deliveries(self) -> Sequence[Delivery]:
        return self.undelivered

    async def redeliver(self, delivery_id: str) -> Delivery | None:
        for place, delivery in enumerate(self.undelivered):
            if delivery.id == delivery_id and delivery.next_at is None:
                self.undelivered[place] = replace(delivery, next_at=1)
                return self.undelivered[place]
        return None

    async def spend(
        self, group_by: Sequence[str], since: int | None, until: int | None, agent_id: str | None = None
    ) -> Sequence[Mapping[str, Any]]:
        totals: dict[tuple[str, ...], list[int]] = {}
        for row in self.rows:
            if (since is None or row.created_at >= since) and agent_id in (None, row.agent_id):
                day = datetime.fromtimestamp(row.created_at / 1000, UTC).date().isoformat()
                groups = {"agent": row.agent_id, "day": day, "outcome": row.outcome, "target": row.target}
                total = totals.setdefault(tuple(groups[group] for group in group_by), [0, 0])
                total[0] += row.cost
                total[1] += row.count
        return [
            {**dict(zip(group_by, groups, strict=True)), "cost": cost, "actions": actions}
            for groups, (cost, actions) in sorted(totals.items())
        ]

    def health(self) -> Health:
        return self.state

    async def change_agent(self, agent_id: str, changes: Mapping[str, Any]) -> Agent:
        if agent_id not in self.held:
            raise AgentUnknown("No agent has this id.")
        self.held[agent_id] = replace(self.held[agent_id], **changes)
        return self.held[agent_id]

    async def acknowledge(self, alert_id: str) -> Alert | None:
        for place, alert in enumerate(self.raised):
            if alert.id == alert_id:
                self.raised[place] = replace(alert, acknowledged_at=1)
                return self.raised[place]
        return None


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def sidecar(shelf: Shelf) -> Sidecar:
    policy = Policy(hash="p", upstreams={"demo": Upstream("demo", "builtin:demo")})
    policy_file = SimpleNamespace(rules=SimpleNamespace(policy=policy, warnings=()), error=None)
    settings = Settings(Path("policy.yaml"), Path("data"), admin_token=TOKEN)
    return Sidecar(settings, shelf, policy_file, Metrics(), Places(SimpleNamespace()))


@pytest.fixture
async def client(sidecar: Sidecar) -> AsyncIterator[httpx.AsyncClient]:
    """A browser without JavaScript: it keeps cookies, and says its Origin with every form."""
    server = Server(Guard(Starlette(routes=dashboard.routes(sidecar)), sidecar))
    url = f"http://127.0.0.1:{await server.start()}"
    async with httpx.AsyncClient(base_url=url, headers={"origin": url}) as client:
        yield client
    await server.shutdown(1.0)


@pytest.fixture
async def operator(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """The same browser, signed in."""
    answer = await client.post("/ui/sign-in", data={"token": TOKEN})
    assert answer.status_code == 303
    return client


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def ledger(sidecar: Sidecar, clock: Clock, tmp_path: Path, monkeypatch) -> AsyncIterator[Ledger]:
    """The embedded engine instead of the shelf, with a policy in force for a month; pages are of the clock's moment."""
    monkeypatch.setattr(time, "time_ns", lambda: clock.at * 1_000_000)
    sidecar.policy_file.rules.policy = POLICY
    clock.at -= 32 * DAY
    sidecar.ledger = await open_embedded(tmp_path, clock)
    await sidecar.ledger.use(POLICY)
    clock.at += 32 * DAY
    yield sidecar.ledger
    await sidecar.ledger.close()
