from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from policy.money import NANO
from proxy.ledger.port import Call


async def test_alive_and_ready(api):
    assert (await api.bare.get("/healthz")).json() == {"status": "ok"}
    ready = await api.bare.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {
        "ready": True,
        "checks": {"ledger": True, "policy": True, "draining": False},
        "detail": "",
    }


async def test_not_ready_while_draining(api):
    api.sidecar.draining = True
    ready = await api.bare.get("/readyz")
    assert (ready.status_code, ready.json()["ready"], ready.json()["checks"]["draining"]) == (503, False, True)
    assert (await api.bare.get("/healthz")).status_code == 200


async def test_not_ready_where_the_ledger_cannot_record(api, monkeypatch):
    broken = replace(api.sidecar.ledger.health(), ok=False, detail="/data/journal: No space left on device")
    monkeypatch.setattr(type(api.sidecar.ledger), "health", lambda self: broken)
    ready = await api.bare.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["ledger"]) == (503, False)
    assert "/data" not in ready.text
    assert "agent_ledger_ledger_ok 0.0" in (await api.http.get("/metrics")).text


async def test_metrics(api):
    await api.report("painter", 0.25)
    await api.report("nobody")
    await api.bare.get("/api/agents")
    await api.sidecar.ledger.authorize(Call("painter", "api_call", "openai:gpt-4o", "openai", "deal", 2 * NANO))
    answer = await api.bare.get("/metrics", headers={"authorization": "Bearer test-metrics-token"})
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["agent_ledger_spend_usd_total",] == 0.25
    assert found["agent_ledger_denials_total", "unauthenticated"] == 1
    assert found["agent_ledger_denials_total", "agent_not_found"] == 1
    assert found["agent_ledger_reserved_usd",] == 2
    assert found["agent_ledger_journal_sequence",] > 0


@pytest.mark.parametrize(
    ("path", "status", "headers"),
    [
        ("/api/agents", 200, {}),
        ("/api/export", 200, {}),
        ("/openapi.json", 200, {}),
        ("/metrics", 200, {}),
        ("/healthz", 200, {}),
        ("/readyz", 200, {"host": "10.0.0.7"}),
        ("/api/agents", 401, {"authorization": ""}),
        ("/api/agents/nobody", 404, {}),
        ("/api/nothing", 404, {}),
        ("/api/policy/reload", 405, {}),
        ("/api/agents?x=1", 200, {}),
        ("/api/actions?x=1", 422, {}),
        ("/api/agents", 421, {"host": "evil.example"}),
        ("/api/agents", 403, {"origin": "https://evil.example"}),
    ],
)
async def test_every_answer_carries_the_security_headers(api, path, status, headers):
    answer = await api.http.get(path, headers=headers)
    assert answer.status_code == status
    assert answer.headers.items() >= {
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cache-control", "no-store"),
    }
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in answer.headers
