"""Hazard 45 with real processes: SIGTERM in each state. And a process that is out of files, which goes on."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx

from proxy.cli import main
from tests.e2e.test_crash import call, place, upstream  # noqa: F401 (fixtures)
from tests.sidecar import ADMIN, Process


def test_readiness_turns_off_first_and_calls_are_served_for_the_delay(place):  # noqa: F811
    with Process(*place, "--drain-delay", "600") as sidecar:
        assert sidecar.get("/readyz")["ready"] is True
        sidecar.process.send_signal(signal.SIGTERM)
        sidecar.wait_for_log("stopping")
        with httpx.Client(base_url=sidecar.url) as anyone:  # on a connection of its own
            answer = anyone.get("/readyz")
            assert (answer.status_code, answer.json()["checks"]["draining"]) == (503, True)
            assert anyone.get("/healthz").status_code == 200
        assert call(sidecar).status_code == 200
        assert sidecar.stop() == 0  # the second
    assert main(["verify", "--data", str(sidecar.data)]) == 0


def test_a_call_in_flight_ends_while_new_ones_are_turned_away(place, upstream):  # noqa: F811
    upstream.mode = "stream"
    with Process(*place) as sidecar:
        ended = []
        thread = threading.Thread(target=lambda: ended.append(call(sidecar, stream=True).content))
        thread.start()
        assert upstream.received.acquire(timeout=10)
        sidecar.process.send_signal(signal.SIGTERM)
        sidecar.wait_for_log("stopping")
        answer = call(sidecar)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
        assert (answer.headers["retry-after"], answer.headers["connection"]) == ("1", "close")
        with httpx.Client(base_url=sidecar.url) as anyone:
            assert anyone.get("/readyz").status_code == 503
        upstream.go_on.set()
        thread.join()
        assert sidecar.process.wait(10) == 0
        sidecar.stop()
    assert b"hi" in ended[0]
    assert main(["verify", "--data", str(sidecar.data)]) == 0


def test_asked_to_stop_while_it_starts_it_serves_nothing_and_ends(tmp_path):
    policy, data = tmp_path / "policy.yaml", tmp_path / "data"
    os.mkfifo(policy)
    command = [sys.executable, "-m", "proxy", "serve", str(policy), "--port", "0", "--data", str(data)]
    starting = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | {"AGENT_LEDGER_ADMIN_TOKEN": ADMIN})
    with policy.open("w") as file:  # it has been opened to be read
        starting.send_signal(signal.SIGTERM)
        file.write("version: 1\nupstreams: {up: {url: 'http://127.0.0.1:1'}}\n")
    _, said = starting.communicate(timeout=30)
    assert (starting.returncode, b"nothing was served" in said, b" serves " in said) == (0, True, False)


def test_out_of_files_it_neither_ends_nor_fills_the_log_and_goes_on_when_there_are_some(place):  # noqa: F811
    with Process(*place) as sidecar, contextlib.ExitStack() as clients:
        host, port = sidecar.url.removeprefix("http://").split(":")
        assert call(sidecar).status_code == 200
        pid = sidecar.process.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        held = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (held + 10, hard))
        opened = [clients.enter_context(socket.create_connection((host, int(port)), timeout=30)) for _ in range(100)]
        assert opened[-1].recv(1) == b""  # closed at once, and not left waiting
        clients.close()
        assert call(sidecar).status_code == 200
        assert sidecar.log.read_text().count("\n") < 20
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    assert main(["verify", "--data", str(sidecar.data)]) == 0


def test_with_few_files_it_takes_fewer_connections_and_says_so(place):  # noqa: F811
    limited = (
        "import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400)); runpy.run_module('proxy')"
    )
    command = [sys.executable, "-c", limited, "serve", str(place[0]), "--data", str(place[1]), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as serving:
        assert "at most 40 connections at once, not 2048" in serving.stderr.readline()
        serving.send_signal(signal.SIGTERM)
        serving.communicate(timeout=30)
    assert serving.returncode == 0
