from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from proxy.explanation import explain
from proxy.jsontext import loads

KEY = "idempotency-key"


async def adjust(api, amount=-2.5, *, headers=None, **fields):
    given = {"agentId": "painter", "amount": amount, "reason": "invoice 7"} | fields
    return await api.http.post("/api/adjustments", json=given, headers=headers)


async def test_an_adjustment_is_an_action_that_says_why(api):
    yesterday = datetime.now(UTC) - timedelta(days=1)
    answer = await adjust(api, target="openai:gpt-4o", at=yesterday.isoformat(), reason="credit, June")
    assert answer.status_code == 201
    action = answer.json()
    assert action.items() >= {
        "agentId": "painter", "actionType": "adjust", "target": "openai:gpt-4o", "cost": -2.5, "outcome": "success",
        "metadata": '{"reason":"credit, June"}', "reserved": None, "price": None,
    }.items()  # fmt: skip
    assert datetime.fromisoformat(action["createdAt"]) - yesterday < timedelta(milliseconds=1)
    shown = (await api.http.get(f"/api/actions/{action['id']}")).json()
    assert (shown["charge"]["basis"], shown["charge"]["charged"], shown["charge"]["ending"]) == (
        "adjustment", -2.5, "adjusted",
    )  # fmt: skip
    explained = explain(await api.sidecar.ledger.action(action["id"]))
    assert "charge   -$2.50: adjusted by an operator, who gave as the reason: credit, June" in explained


async def test_a_credit_is_in_balances_lists_totals_and_exports(api):
    await api.report("painter", 1)
    assert (await adjust(api)).status_code == 201
    painter = (await api.http.get("/api/agents/painter")).json()
    assert (painter["currentSpend"], painter["budgetRemaining"]) == (-1.5, 21.5)
    assert [budget["spent"] for budget in painter["budgets"]] == [-1.5, -1.5]
    assert [action["cost"] for action in painter["actions"]] == [-2.5, 1]
    assert (await api.http.get("/api/agents")).json()[0]["currentSpend"] == -1.5
    assert (await api.http.get("/api/spend")).json()["total"] == -1.5
    exported = [json.loads(line)["cost"] for line in (await api.http.get("/api/export")).text.splitlines()]
    assert exported == [1, -2.5]
    rows = csv.DictReader(io.StringIO((await api.http.get("/api/export?format=csv")).text))
    assert [(row["actionType"], row["cost"]) for row in rows] == [("api_call", "1"), ("adjust", "-2.5")]
    metrics = (await api.http.get("/metrics")).text
    assert "agent_ledger_adjusted_usd -2.5" in metrics
    assert "agent_ledger_spend_usd_total 1.0" in metrics  # a counter only grows


async def test_promise_6_an_operator_may_retry(api):
    first = await adjust(api, headers={KEY: "invoice-7"})
    again = await adjust(api, headers={KEY: "invoice-7"})
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    other = await adjust(api, -2, headers={KEY: "invoice-7"})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert (await api.http.get("/api/spend")).json()["total"] == -2.5
    assert "agent_ledger_adjusted_usd -2.5" in (await api.http.get("/metrics")).text


@pytest.mark.parametrize(
    "amount", ["-0.000000001", "0.1", "1e3", "-1e-9", "1000000000", "-1000000000.000", "-0.10", "1234567.123456789"]
)  # fmt: skip
async def test_signed_money_is_exact(api, amount):
    body = f'{{"agentId":"painter","amount":{amount},"reason":"r"}}'
    answer = await api.send("POST", "/api/adjustments", body.encode())
    assert answer.status_code == 201, answer.text
    assert loads(answer.content)["cost"] == Decimal(amount)


@pytest.mark.parametrize(
    ("amount", "status"),
    [
        ("0", 422), ("0.0", 422), ("-0", 422), ("-0.0", 422), ("1e-10", 422), ("-1e-10", 422), ("1e400", 422),
        ("-1e400", 422), ("-1000000000.000000001", 422), ("1000000001", 422), ("-1.00000000000000000000000000001", 422),
        ('"5"', 422), ("true", 422), ("null", 422), ("[]", 422), ("NaN", 400), ("-Infinity", 400),
    ],
)  # fmt: skip
async def test_hazard_28_what_is_no_amount(api, amount, status):
    body = f'{{"agentId":"painter","amount":{amount},"reason":"r"}}'
    answer = await api.send("POST", "/api/adjustments", body.encode())
    assert answer.status_code == status
    if status == 422:
        assert [problem["field"] for problem in answer.json()["error"]["fields"]] == ["amount"]
    assert (await api.http.get("/api/actions")).json()["items"] == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 1025}, "reason"),
        ({"reason": None}, "reason"),
        ({"target": "x" * 129}, "target"),
        ({"target": "a\nb"}, "target"),
        ({"at": 1700000000}, "at"),
        ({"at": "soon"}, "at"),
        ({"at": "1969-12-31"}, "at"),
        ({"at": (datetime.now(UTC) + timedelta(days=2)).isoformat()}, "at"),
        ({"agentId": 5}, "agentId"),
        ({"cost": 5}, "cost"),
        ({"outcome": "success"}, "outcome"),
    ],
)
async def test_what_is_wrong_is_named(api, fields, field):
    answer = await adjust(api, **fields)
    assert answer.status_code == 422
    assert [problem["field"] for problem in answer.json()["error"]["fields"]] == [field]


async def test_paused_and_archived_agents_are_adjusted_and_unknown_ones_are_404(api):
    agent = await api.register()
    await api.http.patch(f"/api/agents/{agent['id']}", json={"status": "paused"})
    assert (await adjust(api, agentId=agent["id"])).status_code == 201
    await api.http.delete(f"/api/agents/{agent['id']}")
    assert (await adjust(api, agentId=agent["id"])).status_code == 201
    unknown = await adjust(api, agentId="nobody")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "agent_not_found")


async def test_promise_11_an_agent_adjusts_nothing(api):
    agent = await api.register()
    given = {"agentId": agent["id"], "amount": -50, "reason": "please"}
    answer = await api.bare.post("/api/adjustments", json=given, headers={"x-ledger-key": agent["key"]})
    assert answer.status_code == 403
    reported = await api.report(agent["id"], actionType="adjust")
    assert [problem["field"] for problem in reported.json()["error"]["fields"]] == ["actionType"]
