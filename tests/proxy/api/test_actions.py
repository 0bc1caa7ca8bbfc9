from __future__ import annotations

import asyncio
import csv
import io
import json

import httpx
import pytest

from policy.money import NANO
from proxy.export import CHUNK, exported
from proxy.ledger.port import Action, Call, IdempotencyConflict, LedgerUnavailable, Settlement
from tests.sidecar import ADMIN

HEADER = "idempotency-key"


async def test_report(api):
    agent = await api.register()
    answer = await api.report(agent["id"], 0.05, metadata='{"tokens": 1500}')
    assert answer.status_code == 201
    action = answer.json()
    assert action.items() >= {
        "agentId": agent["id"],
        "actionType": "api_call",
        "target": "openai:gpt-4",
        "cost": 0.05,
        "outcome": "success",
        "metadata": '{"tokens": 1500}',
        "count": 1,
    }.items()  # fmt: skip
    shown = (await api.http.get(f"/api/agents/{agent['id']}")).json()
    assert (shown["currentSpend"], shown["budgetRemaining"], shown["reserved"]) == (0.05, 99.95, 0)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ({"tokens": 1500, "price": 0.1}, '{"tokens":1500,"price":0.1}'),
        ("free text", "free text"),
        ("", ""),
        (None, None),
        ({}, "{}"),
    ],
)
async def test_metadata_is_a_string_or_an_object_and_kept_as_a_string(api, sent, stored):
    agent = await api.register()
    assert (await api.report(agent["id"], metadata=sent)).json()["metadata"] == stored


@pytest.mark.parametrize(
    ("status", "reason", "fields"),
    [
        (400, "per_action_limit_exceeded", {"perActionLimit": 0.01}),
        (403, "budget_exceeded", {"monthlyBudget": 0.01}),
    ],
)
async def test_denials(api, status, reason, fields):
    agent = await api.register(**fields)
    answer = await api.report(agent["id"], 0.05)
    assert answer.status_code == status
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    error = answer.json()["error"]
    assert (error["code"], error["available"]) == (reason, 0.01)
    assert "$0.05" in error["message"]
    assert "$0.01" in error["message"]
    row = (await api.http.get(f"/api/actions/{error['actionId']}")).json()
    assert (row["outcome"], row["reason"], row["cost"]) == ("denied", reason, 0)


async def test_over_the_monthly_budget_pauses_and_alerts_once(api):
    agent = await api.register(monthlyBudget=1)
    assert (await api.report(agent["id"], 0.9)).status_code == 201
    first = await api.report(agent["id"], 0.2)
    assert first.status_code == 403
    assert first.json()["error"]["budget"] == "monthly_budget"
    assert first.json()["error"]["resetsAt"].endswith("-01T00:00:00.000Z")
    second = await api.report(agent["id"], 0.01)
    assert (second.status_code, second.json()["error"]["code"]) == (403, "agent_paused")
    shown = (await api.http.get(f"/api/agents/{agent['id']}")).json()
    assert (shown["status"], shown["currentSpend"]) == ("paused", 0.9)
    alerts = (await api.http.get("/api/alerts", params={"agentId": agent["id"]})).json()
    assert [alert["type"] for alert in alerts].count("budget_exceeded") == 1


async def test_a_budget_full_of_calls_in_flight_is_transient(api):
    agent = await api.register(monthlyBudget=1)
    call = Call(agent["id"], "api_call", "openai:gpt-4o", "openai", "deal", NANO)
    await api.sidecar.ledger.authorize(call)
    answer = await api.report(agent["id"], 0.2)
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert "x-should-retry" not in answer.headers
    assert answer.json()["error"]["code"] == "budget_reserved"
    assert api.sidecar.metrics.calls["(reported)", "denied"] == 1
    assert (await api.http.get(f"/api/agents/{agent['id']}")).json()["status"] == "active"


async def test_an_unknown_agent_is_404_and_counted_not_journaled(api):
    answer = await api.report("nobody")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "agent_not_found"
    assert (await api.http.get("/api/actions")).json()["items"] == []
    assert api.sidecar.metrics.denials["agent_not_found"] == 1


