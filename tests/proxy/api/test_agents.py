from __future__ import annotations

import re
from decimal import Decimal

import pytest

from proxy.identify import digest
from proxy.jsontext import loads


async def test_register(api):
    answer = await api.http.post(
        "/api/agents",
        json={
            "name": "My Agent",
            "role": "Tasks",
            "ownerId": "user_123",
            "monthlyBudget": 100.5,
            "perActionLimit": None,
        },
    )
    assert answer.status_code == 201
    agent = loads(answer.content)
    assert answer.headers["location"] == f"/api/agents/{agent['id']}"
    assert agent["monthlyBudget"] == agent["budgetRemaining"] == Decimal("100.5")
    assert agent["perActionLimit"] is None
    assert agent["status"] == "active"
    assert agent["currentSpend"] == agent["reserved"] == 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", agent["createdAt"])


async def test_promise_10_the_key_is_shown_once_and_stored_as_its_digest(api):
    created = await api.register()
    stored = api.sidecar.ledger.agent(created["id"])
    assert [key.digest for key in stored.keys] == [digest(created["key"])]
    for path in ("/api/agents", f"/api/agents/{created['id']}", "/api/policy", "/api/alerts", "/api/export"):
        assert created["key"] not in (await api.http.get(path)).text
    for file in (api.policy.parent / "data").rglob("*"):
        assert not file.is_file() or created["key"].encode() not in file.read_bytes()


@pytest.mark.parametrize(
    "amount", ["0.05", "100", "0.000000001", "999999999.999999999", "1e2", "0.1", "0", "1000000000"]
)
async def test_money_round_trips_exactly(api, amount):
    body = f'{{"name":"a","role":"b","ownerId":"c","monthlyBudget":{amount},"perActionLimit":{amount}}}'
    answer = await api.send("POST", "/api/agents", body.encode())
    assert answer.status_code == 201
    shown = re.search(r'"monthlyBudget":([^,]+),"perActionLimit":([^,]+),', answer.text)
    assert Decimal(shown[1]) == Decimal(shown[2]) == Decimal(amount)
    assert "e" not in shown[1].lower()


async def test_every_problem_is_told_at_once(api):
    answer = await api.http.post(
        "/api/agents", json={"name": 5, "role": "", "monthlyBudget": -1, "perActionLimit": "5", "perActionLimt": 5}
    )
    assert answer.status_code == 422
    assert answer.headers["x-should-retry"] == "false"
    error = answer.json()["error"]
    assert error["code"] == "invalid"
    assert {problem["field"]: problem["message"] for problem in error["fields"]} == {
        "name": "must be a string",
        "role": "must have 1 to 128 characters",
        "ownerId": "missing",
        "monthlyBudget": "an amount of USD must not be negative",
        "perActionLimit": "must be a number of USD",
        "perActionLimt": "unknown",
    }
    assert [agent["id"] for agent in (await api.http.get("/api/agents")).json()] == ["painter"]


async def test_list_and_show(api):
    first = await api.register(name="First")
    await api.register(name="Second")
    assert [agent["name"] for agent in (await api.http.get("/api/agents")).json()] == ["Painter", "First", "Second"]
    for number in range(52):
        await api.report(first["id"], 0.25, metadata=str(number))
    shown = (await api.http.get(f"/api/agents/{first['id']}")).json()
    assert [action["metadata"] for action in shown["actions"]] == [str(number) for number in range(51, 1, -1)]
    assert (shown["currentSpend"], shown["budgetRemaining"]) == (13, 87)
    budgets = {budget["name"]: budget for budget in shown["budgets"]}
    assert list(budgets) == ["monthly_budget", "everyone-day"]
    assert budgets["everyone-day"]["available"] == 37
    assert budgets["everyone-day"]["resetsAt"].endswith("T00:00:00.000Z")


async def test_unknown_agents_are_404(api):
    for method in ("GET", "PATCH", "DELETE"):
        answer = await api.http.request(method, "/api/agents/nobody", json={} if method == "PATCH" else None)
        assert answer.status_code == 404, method
        assert answer.json()["error"]["code"] == "not_found"


