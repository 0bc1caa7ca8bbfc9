"""What a call costs on the line. Promise 5: a charge above its reservation. Promise 7: never free by accident."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from policy.money import NANO
from tests.proxy.line.chat import CHARGE, CHAT, JSON, PATH, POLICY, RESERVED, how, told
from tests.proxy.line.governed import governed
from tests.proxy.upstreams import answer, says

CENT = NANO // 100


def body(**fields: Any) -> bytes:
    return answer(json.dumps(fields).encode(), "200 OK", JSON)


# -- promise 5 ---------------------------------------------------------------------------------------------------------


async def test_promise_5_hazard_41_a_charge_above_its_reservation_is_recorded_in_full(tmp_path: Path) -> None:
    """It raises an alert, and the next call is judged against it, though it is past the amount."""
    dear = told({"prompt_tokens": 40, "completion_tokens": 1_000_000})
    policy = POLICY.replace("monthly_budget: 10", "monthly_budget: 1")
    async with governed(tmp_path, policy, says(dear)) as line:
        assert (await line.post(PATH, CHAT)).status == 200
        action = await line.ended()
        assert how(action) == ("settled", 40 * 1_000 + 1_000_000 * 2_000, False, "success")
        assert action.cost > NANO > (action.reserved or 0) == RESERVED
        assert line.standing().spent == action.cost
        assert "overrun" in [alert.type for alert in await line.alerts()]
        assert line.app.sidecar.metrics.overruns == 1
        again = await line.post(PATH, CHAT)
        assert (again.status, again.json()["error"]["code"]) == (403, "budget_exceeded")
        assert line.ledger.agent("worker").status == "paused"  # type: ignore[union-attr]
        assert len(line.upstream.seen) == 1


async def test_hazard_41_absurd_usage_is_clamped_and_flagged(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(told({"prompt_tokens": 10**15, "completion_tokens": 1}))) as line:
        await line.post(PATH, CHAT)
        action = await line.ended()
        assert (action.cost, action.flags) == (1_000_000_000 * 1_000 + 2_000, ("usage_clamped",))


async def test_hazard_41_an_explicit_zero_is_zero_and_flagged(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(told({"prompt_tokens": 0, "completion_tokens": 0}))) as line:
        await line.post(PATH, CHAT)
        action = await line.ended()
        assert (how(action), action.flags) == (("settled", 0, False, "success"), ("usage_zero",))


# -- promise 7 ---------------------------------------------------------------------------------------------------------

UNPRICED = POLICY.replace("upstreams:", "defaults: {unpriced: %s}\nupstreams:", 1)


@pytest.mark.parametrize(("stated", "cost"), [("free", 0), ("{request: 0.03}", 3 * CENT)])
@pytest.mark.parametrize("path", ["/up/elsewhere", "/up/catalog/v1/chat/completions"], ids=["route", "model"])
async def test_promise_7_an_unknown_route_or_model_costs_what_the_policy_says(
    tmp_path: Path, stated: str, cost: int, path: str
) -> None:
    listed = "prices:\n  - {name: listed, match: {path: '/catalog/**'}, rates: catalog}"
    policy = (UNPRICED % stated).replace("prices:", listed)
    async with governed(tmp_path, policy, says(told())) as line:
        assert (await line.post(path, CHAT | {"model": "no-such-model"})).status == 200
        action = await line.ended()
        assert (how(action), action.reserved) == (("settled", cost, False, "success"), cost)
        assert action.price is None


async def test_promise_7_deny_is_the_default(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(told())) as line:
        assert (await line.post("/up/elsewhere", CHAT)).json()["error"]["code"] == "unpriced"
    assert line.upstream.lines == []


async def test_a_model_the_catalog_knows_is_charged_at_its_rates(tmp_path: Path) -> None:
    policy = POLICY.replace("{input_mtok: 1, output_mtok: 2}", "catalog")
    async with governed(tmp_path, policy, says(told())) as line:
        await line.post(PATH, CHAT | {"model": "gpt-4o-mini"})
        action = await line.ended()
        assert action.cost == 40 * 150 + 10 * 600  # 0.15 and 0.60 USD a million
        assert action.target == "up:gpt-4o-mini"


ERRORS = {
    "4xx": (answer(b"{}", "404 Not Found", JSON), ("voided", 0, False, "failure")),
    "5xx": (answer(b"", "503 Busy"), ("voided", 0, False, "failure")),
    "5xx with usage": (told(status="500 Oops"), ("settled", CHARGE, False, "failure")),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_hazard_42_an_error_without_usage_is_void_and_with_usage_settled(tmp_path: Path, name: str) -> None:
    script, ends = ERRORS[name]
    async with governed(tmp_path, POLICY, says(script)) as line:
        await line.post(PATH, CHAT)
        assert how(await line.ended()) == ends
        assert [alert.type for alert in await line.alerts()] == ["action_failed"]


@pytest.mark.parametrize(
    ("path", "ends"),
    [(PATH, ("settled", RESERVED, True, "failure")), ("/up/flat/x", ("settled", CENT, False, "failure"))],
)
async def test_promise_7_charge_errors_charges_them(tmp_path: Path, path: str, ends: Any) -> None:
    policy = POLICY.replace("timeout: 1s", "timeout: 1s, charge_errors: true")
    async with governed(tmp_path, policy, says(answer(b"", "500 Oops"))) as line:
        await line.post(path, CHAT)
        assert how(await line.ended()) == ends


# -- rates and units ---------------------------------------------------------------------------------------------------

OWN_UNITS = """
version: 1
upstreams:
  render: {url: "URL"}