async def test_every_problem_is_told_at_once(api):
    answer = await api.http.post(
        "/api/actions",
        json={"actionType": "a\nb", "target": "x" * 129, "cost": True, "outcome": "denied", "metadata": 5, "extra": 1},
        headers={HEADER: "two words"},
    )
    assert answer.status_code == 422
    assert {problem["field"] for problem in answer.json()["error"]["fields"]} == {
        "agentId", "actionType", "target", "cost", "outcome", "metadata", "extra", "Idempotency-Key",
    }  # fmt: skip


async def test_metadata_is_bounded(api):
    agent = await api.register()
    assert (await api.report(agent["id"], metadata="x" * 16_384)).status_code == 201
    assert (await api.report(agent["id"], metadata="x" * 16_385)).status_code == 422
    assert (await api.report(agent["id"], metadata={"x": "é" * 4_000})).status_code == 422  # as \u00e9


# -- Idempotency-Key ---------------------------------------------------------------------------------------------------


async def test_promise_6_hazard_43_a_key_replays_the_first_answer(api):
    agent = await api.register()
    first = await api.report(agent["id"], headers={HEADER: "k1"})
    assert first.status_code == 201
    assert "idempotency-replayed" not in first.headers
    for _ in range(2):
        again = await api.report(agent["id"], headers={HEADER: "k1"})
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers["idempotency-replayed"] == "true"
        await api.http.get("/api/actions")  # by now the read index answers, and no longer memory
    assert (await api.http.get(f"/api/agents/{agent['id']}")).json()["currentSpend"] == 0.05
    assert sum(api.sidecar.metrics.calls.values()) == 1


@pytest.mark.parametrize("before", [{"monthlyBudget": 0.01}, {"perActionLimit": 0.01}, {"status": "paused"}], ids=str)
async def test_promise_6_a_denial_is_replayed_whatever_changed_since(api, before):
    agent = await api.register()
    path = f"/api/agents/{agent['id']}"
    await api.http.patch(path, json=before)
    first = await api.report(agent["id"], headers={HEADER: "k1"})
    await api.http.patch(path, json={"status": "active", "monthlyBudget": 100, "perActionLimit": 5, "name": "New"})
    for _ in range(2):
        again = await api.report(agent["id"], headers={HEADER: "k1"})
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers["idempotency-replayed"] == "true"
        await api.http.get("/api/actions")  # by now the read index answers, and no longer memory
    assert first.status_code in (400, 403)
    assert (await api.report(agent["id"], headers={HEADER: "k2"})).status_code == 201


async def test_promise_6_hazard_43_a_key_with_another_body_is_422(api):
    agent = await api.register()
    await api.report(agent["id"], 0.05, headers={HEADER: "k1"})
    other = await api.report(agent["id"], 0.06, headers={HEADER: "k1"})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert (await api.http.get(f"/api/agents/{agent['id']}")).json()["currentSpend"] == 0.05


async def test_promise_6_a_key_is_each_agents_own(api):
    one, two = await api.register(), await api.register()
    assert (await api.report(one["id"], headers={HEADER: "k1"})).status_code == 201
    assert (await api.report(two["id"], headers={HEADER: "k1"})).status_code == 201