async def test_pause_and_resume(api):
    agent = await api.register()
    path = f"/api/agents/{agent['id']}"
    paused = await api.http.patch(path, json={"status": "paused"})
    assert paused.status_code == 200
    assert paused.json()["status"] == "paused"
    denied = await api.report(agent["id"])
    assert denied.status_code == 403
    assert denied.json()["error"]["code"] == "agent_paused"
    resumed = (await api.http.patch(path, json={"status": "active"})).json()
    assert (resumed["status"], resumed["pausedReason"]) == ("active", None)
    assert (await api.report(agent["id"])).status_code == 201


async def test_change_what_is_named_and_nothing_else(api):
    agent = await api.register(perActionLimit=5)
    path = f"/api/agents/{agent['id']}"
    changes = {
        "name": "New",
        "role": "R",
        "ownerId": "o",
        "monthlyBudget": 7,
        "perActionLimit": None,
        "autoResume": True,
    }
    changed = (await api.http.patch(path, json=changes)).json()
    assert changed.items() >= changes.items()
    assert changed["id"] == agent["id"]
    again = (await api.http.patch(path, json={"perActionLimit": 2})).json()
    assert again == changed | {"perActionLimit": 2}
    assert (await api.http.patch(path, json={})).json() == again


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "archived"},
        {"status": None},
        {"autoResume": "yes"},
        {"monthlyBudget": None},
        {"currentSpend": 0},
        {"key": "alk_mine"},
        {"id": "other"},
    ],
)
async def test_changes_that_are_refused_change_nothing(api, changes):
    agent = await api.register()
    answer = await api.http.patch(f"/api/agents/{agent['id']}", json={"name": "New", **changes})
    assert answer.status_code == 422
    assert [problem["field"] for problem in answer.json()["error"]["fields"]] == list(changes)
    assert api.sidecar.ledger.agent(agent["id"]).name == "Bot"


async def test_what_the_policy_file_manages_is_409(api):
    answer = await api.http.patch("/api/agents/painter", json={"monthlyBudget": 999})
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert error["code"] == "managed_by_policy"
    assert "monthly_budget" in error["message"]
    assert (await api.http.get("/api/agents/painter")).json()["monthlyBudget"] == 20
    assert (await api.http.delete("/api/agents/painter")).status_code == 409
    # Its status is the operator's all the same.
    assert (await api.http.patch("/api/agents/painter", json={"status": "paused"})).json()["status"] == "paused"


async def test_archive_keeps_the_actions(api):
    agent = await api.register()
    await api.report(agent["id"])
    answer = await api.http.delete(f"/api/agents/{agent['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await api.http.get(f"/api/agents/{agent['id']}")).status_code == 404
    assert agent["id"] not in (await api.http.get("/api/agents")).text
    assert (await api.report(agent["id"])).status_code == 404
    with_key = await api.bare.get("/api/actions", headers={"x-ledger-key": agent["key"]})
    assert with_key.status_code == 401
    kept = (await api.http.get("/api/actions", params={"agentId": agent["id"]})).json()["items"]
    assert [action["cost"] for action in kept] == [0.05]


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a\r\nset-cookie: x=1", "\u202eevil", "日本語 🤖"])
async def test_hazard_32_names_are_data(api, name):
    agent = await api.register(name=name)
    answer = await api.http.get(f"/api/agents/{agent['id']}")
    assert answer.json()["name"] == name
    assert answer.headers["content-type"] == "application/json"
    assert answer.text.isascii()
    assert not any(name in value for value in answer.headers.values())


async def test_a_pause_may_say_why(api):
    changes = {"status": "paused", "pausedReason": "invoice is late"}
    assert (await api.http.patch("/api/agents/painter", json=changes)).json()["pausedReason"] == "invoice is late"
    assert "(invoice is late)" in (await api.report("painter")).json()["error"]["message"]
    assert (await api.http.patch("/api/agents/painter", json={"status": "active"})).json()["pausedReason"] is None
    for wrong in ({"pausedReason": "x"}, {"status": "active", "pausedReason": "x"}, changes | {"pausedReason": "a\nb"}):
        assert (await api.http.patch("/api/agents/painter", json=wrong)).status_code == 422
