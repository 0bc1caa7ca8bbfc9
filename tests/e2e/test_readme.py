"""The README is run, not believed: its commands, its table, and that it names every command and option."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from policy.decide import STATUS, TRANSIENT
from policy.parse import parse_policy
from proxy.cli import main, parser
from proxy.notify.message import SIGNATURE, headers_of
from proxy.terminal import follow
from tests.sidecar import ADMIN, Process

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
CURLS = [
    command.strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for command in re.split(r"\n(?=curl )", block)
    if command.strip().startswith("curl ")
]


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory):
    with Process(ROOT / "config/quickstart.yaml", tmp_path_factory.mktemp("readme") / "data") as running:
        yield running


def run(sidecar, command):
    assert shutil.which("curl"), "the README's commands need curl"
    command = command.replace("http://127.0.0.1:8080", sidecar.url).replace("curl ", "curl -sS -i ", 1)
    done = subprocess.run(["bash", "-c", f"TOKEN={ADMIN}; {command}"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    head, _, body = done.stdout.partition("\n\n")
    return head, body


def test_the_first_call_is_governed_and_the_second_denied(sidecar):
    head, body = run(sidecar, CURLS[0])
    assert head.startswith("HTTP/1.1 200")
    assert "x-ledger-action-id: act_" in head
    assert "x-ledger-budget-remaining: " in head
    assert '"choices"' in body
    head, body = run(sidecar, CURLS[1])
    assert head.startswith("HTTP/1.1 403")
    assert "x-should-retry: false" in head
    assert '"budget_exceeded"' in body
    assert sidecar.get("/api/agents/pauper")["status"] == "paused"


def test_its_price_of_any_paid_api_loads():
    (rule,) = re.findall(r"```yaml\n(  - name: render.*?)```", README, re.DOTALL)
    text = f"version: 1\nupstreams: {{render: {{url: 'http://127.0.0.1:9000'}}}}\nprices:\n{rule}"
    assert parse_policy(text, name="README.md", env={}, read_file=str).warnings == ()


@pytest.mark.parametrize("command", CURLS[2:], ids=lambda command: re.search(r"/api/\w+", command)[0])
def test_every_other_curl_command_is_answered(sidecar, command):
    head, body = run(sidecar, command)
    assert head.startswith(("HTTP/1.1 200", "HTTP/1.1 201")), body


def test_its_webhooks_load_and_its_check_of_a_signature_takes_ours_alone():
    (alerts,) = re.findall(r"```yaml\n(alerts:.*?)```", README, re.DOTALL)
    env = {"SLACK_WEBHOOK": "https://hooks.slack.example/T0"}
    policy = parse_policy(
        f"version: 1\n{alerts}", name="README.md", env=env, read_file=lambda name: "whsec_0123456789"
    ).policy
    assert [hook.name for hook in policy.webhooks] == ["hooks.slack.example", "pager"]
    (source,) = re.findall(r"```python\n(import hashlib.*?)```", README, re.DOTALL)
    found = {}
    exec(source, found)
    now_s = int(time.time())
    signature = dict(headers_of(policy.webhooks[1], b"{}", "dlv_1", now_s))[SIGNATURE].decode()
    assert found["is_ours"]("whsec_0123456789", signature, b"{}")
    assert not found["is_ours"]("whsec_9876543210", signature, b"{}")
    assert not found["is_ours"]("whsec_0123456789", signature, b"{ }")
    early = dict(headers_of(policy.webhooks[1], b"{}", "dlv_1", now_s - 600))[SIGNATURE].decode()
    assert not found["is_ours"]("whsec_0123456789", early, b"{}")


def test_the_table_of_denials_is_the_decision_table():
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", README, re.MULTILINE))
    assert rows == {reason: str(status) for reason, status in STATUS.items()}
    assert set(re.findall(r"^\| `(\w+)` \| \d+ \| transient", README, re.MULTILINE)) == TRANSIENT


def test_every_command_and_option_is_in_the_readme():
    commands = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        row = next(line for line in README.splitlines() if line.startswith(f"| `agent-ledger {name}"))
        missing = [option for option in options(command) if f"`{option}`" not in row]
        missing += [below for below, _ in commands_below(command) if f"`{name} {below}" not in row]
        assert not missing, f"{name}: {missing}"


def options(command):
    """Its own, and those of the commands below it."""
    own = [option for action in command._actions for option in action.option_strings if option.startswith("--")]
    below = [option for _, each in commands_below(command) for option in options(each)]
    return [option for option in own + below if option != "--help"]


def commands_below(command):
    found = [action for action in command._actions if isinstance(action, argparse._SubParsersAction)]
    return [each for action in found for each in action.choices.items()]


TERMINAL = README.split("## From the terminal")[1].split("```bash\n")[1].split("```")[0].splitlines()


@pytest.mark.parametrize("command", TERMINAL)
def test_every_command_from_the_terminal_runs_as_written(sidecar, command, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AGENT_LEDGER_URL", sidecar.url)
    monkeypatch.setenv("AGENT_LEDGER_ADMIN_TOKEN", ADMIN)
    monkeypatch.chdir(tmp_path)
    program, *words = shlex.split(command)
    assert program == ".venv/bin/agent-ledger"
    if "--follow" in words:
        monkeypatch.setattr(follow, "_wait", Mock(side_effect=KeyboardInterrupt))
    code = main(words)
    nobody_to_tell = words == ["alerts", "test"]  # the quickstart has no webhooks
    assert code == (130 if "--follow" in words else 1 if nobody_to_tell else 0), capsys.readouterr().err


def test_every_file_it_names_is_there():
    named = re.findall(r"\]\(([^)#]+)\)", README)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
