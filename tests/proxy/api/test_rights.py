"""Who may do what, on every path and method there is."""

from __future__ import annotations

import io
import logging

import pytest

from proxy.api import routes
from proxy.api.resource import Resource, Who
from proxy.dashboard.session import COOKIE, open_session
from proxy.identify import digest, new_key
from tests.proxy.api.conftest import ADMIN, DOCUMENT

# What an agent gets of its own, of another's, and what the admin gets. Without such a credential: 401.
ROWS = {
    ("GET", "/api/agents"): (403, 403, 200),
    ("POST", "/api/agents"): (403, 403, 201),
    ("GET", "/api/agents/{id}"): (200, 403, 200),
    ("PATCH", "/api/agents/{id}"): (403, 403, 200),
    ("DELETE", "/api/agents/{id}"): (403, 403, 204),
    ("GET", "/api/agents/{id}/keys"): (403, 403, 200),
    ("POST", "/api/agents/{id}/keys"): (403, 403, 201),
    ("DELETE", "/api/agents/{id}/keys/{keyId}"): (403, 403, 204),
    ("GET", "/api/actions"): (200, 403, 200),
    ("POST", "/api/actions"): (201, 403, 201),
    ("GET", "/api/actions/{id}"): (200, 404, 200),
    ("POST", "/api/adjustments"): (403, 403, 201),
    ("GET", "/api/export"): (403, 403, 200),
    ("GET", "/api/alerts"): (200, 403, 200),
    ("POST", "/api/alerts/{id}/acknowledge"): (403, 403, 200),
    ("POST", "/api/alerts/test"): (403, 403, 200),
    ("GET", "/api/deliveries"): (403, 403, 200),
    ("POST", "/api/deliveries/{id}/retry"): (403, 403, 404),
    ("GET", "/api/spend"): (200, 403, 200),
    ("GET", "/api/reservations"): (403, 403, 200),
    ("GET", "/api/policy"): (403, 403, 200),
    ("POST", "/api/policy/reload"): (403, 403, 200),
    ("POST", "/api/explain"): (403, 403, 200),
    ("GET", "/openapi.json"): (200, 200, 200),
}
OPEN = (("GET", "/healthz"), ("GET", "/readyz"))
METRICS = ("GET", "/metrics")
LISTS = {("GET", "/api/actions"), ("GET", "/api/alerts"), ("GET", "/api/spend")}

BODIES = {
    ("POST", "/api/agents"): {"name": "n", "role": "r", "ownerId": "o", "monthlyBudget": 1, "perActionLimit": None},
    ("PATCH", "/api/agents/{id}"): {"monthlyBudget": 5},
    ("POST", "/api/agents/{id}/keys"): {},
    ("POST", "/api/actions"): {"actionType": "a", "target": "t", "cost": 0.01, "outcome": "success"},
    ("POST", "/api/adjustments"): {"amount": -1, "reason": "credit"},
    ("POST", "/api/explain"): {"upstream": "openai", "method": "GET", "path": "/v1/models"},
}


def test_every_operation_of_the_contract_has_a_row():
    stated = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert {row for row in stated if row[0] != "PARAMETERS"} == {*ROWS, *OPEN, METRICS}


async def callers(api) -> tuple[dict[str, dict[str, str]], str]:
    """The headers of everyone there is, and the id of the agent whose things are reached for."""
    agent, other, archived = await api.register(), await api.register(), await api.register()
    await api.http.delete(f"/api/agents/{archived['id']}")
    revoked, expired = new_key(), new_key()
    key = await api.sidecar.ledger.add_key(agent["id"], digest(revoked))
    await api.sidecar.ledger.revoke_key(agent["id"], key.id)
    await api.sidecar.ledger.add_key(agent["id"], digest(expired), 1)
    bearers = {
        "wrong": "wrong",
        "revoked": revoked,
        "expired": expired,
        "archived": archived["key"],
        "metrics": "test-metrics-token",
        "own": agent["key"],
        "another's": other["key"],
        "admin": ADMIN,
    }
    session = {"cookie": f"{COOKIE}={open_session(ADMIN)}"}
    found = {who: {"authorization": f"Bearer {token}"} for who, token in bearers.items()}
    found |= {"nobody": {}, "its id": {"x-agent-id": agent["id"]}}
    found |= {
        "session": session | {"origin": api.url},
        "session elsewhere": session | {"origin": "https://evil.example"},
    }
    return found, agent["id"]


def expected(row: tuple[str, str], who: str) -> int:
    if row in OPEN:
        return 200
    if row == METRICS:
        return 200 if who in ("metrics", "admin") else 401
    if who == "session elsewhere":
        return 403
    return dict(zip(("own", "another's", "admin"), ROWS[row], strict=True)).get(who, 401)