async def test_promise_6_hazard_43_one_key_at_once_is_one_action(api):
    agent = await api.register()
    answers = await asyncio.gather(*(api.report(agent["id"], headers={HEADER: "k1"}) for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert (await api.http.get(f"/api/agents/{agent['id']}")).json()["currentSpend"] == 0.05


async def test_hazard_43_a_key_whose_first_call_is_in_flight_is_409(api, monkeypatch):
    async def record(self, call, outcome, idempotency=None):
        raise IdempotencyConflict("its first call is in flight", in_flight=True)

    monkeypatch.setattr(type(api.sidecar.ledger), "record", record)
    answer = await api.report("painter", headers={HEADER: "k1"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "idempotency_in_flight")


async def test_promise_8_a_ledger_that_cannot_record_is_503(api, monkeypatch):
    async def record(self, call, outcome, idempotency=None):
        raise LedgerUnavailable("/data/journal: No space left on device")

    monkeypatch.setattr(type(api.sidecar.ledger), "record", record)
    answer = await api.report("painter")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert "x-should-retry" not in answer.headers
    assert "/data" not in answer.text
    assert api.sidecar.metrics.denials["ledger_unavailable"] == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "é"])
async def test_keys_that_are_refused(api, key):
    answer = await api.report("painter", headers={HEADER: key.encode("latin-1")})
    assert answer.status_code == 422
    assert answer.json()["error"]["fields"][0]["field"] == "Idempotency-Key"


# -- reading -----------------------------------------------------------------------------------------------------------


async def test_pages_newest_first(api):
    agent = await api.register()
    ids = [(await api.report(agent["id"])).json()["id"] for _ in range(7)]
    seen, cursor = [], None
    while cursor is not None or not seen:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = (await api.http.get("/api/actions", params=params)).json()
        seen.append([action["id"] for action in page["items"]])
        cursor = page["nextCursor"]
    assert seen == [ids[6:3:-1], ids[3:0:-1], ids[:1]]


async def test_filters(api):
    one, two = await api.register(), await api.register(perActionLimit=0.01)
    await api.report(one["id"], outcome="failure")
    await api.report(two["id"])
    await api.report(one["id"])

    async def found(**params):
        page = (await api.http.get("/api/actions", params=params)).json()
        return [(action["agentId"], action["outcome"]) for action in page["items"]]

    assert await found(agentId=one["id"]) == [(one["id"], "success"), (one["id"], "failure")]
    assert await found(outcome="denied") == [(two["id"], "denied")]
    assert await found(outcome="failure", agentId=one["id"]) == [(one["id"], "failure")]
    assert await found(agentId="nobody") == []
    assert len(await found(since="2020-01-01", until="2100-01-01T00:00:00+02:00")) == 3
    assert await found(until="2020-01-01") == []
    assert await found(since="2100-01-01T00:00:00.000Z") == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=1001", "limit=x", "limit=1.5", "limit=٣", "outcome=pending", "since=yesterday",
        "until=2026-13-01", "since=1700000000", "cursor=made-up", "agent=painter", "agentId=a&agentId=b", "agentId=",
        "agentId=%00",
    ],
)  # fmt: skip
async def test_bad_parameters_are_422(api, query):
    answer = await api.http.get(f"/api/actions?{query}")
    assert answer.status_code == 422
    assert [problem["field"] for problem in answer.json()["error"]["fields"]] == [query.partition("=")[0]]


async def test_one_action_with_the_arithmetic_of_its_charge(api):
    call = Call(
        "painter", "api_call", "openai:gpt-4o", "openai", "deal", NANO // 10,
        rates={"input_mtok": "2.5", "output_mtok": "10", "request": "0.0001"}, policy_hash="h1",
        estimated={"input_tokens": 2000, "output_tokens": 9490, "request": 1}, output_cap=9490,
    )  # fmt: skip
    admission = await api.sidecar.ledger.authorize(call)
    pending = (await api.http.get(f"/api/actions/{admission.action_id}")).json()
    assert (pending["outcome"], pending["reserved"], pending["outputCap"]) == ("pending", 0.1, 9490)
    assert (pending["charge"]["basis"], pending["charge"]["charged"]) == ("pending", 0)
    usage = {"input_tokens": 1001, "output_tokens": 20}
    charge = 2_502_500 + 200_000 + 100_000
    settlement = Settlement(charge, "success", usage, upstream_status=200, duration_ms=812)
    await api.sidecar.ledger.settle(admission.action_id, settlement)
    action = (await api.http.get(f"/api/actions/{admission.action_id}")).json()
    assert (action["cost"], action["usage"], action["price"], action["durationMs"]) == (0.0028025, usage, "deal", 812)
    charge = action["charge"]
    assert [tuple(item.values()) for item in charge.pop("items")] == [
        ("input_tokens", 1001, "input_mtok", 2.5, 1_000_000, 0.0025025),
        ("output_tokens", 20, "output_mtok", 10, 1_000_000, 0.0002),
        ("request", 1, "request", 0.0001, 1, 0.0001),
    ]
    estimate = charge.pop("estimate")
    assert [tuple(item.values()) for item in estimate["items"]] == [
        ("input_tokens", 2000, "input_mtok", 2.5, 1_000_000, 0.005),
        ("output_tokens", 9490, "output_mtok", 10, 1_000_000, 0.0949),
        ("request", 1, "request", 0.0001, 1, 0.0001),
    ]
    assert estimate["total"] == 0.1
    assert charge == {
        "basis": "usage", "total": 0.0028025, "charged": 0.0028025, "reserved": 0.1, "ending": "settled",
        "outputCap": 9490, "price": "deal", "rates": {"input_mtok": 2.5, "output_mtok": 10, "request": 0.0001},
        "policyHash": "h1",
    }  # fmt: skip


