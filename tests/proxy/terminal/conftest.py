"""The commands as an operator runs them: against a real sidecar, or one that answers what a test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from proxy.cli import main
from tests.sidecar import ADMIN, Process

QUICKSTART = Path(__file__).parents[3] / "config/quickstart.yaml"

Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """In a folder without data, at a terminal of UTC."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENT_LEDGER_ADMIN_TOKEN", ADMIN)
    for name in ("AGENT_LEDGER_URL", "AGENT_LEDGER_ADMIN_TOKEN_FILE", "COLUMNS", "NO_COLOR", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def running(tmp_path_factory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("terminal")
    policy = folder / "policy.yaml"
    policy.write_text(QUICKSTART.read_text().replace("amount: 1.00", "amount: 1000"))
    with Process(policy, folder / "data") as sidecar:
        yield sidecar


@pytest.fixture
def sidecar(running, monkeypatch) -> Process:
    """One for all tests: each makes agents of its own."""
    monkeypatch.setenv("AGENT_LEDGER_URL", running.url)
    return running


def make_agent(sidecar: Process, **fields) -> str:
    given = {"name": "Bot", "role": "Tests", "ownerId": "me", "monthlyBudget": 10, "perActionLimit": None} | fields
    answer = sidecar.api.post("/api/agents", json=given)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def report(sidecar: Process, agent: str, cost: float = 0.01, **fields) -> str | None:
    """The action's id; None for a denial."""
    given = {"agentId": agent, "actionType": "api_call", "target": "x:y", "outcome": "success", "cost": cost} | fields
    return sidecar.api.post("/api/actions", json=given).json().get("id")


@pytest.fixture
def said(capsys):
    """The exit code, stdout and stderr of a command."""

    def run(*command: str) -> tuple[int, str, str]:
        code = main(command)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def answering(monkeypatch) -> Iterator[Callable[[Answer], str]]:
    """Serve what the callable says to any request; the url."""
    servers = []

    def serve(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                answer(self)

            do_POST = do_PATCH = do_GET

            def log_message(self, *_) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("AGENT_LEDGER_URL", url)
        return url

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def plain(body: str, status: int = 200, kind: str = "application/json") -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("content-type", kind)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body.encode())

    return answer
