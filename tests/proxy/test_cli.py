from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from proxy.cli import main
from tests.sidecar import Process

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "config/quickstart.yaml"
NOT_BUILT = ROOT / "tests/policy/err/warn-not-yet.yaml"


def test_check_of_a_sound_policy(capsys):
    assert main(["check", str(QUICKSTART)]) == 0
    assert "ok, 3 upstreams, 2 agents" in capsys.readouterr().out


def test_check_warns_of_what_is_not_built(capsys):
    assert main(["check", str(ROOT / "config/example.yaml")]) == 0
    assert "0 warnings" in capsys.readouterr().out
    assert main(["check", str(NOT_BUILT)]) == 0
    said = capsys.readouterr()
    assert "websockets are not built yet" in said.err
    assert "1 warnings" in said.out


def test_serve_warns_of_what_is_not_built(tmp_path):
    with Process(NOT_BUILT, tmp_path / "data") as sidecar:
        log = sidecar.log.read_text()
    assert "websockets are not built yet" in log


def test_check_of_a_broken_policy_says_where_and_fails(tmp_path, capsys):
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nupstream: {}\n")
    assert main(["check", str(policy)]) == 1
    assert (
        f"{policy}:2:1: unknown key 'upstream' in a policy; did you mean 'upstreams'? [unknown-key]"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("command", [["check", "missing.yaml"], ["serve", "missing.yaml"]])
def test_a_missing_policy_is_told(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 1
    assert "missing.yaml" in capsys.readouterr().err


def test_no_auth_is_for_loopback_only(capsys):
    assert main(["serve", str(QUICKSTART), "--no-auth", "--host", "0.0.0.0"]) == 2
    assert "loopback only" in capsys.readouterr().err


def test_no_auth_is_refused_in_kubernetes(monkeypatch, capsys):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert main(["serve", str(QUICKSTART), "--no-auth"]) == 2
    assert "Kubernetes" in capsys.readouterr().err


def test_serve_agent_must_be_known(tmp_path, capsys):
    data = str(tmp_path / "data")
    assert main(["serve", str(QUICKSTART), "--agent", "nobody", "--data", data, "--port", "0"]) == 1
    assert "nobody" in capsys.readouterr().err


def test_a_port_in_use_is_told(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", str(QUICKSTART), "--port", port, "--data", str(tmp_path / "data")]) == 1
    assert "in use" in capsys.readouterr().err


def test_a_token_that_is_too_short_is_refused_and_not_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AGENT_LEDGER_METRICS_TOKEN", "fifteen-letters")
    assert main(["serve", str(QUICKSTART), "--port", "0", "--data", str(tmp_path / "data")]) == 1
    said = capsys.readouterr().err
    assert "AGENT_LEDGER_METRICS_TOKEN: a token has 16 or more" in said
    assert "fifteen" not in said


def test_verify(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with Process(QUICKSTART, tmp_path / "data") as sidecar:
        assert sidecar.get("/api/agents")
    assert main(["verify"]) == 0  # its default is a relative path
    assert "data: ok, " in capsys.readouterr().out
    [journal] = Path("data/journal").glob("*.jsonl")
    journal.write_bytes(journal.read_bytes().replace(b"Quickstart", b"Quackstart"))
    assert main(["verify"]) == 1
    assert "line" in capsys.readouterr().err


def test_verify_against_an_anchor(tmp_path, capsys):
    with Process(QUICKSTART, tmp_path / "data") as sidecar:
        head = sidecar.api.get("/metrics").text.split('head="')[1].split('"')[0]
    data = str(tmp_path / "data")
    assert main(["verify", "--data", data, "--anchor", head]) == 0
    assert main(["verify", "--data", data, "--anchor", "0" * 64]) == 1
    assert "no line has the hash" in capsys.readouterr().err


CALL = {"model": "gpt-4o-mini", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}


def test_explain_beside_the_sidecar_and_after_it(tmp_path, capsys):
    data = tmp_path / "data"
    with Process(QUICKSTART, data) as sidecar:
        answer = sidecar.api.post("/demo/v1/chat/completions", json=CALL, headers={"X-Agent-Id": "quickstart"})
        action_id = answer.headers["x-ledger-action-id"]
        charge = sidecar.get(f"/api/actions/{action_id}")["charge"]
        held = {path.name for path in data.iterdir()}
        assert main(["explain", action_id, "--data", str(data)]) == 0
        running = capsys.readouterr().out
        assert {path.name for path in data.iterdir()} == held
    assert charge["basis"] == "usage"
    assert "settled at its usage" in running
    assert f"= {charge['total']} USD" in running
    assert f"= {charge['estimate']['total']} USD" in running
    held = {path.name for path in data.iterdir()}
    assert main(["explain", action_id, "--data", str(data)]) == 0
    assert capsys.readouterr().out == running
    assert {path.name for path in data.iterdir()} == held


def test_explain_of_an_action_there_is_not_and_of_a_folder_that_is_none(tmp_path, capsys):
    with Process(QUICKSTART, tmp_path / "data"):
        pass
    assert main(["explain", "act_1", "--data", str(tmp_path / "data")]) == 1
    assert f"agent-ledger: {tmp_path / 'data'} holds no action act_1" in capsys.readouterr().err
    assert main(["explain", "act_1", "--data", str(tmp_path)]) == 1
    assert f"agent-ledger: {tmp_path} holds no journal" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "data.log"]


def test_promise_10_a_log_gets_the_path_of_the_admin_token_and_not_the_token(tmp_path):
    with Process(QUICKSTART, tmp_path / "data", env={"AGENT_LEDGER_ADMIN_TOKEN": ""}) as sidecar:
        token_file = tmp_path / "data/admin-token"
        assert token_file.stat().st_mode & 0o777 == 0o600
        log = sidecar.log.read_text()
        assert f"admin token in {os.path.relpath(token_file)}" in log
        assert token_file.read_text().strip() not in log


def test_sighup_reloads_and_a_broken_file_changes_nothing(tmp_path):
    policy = tmp_path / "policy.yaml"
    text = QUICKSTART.read_text()
    policy.write_text(text)
    with Process(policy, tmp_path / "data") as sidecar:
        before = sidecar.get("/api/policy")["hash"]
        policy.write_text(text + "nonsense: 1\n")
        sidecar.process.send_signal(signal.SIGHUP)
        sidecar.wait_for_log("policy reload refused")
        assert sidecar.get("/api/policy")["hash"] == before
        assert "nonsense" in sidecar.get("/api/policy")["lastError"]
        policy.write_text(text + "# changed\n")
        sidecar.process.send_signal(signal.SIGHUP)
        sidecar.wait_for_log(' in force"')
        assert sidecar.get("/api/policy")["hash"] != before
        assert sidecar.get("/api/policy")["lastError"] is None


def test_hazard_45_sigterm_ends_it_cleanly(tmp_path):
    with Process(QUICKSTART, tmp_path / "data") as sidecar:
        assert sidecar.stop() == 0