async def ended(api, charge, **settled):
    """The `charge` of a call reserved at $0.10 that was settled so."""
    call = Call(
        "painter", "api_call", "openai:gpt-4o", "openai", "deal", NANO // 10,
        rates={"output_mtok": "10"}, estimated={"output_tokens": 10_000},
    )  # fmt: skip
    admission = await api.sidecar.ledger.authorize(call)
    await api.sidecar.ledger.settle(admission.action_id, Settlement(charge, "success", **settled))
    return (await api.http.get(f"/api/actions/{admission.action_id}")).json()["charge"]


async def test_a_charge_at_other_terms_than_were_reserved_shows_both_arithmetics(api):
    charge = await ended(api, 20_000, usage={"output_tokens": 1}, rates={"output_mtok": "20"})
    assert (charge["basis"], charge["total"], charge["rates"]) == ("usage", 0.00002, {"output_mtok": 20})
    assert (charge["estimate"]["total"], charge["estimate"]["items"][0]["rate"]) == (0.1, 10)


async def test_a_charge_at_the_reservation_says_so(api):
    charge = await ended(api, None, unconfirmed=True)
    assert (charge["basis"], charge["charged"], charge["total"]) == ("reservation", 0.1, 0)
    assert charge["estimate"]["total"] == 0.1


async def test_a_reported_action_has_no_estimate(api):
    await api.report("painter", 0.05)
    [listed] = (await api.http.get("/api/actions")).json()["items"]
    assert listed["outputCap"] is None
    charge = (await api.http.get(f"/api/actions/{listed['id']}")).json()["charge"]
    assert (charge["basis"], charge["charged"], charge["estimate"], charge["price"]) == ("reported", 0.05, None, None)


async def test_unknown_actions_are_404(api):
    assert (await api.http.get("/api/actions/act_nothing")).status_code == 404


async def test_following_what_is_recorded(api):
    await api.report("painter", 0.01)
    start = (await api.http.get("/api/actions?after=now")).json()
    assert start["items"] == []
    for cost in (0.02, 0.03, 0.04):
        await api.report("painter", cost)
    page = (await api.http.get("/api/actions", params={"after": start["nextCursor"], "limit": 2})).json()
    assert [item["cost"] for item in page["items"]] == [0.02, 0.03]
    page = (await api.http.get("/api/actions", params={"after": page["nextCursor"], "limit": 2})).json()
    assert [item["cost"] for item in page["items"]] == [0.04]
    page = (await api.http.get("/api/actions", params={"after": page["nextCursor"]})).json()
    assert (page["items"], page["nextCursor"] is None) == ([], False)


@pytest.mark.parametrize("query", ["after=x", "after=fffffffff", "after=now&cursor=1.1", "after=now&after=now"])
async def test_a_place_that_no_answer_gave_is_422(api, query):
    answer = await api.http.get(f"/api/actions?{query}")
    assert (answer.status_code, answer.json()["error"]["fields"][0]["field"]) == (422, "after")


