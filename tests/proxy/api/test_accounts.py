from __future__ import annotations

from datetime import UTC, datetime

import pytest

from policy.money import NANO
from proxy.ledger.port import Call


async def test_alerts_newest_first_and_acknowledged_once(api):
    agent = await api.register(monthlyBudget=0.01)
    await api.report("painter", outcome="failure")
    await api.report(agent["id"])
    alerts = (await api.http.get("/api/alerts")).json()
    assert [alert["type"] for alert in alerts] == ["budget_exceeded", "action_failed"]
    of_painter = (await api.http.get("/api/alerts?agentId=painter")).json()
    assert of_painter == alerts[1:]
    acknowledged = await api.http.post(f"/api/alerts/{alerts[0]['id']}/acknowledge")
    assert acknowledged.status_code == 200
    at = acknowledged.json()["acknowledgedAt"]
    assert at is not None
    again = await api.http.post(f"/api/alerts/{alerts[0]['id']}/acknowledge")
    assert again.json()["acknowledgedAt"] == at
    assert (await api.http.get("/api/alerts")).json()[0]["acknowledgedAt"] == at
    assert (await api.http.get("/api/alerts?open=true")).json() == of_painter
    assert len((await api.http.get("/api/alerts?open=false")).json()) == 2
    assert (await api.http.get("/api/alerts?open=1")).status_code == 422
    assert (await api.http.post("/api/alerts/alr_nothing/acknowledge")).status_code == 404


async def test_spend(api):
    agent = await api.register(ownerId="o1")
    for cost in (0.1, 0.2):
        await api.report(agent["id"], cost)
    await api.report("painter", 0.4, target="tools:search")
    totals = (await api.http.get("/api/spend")).json()
    assert totals["groupBy"] == ["agent"]
    assert {row["agent"]: (row["cost"], row["actions"]) for row in totals["items"]} == {
        agent["id"]: (0.3, 2),  # exact: 0.1 + 0.2 is not 0.30000000000000004
        "painter": (0.4, 1),
    }
    assert totals["total"] == 0.7
    today = datetime.now(UTC).date().isoformat()
    totals = (await api.http.get("/api/spend?groupBy=target,day,ownerId")).json()
    assert [row | {"day": max(row["day"], today)} for row in totals["items"]] == [
        {"target": "openai:gpt-4", "day": today, "ownerId": "o1", "cost": 0.3, "actions": 2},
        {"target": "tools:search", "day": today, "ownerId": "design", "cost": 0.4, "actions": 1},
    ]
    nothing = (await api.http.get("/api/spend?until=2020-01-01")).json()
    assert (nothing["items"], nothing["total"]) == ([], 0)


async def test_spend_of_one_agent_and_of_itself(api):
    agent = await api.register()
    await api.report(agent["id"], 0.1)
    await api.report("painter", 0.4)
    own = {"authorization": f"Bearer {agent['key']}"}
    for url, headers in [(f"/api/spend?agentId={agent['id']}", {}), ("/api/spend", own)]:
        totals = (await api.http.get(url, headers=headers)).json()
        assert [(row["agent"], row["cost"]) for row in totals["items"]] == [(agent["id"], 0.1)]
        assert totals["total"] == 0.1


@pytest.mark.parametrize("query", ["groupBy=agents", "groupBy=agent,agent", "groupBy=agent,", "since=x", "by=agent"])
async def test_spend_refuses_what_it_does_not_know(api, query):
    assert (await api.http.get(f"/api/spend?{query}")).status_code == 422


async def test_open_reservations(api):
    assert (await api.http.get("/api/reservations")).json() == []
    call = Call("painter", "api_call", "openai:gpt-4o", "openai", "deal", 2 * NANO)
    admission = await api.sidecar.ledger.authorize(call)
    [open_one] = (await api.http.get("/api/reservations")).json()
    assert open_one.pop("ageMs") >= 0
    assert open_one.pop("createdAt")
    assert open_one == {
        "actionId": admission.action_id, "agentId": "painter", "target": "openai:gpt-4o", "reserved": 2,
    }  # fmt: skip
    shown = (await api.http.get("/api/agents/painter")).json()
    assert (shown["reserved"], shown["budgetRemaining"], shown["currentSpend"]) == (2, 18, 0)
