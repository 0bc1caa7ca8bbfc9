"""Who is calling, on the line: our key is checked and stripped in every slot; any other is the upstream's."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.identify import digest
from tests.proxy.line.governed import governed
from tests.proxy.upstreams import answer, says

KEY = "alk_the_worker_s_own_key"
POLICY = f"""
version: 1
upstreams:
  up: {{url: "URL"}}
  sidecars: {{url: "URL", set_headers: {{authorization: "Bearer sk-sidecar", x-extra: "1"}}}}
agents:
  - {{id: worker, monthly_budget: 10, key: {KEY}}}
  - {{id: open, monthly_budget: 10}}
prices:
  - {{name: call, match: {{}}, rates: {{request: 0.01}}}}
"""
SLOTS = {
    "X-Ledger-Key": f"X-Ledger-Key: {KEY}",
    "Authorization": f"Authorization: Bearer {KEY}",
    "Authorization, lower case": f"authorization: bearer  {KEY}",
    "x-api-key": f"x-api-key: {KEY}",
    "api-key": f"api-key: {KEY}",
    "x-goog-api-key": f"X-Goog-Api-Key: {KEY}",
}


@pytest.mark.parametrize("slot", SLOTS)
async def test_promise_10_the_key_is_stripped_from_its_slot(tmp_path: Path, slot: str) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        assert (await line.post("/up/x", {}, SLOTS[slot].encode())).status == 200
        assert (await line.ended()).agent_id == "worker"
        [seen] = line.upstream.seen
        assert {name.lower() for name, _ in seen.headers} == {b"host", b"content-length"}


@pytest.mark.parametrize(
    ("query", "left"),
    [(f"?key={KEY}", ""), (f"?a=1&key={KEY}&b=%20", "?a=1&b=%20"), (f"?key=alk%5F{KEY[4:]}&key=theirs", "?key=theirs")],
)
async def test_promise_10_the_key_is_stripped_from_the_query(tmp_path: Path, query: str, left: str) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        assert (await line.post(f"/up/x{query}", {}, b"X-Other: 1")).status == 200
        assert line.upstream.seen[0].target.decode() == f"/x{left}"


@pytest.mark.parametrize("header", [*SLOTS.values(), None])
async def test_a_wrong_key_in_any_slot_is_401_whoever_else_is_named(tmp_path: Path, header: str | None) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        wrong = header.replace(KEY, "alk_wrong") if header else "X-Other: 1"
        query = "" if header else "?key=alk_wrong"
        got = await line.post(f"/up/x{query}", {}, wrong.encode(), b"X-Agent-Id: open")
        assert (got.status, got.header("www-authenticate")) == (401, "Bearer")
    assert line.upstream.lines == []


async def test_the_agent_s_own_provider_credential_passes(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        theirs = [b"Authorization: Bearer sk-own", b"x-api-key: own", b"X-Goog-Api-Key: own", b"api-key: own"]
        await line.post("/up/x?key=own", {}, f"X-Ledger-Key: {KEY}".encode(), *theirs)
        [seen] = line.upstream.seen
        assert [f"{name.decode()}: {value.decode()}" for name, value in seen.headers if b"own" in value] == [
            each.decode().lower().replace("bearer", "Bearer") for each in theirs
        ]
        assert seen.target == b"/x?key=own"


async def test_set_headers_replaces_what_the_agent_sent(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        await line.post(
            "/sidecars/x", {}, f"X-Ledger-Key: {KEY}".encode(), b"AUTHORIZATION: Bearer sk-own", b"X-Extra: 2"
        )
        [seen] = line.upstream.seen
        assert (seen.header("authorization"), seen.header("x-extra")) == ("Bearer sk-sidecar", "1")


async def test_what_is_ours_never_reaches_the_upstream(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        await line.post(
            "/up/x", {}, b"X-Agent-Id: open", b"X-Ledger-Anything: 1", b"Cookie: agent_ledger_session=s; a=1"
        )
        [seen] = line.upstream.seen
        assert not [name for name in seen.names() if name.startswith(b"x-ledger") or name == b"x-agent-id"]
        assert seen.header("cookie") == "a=1"


async def test_an_id_alone_is_not_enough_where_the_agent_has_a_key(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        assert (await line.post("/up/x", {}, b"X-Agent-Id: worker")).status == 401
        assert (await line.post("/up/x", {}, b"X-Agent-Id: open", b"Authorization: Bearer sk-own")).status == 200


async def test_serve_agent_takes_every_call_without_a_key_and_no_one_else_s_name(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer()), agent="open") as line:
        for headers in ([b"X-Other: 1"], [b"X-Agent-Id: worker"], [f"X-Ledger-Key: {KEY}".encode()]):
            assert (await line.post("/up/x", {}, *headers)).status == 200
        assert [(await line.ended()).agent_id for _ in range(3)] == ["open", "open", "worker"]
        assert b"x-agent-id" not in line.upstream.seen[1].names()


@pytest.mark.parametrize("name", [b"Authorization: Bearer a", b"X-Agent-Id: open", b"X-Ledger-Key: alk_a"])
async def test_hazard_15_a_duplicate_of_what_identifies_is_400(tmp_path: Path, name: bytes) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        assert (await line.post("/up/x", {}, name, name)).status == 400
    assert line.upstream.lines == []


async def test_a_new_key_by_the_api_holds_at_once_and_the_agent_alone_is_then_refused(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        fields = {"name": "made", "role": "r", "ownerId": "o", "monthlyBudget": 1, "perActionLimit": 1}
        made = (await line.api("POST", "/api/agents", json=fields)).json()
        assert (await line.post("/up/x", {}, f"x-api-key: {made['key']}".encode())).status == 200
        assert (await line.post("/up/x", {}, f"X-Agent-Id: {made['id']}".encode())).status == 401


async def test_promise_11_a_revoked_key_is_refused_at_once_and_its_agent_stays_closed(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        ledger = line.app.sidecar.ledger
        key = await ledger.add_key("open", digest("alk_rolled_over"))
        assert (await line.post("/up/x", {}, b"X-Ledger-Key: alk_rolled_over")).status == 200
        await ledger.revoke_key("open", key.id)
        assert (await line.post("/up/x", {}, b"X-Ledger-Key: alk_rolled_over")).status == 401
        assert (await line.post("/up/x", {}, b"X-Agent-Id: open")).status == 401
        assert len(line.upstream.seen) == 1
