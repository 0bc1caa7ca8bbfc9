from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.datastructures import Headers

from proxy.access import ADMIN, Access, Principal
from proxy.identify import digest
from proxy.metrics import Metrics
from proxy.settings import Settings
from proxy.state import Sidecar

KEY = "alk_" + "k" * 43
BOT = Principal("bot")


def access(**settings) -> Access:
    keys = {digest(KEY): SimpleNamespace(id="bot")}
    ledger = SimpleNamespace(agent_by_key=keys.get)
    given = {"admin_token": "the-admin-token", "metrics_token": "the-metrics-token", **settings}
    return Access(Sidecar(Settings(policy=Path("p"), data=Path("d"), **given), ledger, None, Metrics(), None))


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


HOSTS = {
    "127.0.0.1:8080": True,
    "127.5.6.7": True,
    "localhost": True,
    "localhost:3000": True,
    "LOCALHOST:80": True,
    "[::1]": True,
    "[::1]:8080": True,
    "ledger.internal": True,
    "LEDGER.internal:8443": True,
    "[fd00::7]:8080": True,
    "evil.example": False,
    "": False,
    " ": False,
    ":8080": False,
    # a name that only looks like ours
    "localhost.evil.example": False,
    "evil-localhost": False,
    "localhost.": False,
    "127.0.0.1.": False,
    "127.0.0.1.evil.example": False,
    "127.0.0.1.nip.io": False,
    "127-0-0-1.nip.io": False,
    "localtest.me": False,
    "ledger.internal.": False,
    "ledger.internal.evil.example": False,
    "sub.ledger.internal": False,
    "ledgerXinternal": False,
    # more than a name and a port
    "evil.example:127.0.0.1": False,
    "localhost:80@evil.example": False,
    "evil.example@localhost": False,
    "user:pass@localhost": False,
    "localhost/evil.example": False,
    "localhost?": False,
    "localhost#": False,
    "localhost, evil.example": False,
    "localhost evil.example": False,
    "localhost\t": False,
    "localhost\n": False,
    "http://localhost": False,
    # a port that is none
    "localhost:": False,
    "localhost:x": False,
    "localhost:-1": False,
    "localhost:123456": False,
    "localhost:80:80": False,
    "localhost:\xb2": False,
    # addresses that are not loopback, or not as a browser writes them
    "10.0.0.7:8080": False,
    "0.0.0.0:8080": False,
    "0": False,
    "128.0.0.1": False,
    "169.254.169.254": False,
    "127.1": False,
    "127.0.0.1.1": False,
    "127.0.0.256": False,
    "127.00.0.1": False,
    "2130706433": False,
    "017700000001": False,
    "0x7f000001": False,
    "0x7f.0.0.1": False,
    "::1": False,
    "[::]": False,
    "[::1": False,
    "[::1]x": False,
    "[::1%25lo]": False,
    "[0:0:0:0:0:0:0:1]": False,
    "[::ffff:127.0.0.1]": False,
    "[fd00::8]:8080": False,
    "[localhost]": False,
}


@pytest.mark.parametrize(("host", "answered"), HOSTS.items())
def test_hazard_27_hosts(host, answered):
    allowed = frozenset({"Ledger.Internal", "[fd00::7]"})
    refusal = access(allow_hosts=allowed).refuse("GET", headers(("host", host)))
    assert (refusal is None) == answered
    assert answered or refusal.status == 421


def test_hazard_27_no_host_and_two_hosts():
    assert access().refuse("GET", headers()).status == 421
    assert access().refuse("GET", headers(("host", "localhost"), ("host", "localhost"))).status == 421
    assert access().refuse("GET", headers(("host", "localhost"), ("host", "evil.example"))).status == 421


def test_hazard_27_a_host_allowed_with_its_port_is_allowed_with_that_port_alone():
    allowed = access(allow_hosts=frozenset({"ledger.internal:8443"}))
    assert allowed.refuse("GET", headers(("host", "ledger.internal:8443"))) is None
    assert allowed.refuse("GET", headers(("host", "ledger.internal:80"))).status == 421
    assert allowed.refuse("GET", headers(("host", "ledger.internal"))).status == 421


OWN = [("origin", "http://localhost:8080")]


@pytest.mark.parametrize(
    ("method", "sent", "passes"),
    [
        ("POST", [], True),
        ("POST", OWN, True),
        ("POST", [("origin", "HTTP://LOCALHOST:8080")], True),
        ("POST", [("origin", "https://localhost:8080")], True),  # behind a proxy that ends TLS
        ("POST", [("origin", "http://localhost:9999")], False),  # another port is another origin
        ("POST", [("origin", "http://localhost")], False),
        ("POST", [("origin", "http://127.0.0.1:8080")], False),
        ("POST", [("origin", "http://[::1]:8080")], False),
        ("POST", [("origin", "http://localhost:8080.evil.example")], False),
        ("POST", [("origin", "http://localhost:8080@evil.example")], False),
        ("POST", [("origin", "http://localhost.:8080")], False),
        ("POST", [("origin", "http://localhost:8080/")], False),
        ("POST", [("origin", "localhost:8080")], False),
        ("POST", [("origin", "ftp://localhost:8080")], False),
        ("POST", [("origin", "file://")], False),
        ("POST", [("origin", "chrome-extension://abcdef")], False),
        ("POST", [("origin", "null")], False),
        ("POST", [("origin", "")], False),
        ("POST", [("origin", "*")], False),
        ("POST", [("origin", "http://localhost:8080, https://evil.example")], False),
        ("POST", [("origin", "https://evil.example")], False),
        ("GET", [("origin", "https://evil.example")], False),
        ("OPTIONS", [("origin", "https://evil.example")], False),  # a preflight
        ("POST", [*OWN, ("origin", "https://evil.example")], False),
        ("POST", [("origin", "https://evil.example"), *OWN], False),
        ("POST", [("sec-fetch-site", "same-origin")], True),
        ("POST", [("sec-fetch-site", "none")], True),
        ("POST", [("sec-fetch-site", "cross-site")], False),
        ("POST", [("sec-fetch-site", "cross-site"), *OWN], False),
        ("POST", [("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], False),
        ("POST", [("sec-fetch-site", "")], False),
        ("PATCH", [("sec-fetch-site", "same-site")], False),
        ("DELETE", [("sec-fetch-site", "cross-site")], False),
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
