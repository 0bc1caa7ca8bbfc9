from __future__ import annotations

import json

from proxy.cli import main
from tests.proxy.terminal.conftest import make_agent, report


def test_a_table_with_totals(sidecar, said):
    agent = make_agent(sidecar, name="Painter", monthlyBudget=10, perActionLimit=5)
    report(sidecar, agent, 2.5)
    code, out, err = said("agents")
    head, *rows, totals = [line.split() for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert head == ["ID", "NAME", "STATUS", "SPENT", "BUDGET", "USED", "RESERVED", "AVAILABLE", "PER", "ACTION"]
    assert [agent, "Painter", "active", "$2.50", "$10.00", "25%", "$0.00", "$7.50", "$5.00"] in rows
    agents = sidecar.get("/api/agents")
    assert totals[:2] == [str(len(agents)), "agents"]
    assert len(rows) == len(agents)


def test_amounts_stand_under_each_other(sidecar, said):
    for budget in (0.000000001, 100, 7.5):
        make_agent(sidecar, monthlyBudget=budget)
    lines = said("agents")[1].splitlines()
    budgets = lines[0].index("BUDGET") + len("BUDGET")
    points = {line.rindex(".", 0, budgets) for line in lines[1:]}
    assert len(points) == 1


def test_json_is_the_apis_own_to_the_last_digit(sidecar, said):
    agent = make_agent(sidecar, monthlyBudget=1)
    sidecar.api.patch(f"/api/agents/{agent}", content=b'{"monthlyBudget": 987654321.123456789}', headers=JSON)
    code, out, _ = said("agents", "--json")
    assert code == 0
    assert json.loads(out, parse_float=str) == sidecar.get("/api/agents")
    assert '"monthlyBudget":987654321.123456789,' in out
    assert json.loads(said("agents", "show", agent, "--json")[1], parse_float=str) == sidecar.get(
        f"/api/agents/{agent}"
    )


JSON = {"content-type": "application/json"}


def test_hazard_32_a_name_commands_no_terminal(sidecar, said, monkeypatch):
    evil = "\x1b[2J\x1b]0;owned\x07a\r\nb\u202e日本\u2066"
    agent = make_agent(sidecar, name=evil, role=evil)
    report(sidecar, agent, metadata=evil)
    for width in ("40", "500"):
        monkeypatch.setenv("COLUMNS", width)
        for command in (["agents"], ["agents", "show", agent], ["actions", "--agent", agent]):
            code, out, _ = said(*command)
            assert code == 0
            assert out.isprintable() or set(out) - {"\n"} == {char for char in out if char.isprintable()}
    assert "\\x1b[2J\\x1b]0;owned\\x07a\\x0d\\x0ab\\u202e日本\\u2066" in said("agents")[1]
    assert len(said("agents")[1].splitlines()) == len(sidecar.get("/api/agents")) + 2


def test_no_line_is_wider_than_the_terminal(sidecar, said, monkeypatch):
    make_agent(sidecar, name="名前" * 30, perActionLimit=1)
    for width in (48, 64, 80, 100, 132):
        monkeypatch.setenv("COLUMNS", str(width))
        lines = said("agents")[1].splitlines()
        assert max(len(line.encode("gb18030")) for line in lines if "…" not in line) <= width
        assert max(map(len, lines)) <= width


def test_one_agent_its_budgets_and_latest_actions(sidecar, said):
    agent = make_agent(sidecar, name="Painter", monthlyBudget=3, perActionLimit=1)
    made = [report(sidecar, agent, 0.1) for _ in range(12)]
    assert report(sidecar, agent, 2) is None
    out = said("agents", "show", agent)[1]
    assert f"{agent}: Painter (role Tests, owner me)" in out
    assert "$1.20 of $3.00 spent (40%), $0.00 reserved, $1.80 available" in out
    assert "per action  $1.00" in out
    assert "monthly_budget" in out
    assert "agent-day" in out
    last, *_ = reversed(out.splitlines())
    assert "per_action_limit_exceeded" in last
    assert [line.split()[-1] for line in out.splitlines() if "success" in line] == made[-9:]


def test_pause_and_resume(sidecar, said):
    agent = make_agent(sidecar)
    assert said("agents", "pause", agent, "--reason", "late invoice") == (0, f"{agent} is paused: late invoice\n", "")
    assert sidecar.get(f"/api/agents/{agent}")["pausedReason"] == "late invoice"
    assert "paused: late invoice" in said("agents", "show", agent)[1]
    assert said("agents", "resume", agent) == (0, f"{agent} is active\n", "")
    assert said("agents", "pause", agent)[1] == f"{agent} is paused: paused by operator\n"
    code, out, _ = said("agents", "resume", agent, "--json")
    assert (code, json.loads(out)["status"]) == (0, "active")


def test_an_agent_there_is_not(sidecar, said):
    for command in (["show"], ["pause"], ["resume"]):
        for agent in ("nobody", "a/b", "..", "%2f"):
            code, out, err = said("agents", *command, agent)
            assert (code, out, "Traceback" in err, err.startswith("agent-ledger: ")) == (1, "", False, True)


def test_color_is_for_a_terminal_that_wants_it(sidecar, capsys, monkeypatch):
    def painted(**environment):
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr("sys.stdout.isatty", lambda: True)
            assert main(["agents"]) == 0
        return "\x1b[" in capsys.readouterr().out

    assert painted(TERM="xterm")
    assert not painted(TERM="xterm", NO_COLOR="1")
    assert not painted(TERM="dumb")
