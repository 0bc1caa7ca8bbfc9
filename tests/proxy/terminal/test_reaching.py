"""Which sidecar a command reaches, with which token, and what it says where it can't."""

from __future__ import annotations

import json

import pytest

from proxy.terminal.client import NOTHING_HERE, Client
from tests.proxy.terminal.conftest import plain
from tests.sidecar import ADMIN


def test_the_url_is_the_options_else_the_environments(sidecar, said, monkeypatch):
    assert said("agents")[0] == 0
    assert said("agents", "--url", "http://127.0.0.1:1")[0] == 1
    monkeypatch.setenv("AGENT_LEDGER_URL", "http://127.0.0.1:1")
    assert said("agents", "--url", sidecar.url + "/")[0] == 0
    assert said("agents", "show", "quickstart", "--url", sidecar.url)[0] == 0
    assert said("agents", "--url", sidecar.url, "show", "quickstart")[0] == 0


def test_the_token_is_the_environments_else_that_of_the_datas_file(sidecar, said, monkeypatch, tmp_path):
    monkeypatch.delenv("AGENT_LEDGER_ADMIN_TOKEN")
    code, _, err = said("agents")
    assert (code, "set AGENT_LEDGER_ADMIN_TOKEN, or --data (there is no data/admin-token)" in err) == (1, True)
    assert list(tmp_path.iterdir()) == []  # none is made
    (tmp_path / "data").mkdir()
    token = tmp_path / "data/admin-token"
    token.write_text(f"{ADMIN}\n")
    assert said("agents")[0] == 0
    token.rename(tmp_path / "elsewhere")
    monkeypatch.setenv("AGENT_LEDGER_ADMIN_TOKEN_FILE", str(tmp_path / "elsewhere"))
    assert said("agents")[0] == 0


def test_a_wrong_token_is_told_by_where_it_is_from(sidecar, said, monkeypatch, tmp_path):
    monkeypatch.setenv("AGENT_LEDGER_ADMIN_TOKEN", "another-token-than-that")
    code, out, err = said("agents")
    assert (code, out) == (1, "")
    assert err == f"agent-ledger: the sidecar at {sidecar.url} refuses the admin token of AGENT_LEDGER_ADMIN_TOKEN\n"


def test_a_token_that_is_renewed_is_read_again(sidecar, monkeypatch, tmp_path):
    monkeypatch.delenv("AGENT_LEDGER_ADMIN_TOKEN")
    token = tmp_path / "admin-token"
    token.write_text("the-one-that-was-before\n")
    with Client(None, tmp_path) as client:
        token.write_text(f"{ADMIN}\n")
        assert client.rows("/api/agents")


def test_nobody_there(said):
    code, _, err = said("actions", "--url", "http://127.0.0.1:1")
    assert code == 1
    assert err == ("agent-ledger: no sidecar answers at http://127.0.0.1:1; --url or AGENT_LEDGER_URL names another\n")


def test_a_host_that_is_not_answered_for(sidecar, said):
    # All of 127.0.0.0/8 and localhost are loopback; this name is too, and the sidecar doesn't know it.
    code, _, err = said("agents", "--url", sidecar.url.replace("127.0.0.1", "[::ffff:127.0.0.1]"))
    assert code == 1
    assert "serve --allow-host" in err


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://127.0.0.1", "http://", "\x1b[2J"])
def test_what_is_no_url(said, url):
    code, _, err = said("agents", "--url", url)
    assert (code, "is no URL" in err, "\x1b" in err) == (1, True, False)


def test_another_version(answering, said):
    error = {"error": {"code": "not_found", "message": NOTHING_HERE}}
    answering(plain(json.dumps(error), 404))
    for command in (("alerts", "test"), ("agents",), ("export",)):
        code, _, err = said(*command)
        assert (code, "it is of another version" in err) == (1, True)


def test_what_a_sidecar_says_of_a_path_it_has_not(sidecar):
    assert sidecar.api.get("/api/nothing").json()["error"]["message"] == NOTHING_HERE


def test_a_version_that_can_not_be_followed(answering, said):
    fields = [{"field": "after", "message": "unknown"}]
    answering(plain(json.dumps({"error": {"code": "invalid", "message": "after: unknown", "fields": fields}}), 422))
    code, _, err = said("actions", "--follow")
    assert (code, "it is of another version" in err) == (1, True)


@pytest.mark.parametrize(
    "answer", [plain("<html>", 200, "text/html"), plain("<html>", 404, "text/html"), plain("{}"), plain("[1", 500)]
)
def test_what_is_no_agent_ledger(answering, said, answer):
    answering(answer)
    code, out, err = said("agents")
    assert (code, out, "is no Agent Ledger" in err) == (1, "", True)


def test_what_it_says_is_shown_without_controls(answering, said):
    answering(plain(json.dumps({"error": {"code": "x", "message": "a\x1b[2J\u202e"}}), 400))
    assert said("agents")[2] == "agent-ledger: a\\x1b[2J\\u202e\n"


def test_no_proxy_gets_the_token(sidecar, said, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert said("agents")[0] == 0
