"""What an answer says of its call (x-ledger-…), and the row that the ledger keeps of it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from policy.money import usd
from tests.proxy.line.chat import CHARGE, CHAT, PATH, POLICY, RESERVED, told
from tests.proxy.line.governed import AS_WORKER, governed
from tests.proxy.upstreams import answer, says


async def test_an_answer_names_its_action_and_the_room_that_is_left(tmp_path: Path) -> None:
    """The least room in any enforced budget, this call's reservation held."""
    budgets = """budgets:
  - {name: all, amount: 3, period: day}
  - {name: trial, amount: 1, period: day, mode: shadow}"""
    async with governed(tmp_path, POLICY + budgets, says(told())) as line:
        first, second = [await line.post(PATH, CHAT) for _ in range(2)]
        assert Decimal(first.header("x-ledger-budget-remaining") or "") == 3 - usd(RESERVED)
        assert Decimal(second.header("x-ledger-budget-remaining") or "") == 3 - usd(CHARGE + RESERVED)
        assert [each.header("x-ledger-action-id") for each in (first, second)] == line.witness.admitted


async def test_a_small_room_has_no_exponent(tmp_path: Path) -> None:
    policy = POLICY.replace("monthly_budget: 10", "monthly_budget: 0.010000001")
    async with governed(tmp_path, policy, says(answer())) as line:
        assert (await line.get("/up/flat/x")).header("x-ledger-budget-remaining") == "0.000000001"
        assert (await line.get("/up/flat/x")).status == 403


async def test_a_denial_names_its_action_in_its_body(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        got = await line.post("/up/elsewhere", {})
        [row] = await line.actions()
        assert got.json()["error"]["actionId"] == row.id


async def test_the_row_of_a_call_says_all_of_it_and_its_arithmetic(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(told())) as line:
        got = await line.post(PATH + "?secret=1", CHAT)
        shown = (await line.api("GET", f"/api/actions/{got.header('x-ledger-action-id')}")).text
        row = json.loads(shown, parse_float=Decimal)
        assert (
            row.items()
            >= {
                "agentId": "worker",
                "actionType": "api_call",
                "target": "up:m",
                "outcome": "success",
                "cost": usd(CHARGE),
                "reserved": usd(RESERVED),
                "usage": {"input_tokens": 40, "output_tokens": 10},
                "price": "chat",
                "upstreamStatus": 200,
                "unconfirmed": False,
                "count": 1,
                "reason": None,
            }.items()
        )
        assert isinstance(row["durationMs"], int)
        assert [(item["key"], item["quantity"]) for item in row["charge"]["items"]] == [
            ("input_mtok", 40),
            ("output_mtok", 10),
        ]
        assert row["charge"]["charged"] == row["charge"]["total"] == usd(CHARGE)
        assert "secret" not in shown


@pytest.mark.parametrize(
    ("model", "target"),
    [
        ("m" * 200, "up:" + "m" * 125),
        ("a\r\nb\u202e<é>", "up:a_b_<_>"),
        ("\ud800", "up:_"),
        (None, "up:chat"),
        (7, "up:chat"),
    ],
)
async def test_hazard_32_a_target_is_printable_and_short(tmp_path: Path, model: object, target: str) -> None:
    async with governed(tmp_path, POLICY, says(told())) as line:
        await line.post(PATH, CHAT | {"model": model})
        assert (await line.ended()).target == target


async def test_identical_denials_are_one_row_with_a_count_and_strangers_none(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        for _ in range(5):
            await line.post("/up/elsewhere", {})
            await line.post("/up/elsewhere", {}, b"X-Agent-Id: ghost")
            await line.post("/up/elsewhere", {}, b"X-Other: 1")
        [row] = await line.actions()
        assert (row.outcome, row.reason, row.count, row.target) == ("denied", "unpriced", 5, "up:unpriced")
        denials = line.app.sidecar.metrics.denials
        assert (denials["unpriced"], denials["agent_not_found"], denials["unauthenticated"]) == (5, 5, 5)


@pytest.mark.parametrize("fail", [True, False])
async def test_metrics_count_the_call(tmp_path: Path, fail: bool) -> None:
    async with governed(tmp_path, POLICY, says(answer(b"", "500 Oops") if fail else told())) as line:
        await line.post(PATH, CHAT, *AS_WORKER)
        text = (await line.api("GET", "/metrics")).text
        outcome = "failure" if fail else "success"
        assert f'agent_ledger_calls_total{{outcome="{outcome}",upstream="up"}} 1.0' in text
        assert f"agent_ledger_spend_usd_total {0 if fail else CHARGE / 1e9}" in text
        assert "agent_ledger_open_streams 0.0" in text
        assert "agent_ledger_reserved_usd 0.0" in text
