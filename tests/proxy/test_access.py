from __future__ import annotations

import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.datastructures import Headers

from proxy.access import ADMIN, ADMIN_TOKEN_ENV, Access, Principal, admin_token
from proxy.identify import digest
from proxy.settings import Settings

KEY = "alk_" + "k" * 43
BOT = Principal("bot")


def access(**settings) -> Access:
    keys = {digest(KEY): SimpleNamespace(id="bot")}
    ledger = SimpleNamespace(agent_by_key=keys.get)
    given = {"admin_token": "the-admin-token", "metrics_token": "the-metrics-token", **settings}
    return Access(Settings(policy=Path("p"), data=Path("d"), **given), ledger)


def headers(*pairs: tuple[str, str]) -> Headers:
    return Headers(raw=[(name.encode(), value.encode("latin-1")) for name, value in pairs])


@pytest.mark.parametrize(
    ("sent", "who"),
    [
        ([], None),
        ([("authorization", "Bearer the-admin-token")], ADMIN),
        ([("authorization", "bearer  the-admin-token ")], ADMIN),
        ([("authorization", "Bearer the-admin-toke")], None),
        ([("authorization", "Bearer the-metrics-token")], None),
        ([("authorization", "Basic the-admin-token")], None),
        ([("authorization", "the-admin-token")], None),
        ([("authorization", "Bearer ")], None),
        ([("authorization", "Bearer \xe9")], None),
        ([("authorization", f"Bearer {KEY}")], BOT),
        ([("x-ledger-key", KEY)], BOT),
        ([("x-ledger-key", "the-admin-token")], None),
        ([("x-ledger-key", KEY), ("authorization", "Bearer the-admin-token")], BOT),
        ([("x-ledger-key", "alk_wrong"), ("authorization", "Bearer the-admin-token")], None),
        ([("authorization", "Bearer the-admin-token")] * 2, None),
        ([("x-ledger-key", KEY)] * 2, None),
        ([("x-agent-id", "bot")], None),
        ([("cookie", "admin=the-admin-token")], None),
    ],
)
def test_promise_11_who_calls(sent, who):
    assert access().identify(headers(*sent)) == who


def test_promise_11_a_token_that_was_never_set_is_nobodys():
    bare = access(admin_token="", metrics_token="")
    assert bare.identify(headers(("authorization", "Bearer "))) is None
    assert not bare.reads_metrics(headers(("authorization", "Bearer ")))


def test_no_auth_makes_everyone_the_admin():
    assert access(no_auth=True).identify(headers()) == ADMIN


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("127.0.0.1:8080", True),
        ("127.5.6.7", True),
        ("localhost:3000", True),
        ("LOCALHOST", True),
        ("[::1]:8080", True),
        ("ledger.internal", True),
        ("ledger.internal:8443", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example:127.0.0.1", False),
        ("localhost:80@evil.example", False),
        ("ledger.internal.", False),
        ("10.0.0.7:8080", False),
        ("0.0.0.0:8080", False),
        ("[::]", False),
        ("::1", False),
        ("", False),
    ],
)
def test_hazard_27_hosts(host, answered):
    refusal = access(allow_hosts=frozenset({"Ledger.Internal"})).refuse("GET", headers(("host", host)))
    assert (refusal is None) == answered
    assert answered or refusal.status == 421


def test_hazard_27_no_host_and_two_hosts():
    assert access().refuse("GET", headers()).status == 421
    assert access().refuse("GET", headers(("host", "localhost"), ("host", "localhost"))).status == 421


@pytest.mark.parametrize(
    ("method", "sent", "passes"),
    [
        ("POST", [], True),
        ("POST", [("origin", "http://localhost:8080")], True),
        ("POST", [("origin", "https://localhost:8080")], True),  # behind a proxy that ends TLS
        ("POST", [("origin", "http://localhost:9999")], False),  # another port is another origin
        ("POST", [("origin", "http://127.0.0.1:8080")], False),
        ("POST", [("origin", "null")], False),
        ("POST", [("origin", "https://evil.example")], False),
        ("GET", [("origin", "https://evil.example")], False),
        ("POST", [("origin", "http://localhost:8080"), ("origin", "https://evil.example")], False),
        ("POST", [("sec-fetch-site", "same-origin")], True),
        ("POST", [("sec-fetch-site", "none")], True),
        ("POST", [("sec-fetch-site", "cross-site")], False),
        ("PATCH", [("sec-fetch-site", "same-site")], False),
        ("GET", [("sec-fetch-site", "cross-site")], True),  # a link from elsewhere to the dashboard
    ],
)
def test_hazard_27_origins_and_sites(method, sent, passes):
    refusal = access().refuse(method, headers(("host", "localhost:8080"), *sent))
    assert (refusal is None) == passes
    assert passes or refusal.status == 403


@pytest.mark.parametrize(
    ("settings", "sent", "reads"),
    [
        ({}, [("authorization", "Bearer the-metrics-token")], True),
        ({}, [("authorization", "Bearer the-admin-token")], True),
        ({}, [("authorization", f"Bearer {KEY}")], False),
        ({}, [], False),
        ({"no_auth": True}, [("host", "localhost:8080")], True),
        ({"no_auth": True}, [("host", "evil.example")], False),
        ({"no_auth": True}, [("host", "10.0.0.7"), ("authorization", "Bearer the-metrics-token")], True),
    ],
)
def test_who_reads_the_metrics(settings, sent, reads):
    assert access(**settings).reads_metrics(headers(*sent)) == reads


def test_the_admin_token_is_made_once_into_a_private_file(tmp_path):
    token, path = admin_token(tmp_path / "data", {})
    assert path == tmp_path / "data" / "admin-token"
    assert len(token) >= 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert admin_token(tmp_path / "data", {}) == (token, path)
    assert [file.name for file in path.parent.iterdir()] == ["admin-token"]


def test_an_empty_token_file_is_no_token(tmp_path):
    (tmp_path / "admin-token").write_text("\n")
    token, path = admin_token(tmp_path, {ADMIN_TOKEN_ENV: "  "})
    assert token
    assert path.read_text().strip() == token


def test_the_environments_token_leaves_no_file(tmp_path):
    assert admin_token(tmp_path, {ADMIN_TOKEN_ENV: "from-the-environment"}) == ("from-the-environment", None)
    assert list(tmp_path.iterdir()) == []
