from __future__ import annotations

import json

import pytest

from tests.proxy.terminal.conftest import make_agent, plain, report


def exhausted(sidecar):
    """An agent that was paused, with an alert."""
    agent = make_agent(sidecar, monthlyBudget=1)
    assert report(sidecar, agent, 2) is None
    return agent


def test_a_list_newest_last_with_its_messages(sidecar, said, monkeypatch):
    agent = exhausted(sidecar)
    code, out, _ = said("alerts", "--agent", agent)
    head, row, message = out.splitlines()
    assert code == 0
    assert head.split() == ["TIME", "TYPE", "AGENT", "STATE", "ID"]
    (alert,) = sidecar.get(f"/api/alerts?agentId={agent}")
    assert row.split()[3:] == ["budget_exceeded", agent, "open", alert["id"]]
    assert message == f"    {alert['message']}"
    monkeypatch.setenv("COLUMNS", "80")
    head, row, *message = said("alerts", "--agent", agent)[1].splitlines()
    assert max(map(len, [row, *message])) <= 80
    assert " ".join(line.strip() for line in message) == alert["message"]
    exhausted(sidecar)
    listed = json.loads(said("alerts", "--json")[1])
    assert listed == sidecar.get("/api/alerts")[::-1]


def test_acknowledge(sidecar, said):
    agent, other = exhausted(sidecar), exhausted(sidecar)
    (alert,) = sidecar.get(f"/api/alerts?agentId={agent}")
    code, out, err = said("alerts", "acknowledge", "alr_nothing", alert["id"])
    assert (code, out, err) == (1, "1 acknowledged\n", "agent-ledger: alr_nothing: No alert has this id.\n")
    assert said("alerts", "--open", "--agent", agent)[1] == "Nothing is open.\n"
    assert "read" in said("alerts", "--agent", agent)[1]
    assert "open" in said("alerts", "--open", "--agent", other)[1]
    code, out, _ = said("alerts", "acknowledge", "--all", "--json")
    assert code == 0
    assert {each["acknowledgedAt"] is None for each in json.loads(out)} == {False}
    assert said("alerts", "--open", "--json")[1] == "[]\n"
    assert said("alerts", "acknowledge", "--all") == (0, "Nothing was open.\n", "")


def test_all_are_acknowledged_where_the_api_does_not_tell_all_at_once(answering, said):
    opened = [{"id": f"alr_{number}", "acknowledgedAt": None} for number in range(5)]
    stuck = {"id": "alr_stuck", "acknowledgedAt": None}

    def answer(handler):
        if handler.command == "GET":
            plain(json.dumps([stuck, *opened[:2]]))(handler)
        elif "alr_stuck" in handler.path:
            plain(json.dumps({"error": {"code": "not_found", "message": "No alert has this id."}}), 404)(handler)
        else:
            plain(json.dumps(opened.pop(0)))(handler)

    answering(answer)
    code, out, err = said("alerts", "acknowledge", "--all")
    assert (code, out, err.count("alr_stuck")) == (1, "5 acknowledged\n", 1)


@pytest.mark.parametrize("wrong", [[], ["--all", "alr_1"]])
def test_acknowledge_takes_ids_or_all(said, wrong):
    assert said("alerts", "acknowledge", *wrong)[0] == 2


TESTED = [
    {"webhook": "ops", "delivered": True, "error": None},
    {"webhook": "hooks.example", "delivered": False, "error": "it answered 500\x1b[2J"},
]


def test_a_test_that_fails_is_told(answering, said):
    answering(plain(json.dumps(TESTED)))
    code, out, _ = said("alerts", "test")
    assert code == 1
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["ops", "yes"],
        ["hooks.example", "no", "it", "answered", "500\\x1b[2J"],
    ]
    code, out, _ = said("alerts", "test", "--json")
    assert (code, json.loads(out)) == (1, TESTED)
    answering(plain(json.dumps(TESTED[:1])))
    assert said("alerts", "test")[0] == 0


def test_a_test_of_no_webhooks_reaches_nobody(answering, said):
    answering(plain("[]"))
    code, out, _ = said("alerts", "test")
    assert (code, "no webhooks" in out) == (1, True)