@pytest.mark.parametrize("row", [*ROWS, *OPEN, METRICS], ids=" ".join)
async def test_promise_11_who_may_do_what(api, row):
    method, path = row
    headers, agent_id = await callers(api)
    action = (await api.report(agent_id, outcome="failure")).json()
    alert = (await api.http.get("/api/alerts")).json()[0]
    of = {"/api/actions/{id}": action["id"], "/api/alerts/{id}/acknowledge": alert["id"]}
    key_id = api.sidecar.ledger.agent(agent_id).keys[0].id
    at = path.replace("{id}", of.get(path, agent_id)).replace("{keyId}", key_id)
    query = {"agentId": agent_id} if row in LISTS else None
    body = BODIES.get(row)
    if path in ("/api/actions", "/api/adjustments") and body is not None:
        body = body | {"agentId": agent_id}
    for who, sent in sorted(headers.items(), key=lambda held: held[0] == "admin"):  # the admin last: it changes things
        answer = await api.bare.request(method, at, params=query, json=body, headers=sent)
        assert answer.status_code == expected(row, who), (who, answer.text)


def operations(api) -> list[tuple[str, str, Who]]:
    resources = [(route.path, route.app) for route in routes(api.sidecar)]
    return [
        (method, path, stated.who)
        for path, resource in resources
        if isinstance(resource, Resource)
        for method, stated in resource.methods.items()
    ]


@pytest.mark.parametrize("credential", [None, "Bearer wrong", "Bearer alk_wrong", "Basic dGVzdDp0ZXN0"])
async def test_promise_11_without_a_right_credential_everything_is_401(api, credential):
    headers = {"authorization": credential} if credential else {}
    for method, path, who in operations(api):
        answer = await api.bare.request(
            method, path.replace("{id}", "painter").replace("{keyId}", "policy"), headers=headers
        )
        if who is Who.ANYONE and path != "/metrics":
            assert answer.status_code == 200, path
            continue
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "unauthenticated"
        assert credential is None or credential.split()[1] not in answer.text
    assert api.sidecar.metrics.denials["unauthenticated"] > 0


async def test_promise_11_an_agent_may_not_what_is_the_admins(api):
    agent = await api.register()
    for method, path, who in operations(api):
        if who is Who.ADMIN or path == "/metrics":
            answer = await api.bare.request(
                method, path.replace("{id}", agent["id"]), headers={"x-ledger-key": agent["key"]}
            )
            assert answer.status_code == (401 if path == "/metrics" else 403), (method, path)
    assert api.sidecar.ledger.agent(agent["id"]).status == "active"


async def test_promise_11_an_agent_cannot_lift_its_own_limits(api):
    agent = await api.register(monthlyBudget=1)
    bearer = {"authorization": f"Bearer {agent['key']}"}
    for changes in ({"monthlyBudget": 1000}, {"status": "active"}, {"perActionLimit": None}):
        assert (await api.bare.patch(f"/api/agents/{agent['id']}", json=changes, headers=bearer)).status_code == 403
    assert (await api.bare.post("/api/agents", json={}, headers=bearer)).status_code == 403
    assert (await api.bare.post("/api/policy/reload", headers=bearer)).status_code == 403


@pytest.mark.parametrize("slot", ["authorization", "x-ledger-key"])
async def test_an_agent_reports_and_reads_what_is_its_own(api, slot):
    agent, other = await api.register(), await api.register()
    headers = {slot: agent["key"] if slot == "x-ledger-key" else f"Bearer {agent['key']}"}
    given = {"actionType": "api_call", "target": "openai:gpt-4", "cost": 0.05, "outcome": "failure"}
    own = await api.bare.post("/api/actions", json=given | {"agentId": agent["id"]}, headers=headers)
    assert own.status_code == 201
    theirs = (await api.report(other["id"], outcome="failure")).json()

    async def status(path):
        return (await api.bare.get(path, headers=headers)).status_code

    another = await api.bare.post("/api/actions", json=given | {"agentId": other["id"]}, headers=headers)
    assert another.status_code == 403
    assert await status(f"/api/agents/{agent['id']}") == 200
    assert await status(f"/api/agents/{other['id']}") == 403
    assert await status("/api/agents/nobody") == 403  # no telling who there is
    assert await status(f"/api/actions/{own.json()['id']}") == 200
    assert await status(f"/api/actions/{theirs['id']}") == 404
    assert await status(f"/api/actions?agentId={other['id']}") == 403
    assert await status(f"/api/alerts?agentId={other['id']}") == 403
    assert await status("/openapi.json") == 200
    mine = (await api.bare.get("/api/actions", headers=headers)).json()["items"]
    assert [action["id"] for action in mine] == [own.json()["id"]]
    assert {alert["agentId"] for alert in (await api.bare.get("/api/alerts", headers=headers)).json()} == {agent["id"]}


