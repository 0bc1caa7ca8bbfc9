"""Promise 4 and hazard 36: SIGKILL in each state of a call, and a restart. Real processes, a real upstream."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.sidecar import Process

POLICY = """
version: 1
upstreams:
  held: {{url: "{url}", meter: openai}}
agents:
  - {{id: worker, monthly_budget: 10}}
prices:
  - {{name: chat, match: {{upstream: held}}, rates: {{input_mtok: 1, output_mtok: 2}}}}
budgets:
  - {{name: all, amount: 100, period: day}}
"""
# 1 USD per million input tokens is 1,000 nano-dollars a token; 40 × 1,000 + 10 × 2,000 = 60,000.
ANSWER = {"model": "m", "choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 10}}
CHARGE = 0.00006
BODY = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}


class Held(ThreadingHTTPServer):
    """An upstream that waits where it is told to: before its answer, or in the middle of a stream."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.mode = "answer"
        self.received = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Held

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.received.release()
        if self.server.mode == "silent":
            self.server.go_on.wait(20)
        elif self.server.mode == "stream":
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n')
            self.wfile.flush()
            self.server.go_on.wait(20)
        else:
            body = json.dumps(ANSWER).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *args) -> None:
        """Quiet."""


@pytest.fixture
def upstream():
    held = Held()
    yield held
    held.go_on.set()
    held.shutdown()
    held.server_close()


@pytest.fixture
def place(tmp_path, upstream):
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.format(url=upstream.url))
    return policy, tmp_path / "data"


def call(sidecar, client=httpx, **more):
    return client.post(
        f"{sidecar.url}/held/v1/chat/completions", json=BODY | more, headers={"x-agent-id": "worker"}, timeout=20
    )


def begin(sidecar, **more):
    """A call in a thread of its own: its sidecar will die under it."""

    def run():
        with pytest.raises(httpx.HTTPError):
            call(sidecar, **more)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def state(sidecar):
    """What the ledger says, and that its own proof agrees."""
    agent = sidecar.get("/api/agents/worker")
    assert sidecar.get("/api/reservations") == []
    verified = subprocess.run(
        [sys.executable, "-m", "proxy", "verify", "--data", str(sidecar.data)], capture_output=True, text=True
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr
    actions = sidecar.get("/api/actions?agentId=worker&limit=1000")["items"]
    spent = float(agent["currentSpend"])
    assert spent == pytest.approx(sum(float(action["cost"]) for action in actions), abs=1e-12)
    assert {float(budget["spent"]) for budget in agent["budgets"]} == {spent}
    return spent, actions


def test_promise_4_hazard_36_killed_before_reserve_nothing_is_recorded(place, upstream):
    with Process(*place) as sidecar:
        host, port = sidecar.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as half:
            head = "POST /held/v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Agent-Id: worker\r\n"
            half.sendall(f"{head}Content-Length: 99\r\n\r\n{{".encode())
            assert sidecar.get("/api/reservations") == []
            sidecar.kill()
    with Process(*place) as sidecar:
        assert state(sidecar) == (0.0, [])
    assert not upstream.received.acquire(blocking=False)


@pytest.mark.parametrize(("mode", "more"), [("silent", {}), ("stream", {"stream": True})])
def test_promise_4_hazard_36_killed_in_flight_the_call_is_charged_unconfirmed(place, upstream, mode, more):
    upstream.mode = mode
    with Process(*place) as sidecar:
        thread = begin(sidecar, **more)
        assert upstream.received.acquire(timeout=10)
        [reservation] = sidecar.get("/api/reservations")
        sidecar.kill()
        thread.join()
    with Process(*place) as sidecar:
        spent, [action] = state(sidecar)
        assert action["id"] == reservation["actionId"]
        assert action["unconfirmed"] is True
        assert float(action["cost"]) == spent == float(reservation["reserved"]) > CHARGE


def test_promise_4_hazard_36_killed_after_settle_there_is_one_row(place, upstream):
    with Process(*place) as sidecar:
        ids = [call(sidecar).headers["x-ledger-action-id"] for _ in range(5)]
        sidecar.kill()
    with Process(*place) as sidecar:
        spent, actions = state(sidecar)
        assert [action["id"] for action in actions] == ids[::-1]
        assert spent == pytest.approx(5 * CHARGE, abs=1e-12)
        assert not any(action["unconfirmed"] for action in actions)


def test_promise_4_killed_again_and_again_under_load_nothing_acknowledged_is_missing(place, upstream):
    acknowledged = set()
    for _ in range(3):
        with Process(*place) as sidecar:
            stop = threading.Event()

            def load(sidecar=sidecar, stop=stop):
                with httpx.Client() as client, contextlib.suppress(httpx.HTTPError):
                    while not stop.is_set():
                        acknowledged.add(call(sidecar, client).headers["x-ledger-action-id"])

            threads = [threading.Thread(target=load) for _ in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(40):
                assert upstream.received.acquire(timeout=10)
            sidecar.kill()
            stop.set()
            for thread in threads:
                thread.join()
    with Process(*place) as sidecar:
        _, actions = state(sidecar)
        assert acknowledged <= {action["id"] for action in actions}
        assert len(actions) == len({action["id"] for action in actions})
