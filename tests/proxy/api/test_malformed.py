"""What is sent wrongly: refused at once with its status, and nothing stored."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest

# What stands for @ is what is tried.
AGENT = '{"name":"a","role":"b","ownerId":"c","perActionLimit":1,"monthlyBudget":@}'
NAMED = '{"name":"@","role":"b","ownerId":"c","perActionLimit":1,"monthlyBudget":1}'
ACTION = '{"agentId":"painter","actionType":"a","target":"t","outcome":"success","cost":@}'
NESTED = '{"agentId":"painter","actionType":"a","target":"t","outcome":"success","cost":0,"metadata":@}'
EXPLAIN = '{"upstream":"openai","method":"POST","path":"/","body":@}'


async def nothing_stored(api) -> bool:
    return [agent.id for agent in api.sidecar.ledger.agents()] == ["painter"] and not (
        await api.http.get("/api/actions")
    ).json()["items"]


@pytest.mark.parametrize(
    ("amount", "status"),
    [
        ("1e400", 422), ("1e999999999", 422), ("-1", 422), ("-0.01", 422), ("true", 422), ('"5"', 422), ("null", 422),
        ("1000000000000", 422), ("1000000000.000000001", 422), ("0.0000000001", 422), ("1e-400", 422), ("[5]", 422),
        ("{}", 422), ("1.00000000000000000000000000000000001", 422), ("1" * 4000, 422),
        ("0." + "1" * 4000, 422), ("0." + "1" * 100_000, 400), ("NaN", 400),
        ("Infinity", 400), ("-Infinity", 400), ("1" * 5000, 400), ("1e99999999999999999999", 400),
        ("01", 400), ("+1", 400), (".5", 400), ("0x10", 400),
    ],
)  # fmt: skip
async def test_hazard_28_money(api, amount, status):
    answer = await api.send("POST", "/api/agents", AGENT.replace("@", amount).encode())
    assert answer.status_code == status, answer.text
    if status == 422:
        assert [problem["field"] for problem in answer.json()["error"]["fields"]] == ["monthlyBudget"]
    assert (await api.send("POST", "/api/actions", ACTION.replace("@", amount).encode())).status_code == status
    assert await nothing_stored(api)


@pytest.mark.parametrize("text", ["\\ud800", "a\\udfffb", "\\u0000", "a\\u0000"])
@pytest.mark.parametrize("field", ["agentId", "actionType", "target", "metadata"])
async def test_hazard_28_lone_surrogates_and_nul(api, field, text):
    fields = {"agentId": "painter", "actionType": "a", "target": "t", "outcome": "success"}
    body = json.dumps({**fields, "cost": 0, field: "@"}).replace("@", text)
    answer = await api.send("POST", "/api/actions", body.encode())
    assert answer.status_code == 422
    assert answer.json()["error"]["fields"][0]["field"] == field
    assert (await api.send("POST", "/api/agents", NAMED.replace("@", text).encode())).status_code == 422
    assert await nothing_stored(api)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 100_000, 400),
        (b'{"metadata":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b'{"metadata":' * 50_000, 400),
        (b'{"agentId":' + b"9" * 5000 + b"}", 400),
        ('{"agentId": "painter"}'.encode("utf-16"), 400),
        ('{"agentId": "painter"}'.encode("utf-32"), 400),
        (b'\xef\xbb\xbf{"agentId": "painter"}', 400),
        (b'{"agentId": "\xff"}', 400),
        (b'{"agentId": "painter", "agentId": "other"}', 400),
        (b'{"agentId": "painter", "agent\\u0049d": "other"}', 400),
        (b'{"agentId": "painter"', 400),
        (b"", 400),
        (b"[]", 422),
        (b'"painter"', 422),
        (b"null", 422),
        (b"{}", 422),
    ],
)
async def test_hazards_29_and_30_bodies_that_are_not_one_plain_object(api, body, status):
    async with asyncio.timeout(10):
        answer = await api.send("POST", "/api/actions", body)
    assert answer.status_code == status, answer.text
    assert await nothing_stored(api)


@pytest.mark.parametrize("depth", [100, 400, 800, 990])
async def test_hazard_29_nesting_that_parses_is_kept_or_refused_never_an_error(api, depth):
    nested = '{"a":' * depth + "1" + "}" * depth
    body = NESTED.replace("@", nested).encode()
    assert (await api.send("POST", "/api/actions", body)).status_code in (201, 400, 422)
    assert (await api.send("POST", "/api/explain", EXPLAIN.replace("@", nested).encode())).status_code in (
        200,
        400,
        422,
    )


async def test_hazard_29_a_member_with_a_strange_name_is_told_safely(api):
    answer = await api.send("POST", "/api/actions", b'{"\\ud800\\u0000<b>": 1}')
    assert answer.status_code == 422
    assert answer.json()["error"]["fields"][-1] == {"field": "\\ud800\x00<b>", "message": "unknown"}


async def test_hazard_29_a_multitude_of_members_is_answered_briefly(api):
    body = "{" + ",".join(f'"member{number}":0' for number in range(50_000)) + "}"
    answer = await api.send("POST", "/api/actions", body.encode())
    assert (answer.status_code, len(answer.json()["error"]["fields"])) == (422, 100)
    assert len(answer.content) < 10_000


async def test_hazard_31_a_compressed_body_is_415(api):
    body = gzip.compress(b'{"agentId": "painter"}')
    answer = await api.send("POST", "/api/actions", body, content_encoding="gzip")
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_encoding")


async def test_a_body_above_the_cap_is_413_whether_or_not_it_says_its_length(api):
    async def chunks():
        for _ in range(20):
            yield b" " * 65_536

    stated = await api.send("POST", "/api/actions", b" " * (1024 * 1024 + 1))
    assert (stated.status_code, stated.json()["error"]["code"]) == (413, "body_too_large")
    assert (await api.send("POST", "/api/actions", chunks())).status_code == 413
    assert (await api.send("POST", "/api/actions", b"{}" + b" " * (1024 * 1024 - 2))).status_code == 422


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("HEAD", "/api/agents", "GET, POST"),
        ("OPTIONS", "/api/agents", "GET, POST"),
        ("PUT", "/api/agents/painter", "GET, PATCH, DELETE"),
        ("DELETE", "/api/actions", "GET, POST"),
        ("PROPFIND", "/api/policy", "GET"),
        ("GET", "/api/policy/reload", "POST"),
        ("POST", "/healthz", "GET"),
    ],
)
async def test_other_methods_are_405(api, method, path, allow):
    answer = await api.http.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/api/",
        "/api/agents/",
        "/api/agents/painter/",
        "/api/nothing",
        "/api/actions/a/b",
        "/api/agents//painter",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_hazard_12_where_there_is_nothing_is_404_and_never_a_redirect(api, method, path):
    answer = await api.http.request(method, path)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


async def test_a_client_that_leaves_halfway_stores_nothing(api):
    host, port = api.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = "POST /api/actions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer test-admin-token\r\n"
    head += "content-type: application/json\r\ncontent-length: 500\r\n\r\n{"
    writer.write(head.encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert await nothing_stored(api)