agents:
  - {id: worker, monthly_budget: 100}
prices:
  - name: video
    match: {path: "/video/**"}
    usage: {seconds: {response: result.0.billed_seconds}}
    rates: {request: 0.05, seconds: 0.002}
    estimate: {seconds: 60}
  - name: film
    match: {path: "/film/**"}
    usage: {seconds: {header: X-Billed-Seconds}}
    rates: {seconds: 0.002}
    estimate: {seconds: 60}
  - name: pictures
    match: {path: "/pictures"}
    usage: {pictures: {request: n}}
    rates: {pictures: 0.01}
"""
SECOND = NANO // 500


@pytest.mark.parametrize(
    ("path", "said", "reserved", "ends"),
    [
        (
            "video/x",
            body(result=[{"billed_seconds": 12.5}]),
            5 * CENT + 60 * SECOND,
            (5 * CENT + 25 * SECOND // 2, False),
        ),
        ("video/x", body(result=[]), 5 * CENT + 60 * SECOND, (5 * CENT + 60 * SECOND, True)),
        ("film/x", answer(b"raw", "200 OK", b"x-billed-seconds: 7"), 60 * SECOND, (7 * SECOND, False)),
        ("film/x", answer(b"raw"), 60 * SECOND, (60 * SECOND, True)),
        ("film/x", answer(b"raw", "200 OK", b"x-billed-seconds: many"), 60 * SECOND, (60 * SECOND, True)),
        ("pictures", answer(b"png"), 3 * CENT, (3 * CENT, False)),
    ],
)
async def test_units_of_ones_own_are_estimated_and_read_from_the_answer(
    tmp_path: Path, path: str, said: bytes, reserved: int, ends: Any
) -> None:
    async with governed(tmp_path, OWN_UNITS, says(said)) as line:
        await line.post(f"/render/{path}", {"n": 3})
        action = await line.ended()
        assert (action.reserved, (action.cost, action.unconfirmed)) == (reserved, ends)


DATED = """
version: 1
upstreams:
  up: {url: "URL"}
agents:
  - {id: worker, monthly_budget: 100}
prices:
  - name: dated
    match: {upstream: up}
    rates:"""


async def test_rates_are_those_of_the_day(tmp_path: Path) -> None:
    today = datetime.now(UTC).date()
    dated = f"""
      - {{request: 0.01}}
      - {{from: {today - timedelta(days=1)}, request: 0.02}}
      - {{from: {today + timedelta(days=2)}, request: 0.03}}"""
    async with governed(tmp_path, DATED + dated, says(answer())) as line:
        await line.post("/up/x", {})
        assert (await line.ended()).cost == 2 * CENT


MCP = """
version: 1
upstreams:
  tools: {url: "URL", meter: mcp}
