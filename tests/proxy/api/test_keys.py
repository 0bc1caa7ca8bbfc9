from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from proxy.identify import digest


async def make(api, agent_id="painter", **body):
    return await api.http.post(f"/api/agents/{agent_id}/keys", json=body)


async def listed(api, agent_id="painter"):
    return (await api.http.get(f"/api/agents/{agent_id}/keys")).json()


async def opens(api, key, agent_id="painter"):
    answer = await api.bare.get(f"/api/agents/{agent_id}", headers={"x-ledger-key": key})
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


async def test_a_rollover_is_one_call(api):
    first = (await make(api)).json()
    answer = await make(api, retireOthersAfterS=0)
    assert answer.status_code == 201
    second = answer.json()
    assert re.fullmatch(r"alk_[\w-]{43}", second["key"])
    assert [await opens(api, key) for key in (first["key"], second["key"])] == [False, True]
    third = (await make(api, retireOthersAfterS=3600)).json()
    assert [await opens(api, key) for key in (second["key"], third["key"])] == [True, True]
    of_file, *ours = sorted(await listed(api), key=lambda key: key["createdAt"] or "")
    assert of_file == {"id": "policy", "createdAt": None, "expiresAt": None, "active": True}
    assert [(key["id"], key["active"]) for key in ours] == [
        (first["id"], False), (second["id"], True), (third["id"], True),
    ]  # fmt: skip
    ends = datetime.fromisoformat(ours[1]["expiresAt"]) - datetime.fromisoformat(ours[2]["createdAt"])
    assert ends == timedelta(hours=1)
    assert await opens(api, "alk_painter_key")  # the policy file's own is the file's to change


async def test_a_revoked_key_is_refused_at_once_and_the_agents_id_alone_opens_nothing(api):
    agent = await api.register()
    (key,) = await listed(api, agent["id"])
    assert await opens(api, agent["key"], agent["id"])
    for _ in range(2):
        assert (await api.http.delete(f"/api/agents/{agent['id']}/keys/{key['id']}")).status_code == 204
        assert not await opens(api, agent["key"], agent["id"])
    assert [held["active"] for held in await listed(api, agent["id"])] == [False]
    assert api.sidecar.ledger.agent(agent["id"]).keys


async def test_promise_10_a_key_is_shown_once_and_its_digest_never(api):
    made = (await make(api)).json()
    await api.report("painter", outcome="failure")
    paths = ("/api/agents", "/api/agents/painter", "/api/agents/painter/keys", "/api/policy", "/api/alerts", "/metrics")
    for path in (*paths, "/api/export", "/api/export?format=csv", "/api/actions"):
        text = (await api.http.get(path)).text
        for secret in (made["key"], digest(made["key"]), digest("alk_painter_key")):
            assert secret not in text
            assert secret[:12] not in text


async def test_keys_that_end_by_themselves(api):
    soon = datetime.now(UTC) + timedelta(days=1)
    made = (await make(api, expiresAt=soon.isoformat())).json()
    assert datetime.fromisoformat(made["expiresAt"]) - soon < timedelta(milliseconds=1)
    assert await opens(api, made["key"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"expiresAt": "2020-01-01"}, "expiresAt"),
        ({"expiresAt": None}, "expiresAt"),
        ({"expiresAt": 5}, "expiresAt"),
        ({"retireOthersAfterS": -1}, "retireOthersAfterS"),
        ({"retireOthersAfterS": 1.5}, "retireOthersAfterS"),
        ({"retireOthersAfterS": True}, "retireOthersAfterS"),
        ({"retireOthersAfterS": "0"}, "retireOthersAfterS"),
        ({"retireOthersAfterS": 31_622_401}, "retireOthersAfterS"),
        ({"key": "alk_mine"}, "key"),
    ],
)
async def test_what_is_refused_makes_no_key(api, body, field):
    answer = await make(api, **body)
    assert [problem["field"] for problem in answer.json()["error"]["fields"]] == [field]
    assert [key["id"] for key in await listed(api)] == ["policy"]


async def test_ten_are_enough(api):
    made = [await make(api) for _ in range(10)]
    answer = await make(api)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "too_many_keys")
    await api.http.delete(f"/api/agents/painter/keys/{made[0].json()['id']}")
    assert (await make(api)).status_code == 201


async def test_the_policy_files_key_and_unknown_ones(api):
    answer = await api.http.delete("/api/agents/painter/keys/policy")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "managed_by_policy")
    agent = await api.register()
    for path in (f"{agent['id']}/keys/policy", "painter/keys/key_nothing", "nobody/keys/policy"):
        assert (await api.http.delete(f"/api/agents/{path}")).status_code == 404
    for method in ("GET", "POST"):
        answer = await api.http.request(method, "/api/agents/nobody/keys", json={})
        assert answer.status_code == 404
