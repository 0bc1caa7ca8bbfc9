from __future__ import annotations

import json

import pytest

from proxy.terminal import actions
from tests.proxy.terminal.conftest import make_agent, report


def test_a_table_newest_last(sidecar, said):
    agent = make_agent(sidecar, perActionLimit=1)
    first, second = report(sidecar, agent, 0.05), report(sidecar, agent, 0.000001, outcome="failure")
    assert report(sidecar, agent, 2) is report(sidecar, agent, 2) is None
    code, out, err = said("actions", "--agent", agent)
    head, *rows = [line.split() for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert head == ["TIME", "AGENT", "TARGET", "OUTCOME", "COST", "NOTE", "ID"]
    assert [row[3:6] for row in rows] == [[agent, "x:y", word] for word in ("success", "failure", "denied")]
    assert [row[6] for row in rows] == ["$0.05", "$0.000001", "$0.00"]
    assert [rows[0][-1], rows[1][-1]] == [first, second]
    assert rows[2][7:9] == ["per_action_limit_exceeded", "×2"]


def test_which(sidecar, said):
    agent = make_agent(sidecar, perActionLimit=1)
    made = [report(sidecar, agent, outcome=outcome) for outcome in ("success", "failure", "success")]
    report(sidecar, agent, 2)
    at = [sidecar.get(f"/api/actions/{action}")["createdAt"] for action in made]

    def found(*which):
        code, out, _ = said("actions", "--agent", agent, "--json", *which)
        assert code == 0
        return [action["id"] for action in json.loads(out)]

    assert found()[:3] == made
    assert found("--outcome", "failure") == made[1:2]
    assert len(found("--outcome", "denied")) == 1
    assert found("--limit", "2") == found()[-2:]
    assert found("--since", "1h") == found("--since", "today") == found()
    assert found("--until", "1h") == []
    assert set(made[1:]) <= set(found("--since", at[1]))
    assert made[2] not in found("--until", at[2])
    assert found("--limit", "0") == []


def test_more_than_a_page(sidecar, said):
    agent = make_agent(sidecar)
    made = [report(sidecar, agent, 0) for _ in range(7)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(actions, "_PAGE", 3)
        assert [row["id"] for row in json.loads(said("actions", "--agent", agent, "--json")[1])] == made
        out = said("actions", "--agent", agent, "--json", "--limit", "5")[1]
        assert [row["id"] for row in json.loads(out)] == made[2:]


def test_json_is_the_apis_own_to_the_last_digit(sidecar, said):
    agent = make_agent(sidecar)
    report(sidecar, agent, metadata='{"a": 0.1000}', target="é:\u202e")
    report(sidecar, agent, 0.123456789)
    out = said("actions", "--agent", agent, "--json")[1]
    listed = sidecar.get(f"/api/actions?agentId={agent}")["items"]
    assert json.loads(out, parse_float=str) == listed[::-1]
    assert '"cost":0.123456789,' in out
    assert out.isascii()
    assert said("actions", "--agent", "nobody", "--json")[1] == "[]\n"
    assert said("actions", "--agent", "nobody")[1] == "No actions.\n"


@pytest.mark.parametrize(
    "wrong", [["--limit", "-1"], ["--limit", "100001"], ["--limit", "x"], ["--since", "x"], ["--outcome", "pending"]]
)
def test_wrong_usage(wrong, said, capsys):
    with pytest.raises(SystemExit) as ended:
        said("actions", *wrong)
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_a_list_that_ends_is_not_followed(said):
    code, _, err = said("actions", "--follow", "--until", "1h")
    assert (code, "--until" in err) == (2, True)