agents:
  - {id: worker, monthly_budget: 100}
prices:
  - {name: search, match: {body: {method: tools/call, params.name: web_search}}, rates: {request: 0.01}}
  - {name: other, match: {body: {method: tools/call}}, rates: {request: 0.001}}
  - {name: talk, match: {upstream: tools}, rates: {request: 0}}
"""


@pytest.mark.parametrize(
    ("message", "cost", "target"),
    [
        ({"id": 1, "method": "tools/call", "params": {"name": "web_search"}}, CENT, "tools:web_search"),
        ({"id": 1, "method": "tools/call", "params": {"name": "fetch"}}, CENT // 10, "tools:fetch"),
        ({"id": 1, "method": "tools/call"}, CENT // 10, "tools:other"),
        ({"id": 1, "method": "tools/list"}, 0, "tools:talk"),
        ({"method": "notifications/initialized"}, 0, "tools:talk"),
    ],
)
async def test_an_mcp_call_is_priced_by_its_tool(tmp_path: Path, message: Any, cost: int, target: str) -> None:
    async with governed(tmp_path, MCP, says(body(jsonrpc="2.0", id=1, result={}))) as line:
        got = await line.post("/tools/mcp", {"jsonrpc": "2.0", **message})
        assert got.json() == {"jsonrpc": "2.0", "id": 1, "result": {}}
        action = await line.ended()
        assert (action.cost, action.target) == (cost, target)


@pytest.mark.parametrize("named", [{}, {"model": "ours"}], ids=["by its path", "in the body too"])
async def test_an_azure_deployment_is_priced_by_its_rules_model(tmp_path: Path, named: dict[str, str]) -> None:
    policy = """
version: 1
upstreams:
  azure: {url: "URL", meter: openai, catalog: azure}
agents:
  - {id: worker, monthly_budget: 100}
prices:
  - {name: ours, match: {path: "/openai/deployments/ours/**"}, model: gpt-4o-mini, rates: catalog}
"""
    async with governed(tmp_path, policy, says(told())) as line:
        path = "/azure/openai/deployments/ours/chat/completions?api-version=2024-10-21"
        assert (await line.post(path, {"max_tokens": 10, "messages": [], **named})).status == 200
        action = await line.ended()
        assert (action.cost, action.target) == (40 * 150 + 10 * 600, "azure:gpt-4o-mini")


async def test_promise_7_bytes_and_seconds_are_measured_where_nobody_states_them(tmp_path: Path) -> None:
    policy = """
version: 1
upstreams:
  files: {url: "URL"}
agents:
  - {id: worker, monthly_budget: 100}
prices:
  - name: by-bytes
    match: {path: /convert}
    rates: {sent: 0.000001, received: 0.000000001}
    usage: {sent: {measured: request_bytes}, received: {measured: response_bytes}}
    estimate: {received: 1000000}
  - name: by-time
    rates: {seconds: 1}
    usage: {seconds: {measured: seconds}}
    estimate: {seconds: 60}
"""
    async with governed(tmp_path, policy, says(answer(b"x" * 3000))) as line:
        assert (await line.post("/files/convert", b"y" * 500)).status == 200
        action = await line.ended()
        assert (action.cost, action.unconfirmed) == (500 * 1000 + 3000, False)
        assert (await line.post("/files/render", b"")).status == 200
        action = await line.ended()
        assert action.cost == action.usage["seconds"] * 10**9
        assert action.duration_ms is not None
        assert 0 <= action.usage["seconds"] * 1000 <= action.duration_ms
    async with governed(tmp_path / "..", policy, says(answer(b"no", "404 Not Found"))) as line:
        await line.post("/files/convert", b"y")
        assert (await line.ended()).ending == "voided"
