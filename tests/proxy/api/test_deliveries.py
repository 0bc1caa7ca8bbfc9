from __future__ import annotations


async def waiting(api) -> dict:
    """One alert that waits for the policy's webhook, which nothing is sent to."""
    agent = await api.register(monthlyBudget=1)
    assert (await api.report(agent["id"], 2)).status_code == 403
    (found,) = (await api.http.get("/api/deliveries")).json()
    return found


async def test_what_waits_what_was_given_up_and_once_more(api):
    found = await waiting(api)
    (alert,) = (await api.http.get("/api/alerts")).json()
    assert found == {
        "id": found["id"],
        "alertId": alert["id"],
        "webhook": "hooks.example",
        "attempts": 0,
        "lastError": None,
        "nextAt": found["nextAt"],
        "status": "waiting",
    }
    assert (await api.http.post(f"/api/deliveries/{found['id']}/retry")).status_code == 404
    await api.sidecar.ledger.give_up(found["id"], "status 410")
    (dead,) = (await api.http.get("/api/deliveries")).json()
    assert dead == found | {"lastError": "status 410", "nextAt": None, "status": "dead"}
    again = await api.http.post(f"/api/deliveries/{found['id']}/retry")
    assert (again.status_code, again.json()["status"]) == (200, "waiting")
    assert (await api.http.get("/api/deliveries")).json() == [again.json()]
    assert (await api.http.post("/api/deliveries/dlv_none/retry")).status_code == 404


async def test_a_test_tells_of_each_webhook_in_force(api):
    assert (await api.http.post("/api/alerts/test")).json() == []  # none is in force here yet
    text = api.policy.read_text()
    api.policy.write_text(text.replace("https://hooks.example/services/very-secret", "http://127.0.0.1:1/planted-path"))
    assert (await api.http.post("/api/policy/reload")).status_code == 200
    answer = await api.http.post("/api/alerts/test")
    assert answer.json() == [{"webhook": "127.0.0.1:1", "delivered": False, "error": "connection refused"}]
    assert (await api.http.get("/api/deliveries")).json() == (await api.http.get("/api/alerts")).json() == []