async def test_a_key_of_the_policy_file_is_its_agents(api):
    headers = {"x-ledger-key": "alk_painter_key"}
    assert (await api.bare.get("/api/agents/painter", headers=headers)).json()["name"] == "Painter"


async def test_no_auth_opens_everything_on_allowed_hosts(open_api):
    assert (await open_api.bare.get("/api/agents")).status_code == 200
    assert (await open_api.bare.get("/metrics")).status_code == 200
    assert (await open_api.bare.get("/api/agents", headers={"host": "evil.example"})).status_code == 421
    assert (await open_api.bare.get("/metrics", headers={"host": "evil.example"})).status_code == 401


async def test_hazard_27_a_foreign_host_is_421_even_with_the_token(api):
    answer = await api.http.get("/api/agents", headers={"host": "evil.example"})
    assert answer.status_code == 421
    assert (await api.http.get("/api/nothing", headers={"host": "evil.example"})).status_code == 421
    assert api.sidecar.metrics.rejected["foreign_host"] == 2


async def test_probes_and_prometheus_come_with_any_host(api):
    for path in ("/healthz", "/readyz"):
        assert (await api.bare.get(path, headers={"host": "10.1.2.3:8080"})).status_code == 200
    headers = {"host": "10.1.2.3:8080", "authorization": "Bearer test-metrics-token"}
    assert (await api.bare.get("/metrics", headers=headers)).status_code == 200
    assert (await api.bare.get("/api/agents", headers=headers)).status_code == 421


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (403, {"origin": "https://evil.example"}),
        (403, {"origin": "null"}),
        (403, {"sec-fetch-site": "cross-site"}),
        (415, {"content-type": "text/plain"}),
        (415, {"content-type": "application/x-www-form-urlencoded"}),
        (415, {"content-type": "application/json; charset=utf-16"}),
        (415, {"content-type": ""}),
    ],
)
async def test_hazard_27_pages_elsewhere_change_nothing(open_api, status, headers):
    """Under --no-auth, where no token stands in the way of a page that the operator happens to visit."""
    body = b'{"name":"a","role":"b","ownerId":"c","monthlyBudget":1,"perActionLimit":1}'
    sent = {"content-type": "application/json", **headers}
    answer = await open_api.bare.post("/api/agents", content=body, headers=sent)
    assert answer.status_code == status
    for method, path in (("PATCH", "/api/agents/painter"), ("POST", "/api/actions")):
        assert (await open_api.bare.request(method, path, content=b"{}", headers=sent)).status_code == status
    if status == 403:
        assert (await open_api.bare.post("/api/policy/reload", headers=headers)).status_code == 403
        assert (await open_api.bare.delete("/api/agents/painter", headers=headers)).status_code == 403
    assert [agent.id for agent in open_api.sidecar.ledger.agents()] == ["painter"]


async def test_its_own_pages_may(api):
    origin = {"origin": api.url, "sec-fetch-site": "same-origin"}
    assert (await api.http.patch("/api/agents/painter", json={"status": "paused"}, headers=origin)).status_code == 200


@pytest.fixture
def logged():
    """What a handler at the root gets, as in `serve`. (caplog also listens to loggers that were told to be silent.)"""
    lines = io.StringIO()
    handler, root = logging.StreamHandler(lines), logging.getLogger()
    handler.addFilter(lambda record: not record.name.startswith("http"))  # the client's own
    level = root.level
    root.addHandler(handler)
    root.setLevel("DEBUG")
    yield lines
    root.setLevel(level)
    root.removeHandler(handler)


async def test_promise_10_hazard_34_no_credential_in_a_log_line(api, logged):
    agent = await api.register()
    body = {"agentId": agent["id"], "actionType": "a", "target": "t", "cost": 0.01, "outcome": "success"}
    for headers in ({"x-ledger-key": agent["key"]}, {"authorization": f"Bearer {agent['key']}"}):
        await api.bare.post("/api/actions", json=body | {"metadata": "a very private prompt"}, headers=headers)
    await api.bare.get("/api/agents?key=alk_in_a_query")
    await api.bare.get("/api/agents", headers={"x-api-key": "sk-upstream", "authorization": "Bearer alk_wrong"})
    api.policy.write_text("version: 2")
    assert (await api.http.post("/api/policy/reload")).status_code == 422
    assert "reload refused" in logged.getvalue()  # the handler does listen
    for secret in (agent["key"], ADMIN, "alk_in_a_query", "sk-upstream", "alk_wrong", "a very private prompt"):
        assert secret not in logged.getvalue()
