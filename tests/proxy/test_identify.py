from __future__ import annotations

import pytest

from proxy.denials import Refused
from proxy.identify import digest, identify
from proxy.ledger.port import Agent, Key

KEY = "alk_secret_of_keyed"


class Agents:
    """The two look-ups of the ledger that identity needs."""

    def __init__(self) -> None:
        def agent(name, **more):
            return Agent(name, name, "", "", 0, None, 0, **more)

        self.by_id = {
            "open": agent("open"),
            "keyed": agent("keyed", keys=(Key(digest(KEY)),)),
            "revoked": agent("revoked", keys=(Key("00", expires_at=1),)),
            "gone": agent("gone", archived=True),
        }

    def agent(self, agent_id):
        return self.by_id.get(agent_id)

    def agent_by_key(self, found):
        return self.by_id["keyed"] if found == digest(KEY) else None


def who(*headers, query=b"", default=None):
    return identify(Agents(), [(n.encode(), v.encode()) for n, v in headers], query, default)


@pytest.mark.parametrize(
    "slot",
    [
        ("x-ledger-key", KEY),
        ("authorization", f"Bearer {KEY}"),
        ("authorization", f"bearer {KEY}"),
        ("authorization", f"Token  {KEY} "),
        ("authorization", KEY),
        ("x-api-key", KEY),
        ("api-key", KEY),
        ("x-goog-api-key", KEY),
    ],
)
def test_our_key_is_taken_from_any_slot_and_stripped(slot):
    caller = who(slot, ("accept", "*/*"))
    assert caller.agent.id == "keyed"
    assert caller.headers == [(b"accept", b"*/*")]


@pytest.mark.parametrize("query", [b"key=" + KEY.encode(), b"key=alk%5Fsecret_of_keyed", b"k%65y=" + KEY.encode()])
def test_our_key_is_taken_from_the_query_and_stripped(query):
    caller = who(query=b"alt=sse&" + query + b"&x=%2F")
    assert caller.agent.id == "keyed"
    assert caller.query == b"alt=sse&x=%2F"


def test_an_upstream_credential_passes_beside_our_key():
    caller = who(("x-ledger-key", KEY), ("authorization", "Bearer sk-provider"), ("x-api-key", "sk-ant"))
    assert caller.headers == [(b"authorization", b"Bearer sk-provider"), (b"x-api-key", b"sk-ant")]


def test_promise_10_the_dashboards_session_never_goes_upstream():
    caller = who(("x-agent-id", "open"), ("cookie", "a=1; agent_ledger_session=secret; b=2"))
    assert caller.headers == [(b"cookie", b"a=1; b=2")]
    assert who(("x-agent-id", "open"), ("cookie", "agent_ledger_session=secret")).headers == []


def test_an_upstream_key_in_the_query_passes():
    assert who(("x-agent-id", "open"), query=b"key=AIza").query == b"key=AIza"


def test_x_agent_id_names_an_agent_without_a_key_and_never_passes_on():
    caller = who(("x-agent-id", "open"))
    assert caller.agent.id == "open"
    assert caller.headers == []


def test_a_key_decides_over_x_agent_id():
    assert who(("x-agent-id", "open"), ("x-ledger-key", KEY)).agent.id == "keyed"


def test_serve_agent_takes_calls_without_a_key_and_ignores_x_agent_id():
    assert who(default="keyed").agent.id == "keyed"
    assert who(("x-agent-id", "open"), default="keyed").agent.id == "keyed"


def test_serve_agent_does_not_excuse_a_wrong_key():
    with pytest.raises(Refused) as refused:
        who(("x-ledger-key", "alk_wrong"), default="open")
    assert refused.value.status == 401


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ([], 401, "unauthenticated"),
        ([("authorization", "Bearer sk-provider")], 401, "unauthenticated"),
        ([("authorization", "Bearer alk_wrong")], 401, "unauthenticated"),
        ([("x-ledger-key", "mistyped")], 401, "unauthenticated"),
        ([("x-ledger-key", "")], 401, "unauthenticated"),
        ([("x-ledger-key", KEY), ("x-api-key", "alk_other")], 401, "unauthenticated"),
        ([("x-agent-id", "keyed")], 401, "unauthenticated"),
        ([("x-agent-id", "revoked")], 401, "unauthenticated"),
        ([("x-agent-id", "nobody")], 404, "agent_not_found"),
        ([("x-agent-id", "gone")], 404, "agent_not_found"),
        ([("x-agent-id", "")], 404, "agent_not_found"),
    ],
)
def test_refusals(headers, status, code):
    with pytest.raises(Refused) as refused:
        who(*headers)
    assert (refused.value.status, refused.value.code) == (status, code)


def test_promise_10_a_wrong_key_is_not_repeated_in_the_refusal():
    with pytest.raises(Refused) as refused:
        who(("x-ledger-key", "alk_very_wrong_secret"))
    assert "very_wrong" not in refused.value.message
