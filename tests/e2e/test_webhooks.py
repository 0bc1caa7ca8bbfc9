"""Alerts arrive: a real sidecar, killed and started again, and receivers that were down for a while."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.sidecar import Process

SECRET = "whsec_planted-signing-secret"
POLICY = """
version: 1
agents:
  - {id: AGENTS, monthly_budget: 1.00}
alerts:
  thresholds: [50%]
  webhooks:
    - {name: ops, url: "http://127.0.0.1:PORT/planted-path?k=planted-query", secret: "${env:WEBHOOK_SECRET}"}
    - {name: chat, url: "http://127.0.0.1:PORT/slack", format: slack, types: [budget_exceeded]}
"""


class Impatient(Process):
    module = "tests.proxy.notify.impatient"


class Receiver:
    """What came in, and what with ``status`` 200 was taken; ``down``, nothing listens at its port."""

    def __init__(self) -> None:
        self.refused = 0
        self.taken: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.up()

    def up(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = receiver.status
                if status == 200:
                    receiver.taken.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                else:
                    receiver.refused += 1
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@pytest.fixture
def receiver() -> Any:
    made = Receiver()
    yield made
    made.down()


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def exhaust(sidecar: Process, agent: str) -> None:
    """Its threshold, and then its month, which pauses it; then denials that tell nothing new."""
    report = {"agentId": agent, "actionType": "a", "target": "t", "outcome": "success"}
    for cost, status in ((0.60, 201), (0.60, 403), (0.60, 403)):
        assert sidecar.api.post("/api/actions", json=report | {"cost": cost}).status_code == status


def policy_for(tmp_path: Path, port: int) -> Path:
    agents = "\n".join(f"  - {{id: {name}, monthly_budget: 1.00}}" for name in ("before", "during", "after", "last"))
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.replace("  - {id: AGENTS, monthly_budget: 1.00}", agents).replace("PORT", str(port)))
    return path


def test_alerts_of_a_receivers_absence_arrive_once_each_across_a_kill_and_a_restart(
    tmp_path: Path, receiver: Receiver
) -> None:
    policy, env = policy_for(tmp_path, receiver.port), {"WEBHOOK_SECRET": SECRET}
    with Impatient(policy, tmp_path / "data", env=env) as sidecar:
        exhaust(sidecar, "before")
        until(lambda: len(receiver.taken) == 3)
        receiver.down()
        exhaust(sidecar, "during")
        until(lambda: all(each["attempts"] for each in sidecar.get("/api/deliveries")[::2]))
        waiting = sidecar.get("/api/deliveries")
        assert {(each["webhook"], each["status"], each["lastError"]) for each in waiting[::2]} == {
            ("ops", "waiting", "connection refused"),
            ("chat", "waiting", "connection refused"),
        }
        sidecar.kill()
    with Impatient(policy, tmp_path / "data", env=env) as sidecar:
        assert [each["id"] for each in sidecar.get("/api/deliveries")] == [each["id"] for each in waiting]
        exhaust(sidecar, "after")
        receiver.status = 500
        receiver.up()
        until(lambda: sidecar.get("/api/deliveries")[0]["lastError"] == "status 500")
        assert receiver.refused
        receiver.status = 200
        until(lambda: sidecar.get("/api/deliveries") == [])
        alerts = sidecar.get("/api/alerts")
        exhaust(sidecar, "last")
        until(lambda: sidecar.get("/api/deliveries") == [])
        log = sidecar.log.read_text()
        metrics = sidecar.api.get("/metrics").text.splitlines()
        shown = [sidecar.api.get(path).text for path in ("/api/policy", "/api/deliveries", "/api/alerts", "/metrics")]
    assert 'agent_ledger_alert_deliveries_total{outcome="delivered",webhook="ops"} 6.0' in metrics
    assert {"agent_ledger_alert_backlog 0.0", "agent_ledger_alert_dead_letters 0.0"} < set(metrics)
    signed = [each for each in receiver.taken if each[0] == "/planted-path?k=planted-query"]
    slack = [each for each in receiver.taken if each[0] == "/slack"]
    assert (len(signed), len(slack)) == (8, 4)
    told = [json.loads(body) for _, _, body in signed]
    assert [(each["agentId"], each["type"]) for each in told] == [
        (agent, kind)
        for agent in ("before", "during", "after", "last")
        for kind in ("budget_threshold", "budget_exceeded")
    ]
    assert [each | {"deliveryId": None} for each in told[:6]] == [each | {"deliveryId": None} for each in alerts[::-1]]
    ids = [headers["x-agent-ledger-delivery"] for _, headers, _ in receiver.taken]
    assert len(set(ids)) == 12
    assert {each["id"] for each in waiting} < set(ids)
    for _, headers, body in signed:
        at, signature = (part.partition("=")[2] for part in headers["x-agent-ledger-signature"].split(","))
        assert hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest() == signature
        assert json.loads(body)["deliveryId"] == headers["x-agent-ledger-delivery"]
    text = json.loads(slack[0][2])["text"]
    assert text.startswith("*budget_exceeded* · agent before: budget monthly_budget (before) exceeded: $0.60")
    kept = [path.read_bytes().decode(errors="replace") for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert not [text for text in (log, *shown, *kept) if "planted" in text]