# -- export ------------------------------------------------------------------------------------------------------------


async def test_export_as_jsonl(api):
    for number in range(3):
        await api.report("painter", 0.05, metadata=str(number))
    answer = await api.http.get("/api/export")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert [row["metadata"] for row in rows] == ["0", "1", "2"]
    assert rows == list(reversed((await api.http.get("/api/actions")).json()["items"]))
    assert (await api.http.get("/api/export?until=2020-01-01")).text == ""


async def test_export_as_csv_neutralizes_formulas(api):
    texts = ["=1+1", "+1", "-1", "@x", 'plain, with "quotes"\nand lines', "\t=1"]
    for text in texts:
        await api.report("painter", 0.05, metadata=text)
    answer = await api.http.get("/api/export?format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [row["metadata"] for row in rows] == ["'=1+1", "'+1", "'-1", "'@x", texts[4], "'\t=1"]
    assert {row["cost"] for row in rows} == {"0.05"}
    assert {row["price"] for row in rows} == {""}


async def test_a_long_export_is_streamed_whole(api):
    for number in range(40):
        await api.report("painter", 0.01, metadata=f"{number:05d}" * 3000)
    rows = (await api.http.get("/api/export")).text.splitlines()
    assert [json.loads(row)["metadata"][:5] for row in rows] == [f"{number:05d}" for number in range(40)]


@pytest.mark.parametrize("query", ["format=xml", "since=x", "agentId=painter"])
async def test_export_refuses_what_it_does_not_know(api, query):
    assert (await api.http.get(f"/api/export?{query}")).status_code == 422


def rows(count, text=""):
    async def made():
        for number in range(count):
            yield Action(f"act_{number}", "painter", "llm", "openai:gpt-4o", 20, "success", 0, metadata=text)

    return made()


@pytest.mark.parametrize("form", ["jsonl", "csv"])
async def test_an_export_lets_the_loop_turn_while_rows_are_made(form):
    turns = 0

    async def turn():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(turn())
    chunks = [chunk async for chunk in exported(rows(1600), form)]
    other.cancel()
    assert turns >= 90
    assert b"".join(chunks).count(b"\n") == 1600 + (form == "csv")
    assert all(len(chunk) < 2 * CHUNK for chunk in chunks)


async def test_text_that_is_no_unicode_is_exported_as_its_code():
    chunks = [chunk async for chunk in exported(rows(1, "\ud800"), "csv")]
    assert rb",\ud800," in b"".join(chunks)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
async def test_an_export_that_fails_midway_is_cut_off(api, form, monkeypatch):
    async def failing(query):
        async for action in rows(100, "x" * CHUNK):
            yield action
        raise LedgerUnavailable("the read index failed")

    monkeypatch.setattr(api.sidecar.ledger, "export", failing)
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        await api.http.get(f"/api/export?format={form}")


async def test_an_export_that_fails_at_once_is_refused(api, monkeypatch):
    async def failing(query):
        raise LedgerUnavailable("the read index failed")
        yield

    monkeypatch.setattr(api.sidecar.ledger, "export", failing)
    assert (await api.http.get("/api/export")).status_code == 503


async def test_an_export_whose_client_leaves_is_not_gone_on_with(api, monkeypatch):
    made, ended = 0, asyncio.Event()

    async def endless(query):
        nonlocal made
        try:
            while True:
                made += 1
                async for action in rows(1, "x" * CHUNK):
                    yield action
                await asyncio.sleep(0)
        finally:
            ended.set()

    monkeypatch.setattr(api.sidecar.ledger, "export", endless)
    bare = httpx.AsyncClient(base_url=api.url, headers={"authorization": f"Bearer {ADMIN}"})
    async with bare, bare.stream("GET", "/api/export") as answer:
        await anext(answer.aiter_raw())
        await asyncio.sleep(0.1)
        waiting = made
        await asyncio.sleep(0.1)
        assert made == waiting  # its client doesn't read: nothing more is made
    await asyncio.wait_for(ended.wait(), 10)
