from __future__ import annotations

import pytest

from policy.money import NANO
from proxy.jsontext import dumps
from tests.proxy.api.conftest import POLICY

SECRETS = ("sk-very-secret", "alk_painter_key", "services/very-secret")


async def test_promise_10_the_policy_in_force_without_its_secrets(api):
    answer = await api.http.get("/api/policy")
    assert answer.status_code == 200
    shown = answer.json()
    assert shown["hash"] == api.sidecar.policy_file.rules.policy.hash
    assert shown["lastError"] is None
    policy = shown["policy"]
    openai, tools = policy["upstreams"]
    assert (openai["name"], openai["url"], openai["setHeaders"]) == (
        "openai",
        "https://api.openai.com",
        ["authorization"],
    )
    assert tools["meter"] == "mcp"
    [painter] = policy["agents"]
    assert (painter["id"], painter["monthlyBudget"], painter["hasKey"]) == ("painter", 20, True)
    assert policy["prices"][0]["match"]["body"] == {"model": ["gpt-4o*"]}
    assert policy["prices"][0]["rates"] == [{"from": None, "input_mtok": 2.5, "output_mtok": 10}]
    assert policy["budgets"][0].items() >= {"name": "everyone-day", "amount": 50, "period": "day"}.items()
    assert policy["alerts"]["webhooks"] == [
        {"name": "hooks.example", "host": "hooks.example", "format": "json", "types": [], "signed": False}
    ]
    for secret in SECRETS:
        assert secret not in answer.text


async def test_reload_puts_a_changed_file_in_force(api):
    before = (await api.http.get("/api/policy")).json()
    api.policy.write_text(POLICY.replace("20.00", "30.00"))
    answer = await api.http.post("/api/policy/reload")
    assert answer.status_code == 200
    assert answer.json()["hash"] != before["hash"]
    assert (await api.http.get("/api/agents/painter")).json()["monthlyBudget"] == 30
    assert (await api.http.get("/api/policy")).json()["hash"] == answer.json()["hash"]


async def test_reload_of_a_broken_file_changes_nothing_and_is_shown_until_one_succeeds(api):
    before = (await api.http.get("/api/policy")).json()
    api.policy.write_text(POLICY.replace("amount: 50.00", "amont: 50.00").replace("20.00", "99.00"))
    answer = await api.http.post("/api/policy/reload")
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert error["code"] == "policy_invalid"
    assert "policy.yaml:" in error["problems"]
    assert "amont" in error["problems"]
    for secret in SECRETS:
        assert secret not in answer.text
    after = (await api.http.get("/api/policy")).json()
    assert after["hash"] == before["hash"]
    assert "amont" in after["lastError"]
    assert (await api.http.get("/api/agents/painter")).json()["monthlyBudget"] == 20
    ready = await api.http.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["policy"]) == (200, False)
    assert "reload" in ready.json()["detail"]
    assert "amont" not in ready.text  # open to anyone: it quotes nothing
    metrics = (await api.http.get("/metrics")).text
    assert "agent_ledger_policy_reload_failures_total 1.0" in metrics
    api.policy.write_text(POLICY)
    assert (await api.http.post("/api/policy/reload")).status_code == 200
    assert (await api.http.get("/api/policy")).json()["lastError"] is None
    assert (await api.http.get("/readyz")).json()["checks"]["policy"] is True


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
async def test_reload_of_a_file_that_cannot_be_read(api, content):
    api.policy.unlink()
    if content is not None:
        api.policy.write_bytes(content)
    answer = await api.http.post("/api/policy/reload")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "policy_unreadable")
    assert (await api.http.get("/readyz")).status_code == 200


# -- explain -----------------------------------------------------------------------------------------------------------


async def explain(api, **fields):
    given = {"upstream": "openai", "method": "POST", "path": "/v1/chat/completions"}
    return await api.http.post("/api/explain", json=given | fields)


async def test_explain_a_call_that_is_allowed(api):
    body = {"model": "gpt-4o-mini", "max_tokens": 1000, "messages": [{"role": "user", "content": "a private prompt"}]}
    answer = await explain(api, body=body, agentId="painter")
    assert answer.status_code == 200
    told = answer.json()
    assert (told["price"], told["target"], told["model"]) == ("deal", "openai:gpt-4o-mini", "gpt-4o-mini")
    assert told["misses"] == []
    assert told["usage"]["output_tokens"] == 1000
    assert told["rates"] == {"input_mtok": 2.5, "output_mtok": 10}
    assert 0.01 < told["estimate"] < 0.02
    assert told["decision"] == {
        "allowed": True, "reason": None, "message": None, "budget": None, "available": None, "resetsAt": None,
    }  # fmt: skip
    assert "a private prompt" not in answer.text
    assert (await api.http.get("/api/reservations")).json() == []
    assert (await api.http.get("/api/actions")).json()["items"] == []


async def test_explain_a_call_that_is_denied(api):
    call = {"body": {"model": "gpt-4o", "max_tokens": 10_000_000}}
    denied = (await explain(api, **call, agentId="painter")).json()["decision"]
    assert (denied["allowed"], denied["reason"], denied["available"]) == (False, "budget_exceeded", 20)
    assert denied["message"].startswith("Agent Ledger: ")
    assert denied["resetsAt"]
    assert (await explain(api, **call)).json()["decision"] is None
    assert (await explain(api, **call, agentId="nobody")).status_code == 404
    assert (await api.http.get("/api/agents/painter")).json()["status"] == "active"


async def test_explain_names_the_prices_passed_over_and_why(api):
    told = (await explain(api, upstream="tools", path="/mcp", body=dumps({"method": "tools/list"}))).json()
    assert (told["price"], told["estimate"]) == (None, None)
    assert [miss["price"] for miss in told["misses"]] == ["deal", "search"]
    assert "upstream" in told["misses"][0]["reason"]
    assert "method" in told["misses"][1]["reason"]


async def test_explain_refuses_what_it_does_not_know(api):
    answer = await explain(api, upstream="opnai", method=5, query="?")
    assert answer.status_code == 422
    assert [problem["field"] for problem in answer.json()["error"]["fields"]] == ["method", "upstream", "query"]
    broken = await explain(api, body='{"model": "a", "model": "b"}')
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "invalid_json")


async def test_explain_counts_what_is_spent(api):
    await api.report("painter", 19.999)
    body = {"model": "gpt-4o", "max_tokens": 1000}
    denied = (await explain(api, body=body, agentId="painter")).json()["decision"]
    assert (denied["reason"], denied["available"]) == ("budget_exceeded", 0.001)
    assert api.sidecar.ledger.standings("painter")[0].spent == 19_999 * NANO // 1000
