from __future__ import annotations

import ast
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from msgspec.structs import replace

from policy.decide import STATUS
from policy.money import NANO
from proxy.explanation import FLAGS, REASONS, basis, explain
from proxy.ledger.port import Action
from proxy.metering.base import FAILED

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
SETTLED = Action(
    "act_01a125b0c3d84d6f8b0e2a7c9911", "painter", "api_call", "openai:gpt-4o", 2_315_000, "success", 1_795_390_000_000,
    ending="settled", reserved=43_370_000, price="models", policy_hash="5e884898da280471",
    upstream_status=200, duration_ms=1812,
    usage={"input_tokens": 946, "cache_read_tokens": 200, "output_tokens": 20, "output_reasoning_tokens": 7},
    rates={"input_mtok": "2.5", "cache_read_mtok": "1.25", "output_mtok": "10"},
    estimated={"request": 1, "input_tokens": 964, "output_tokens": 4096},
    role="Pictures", owner_id="design",
)  # fmt: skip


def action(**changes: Any) -> Action:
    return replace(SETTLED, **changes)


def fact(explained: str, name: str) -> str:
    [line] = [line for line in explained.splitlines() if line.startswith(f"  {name} ")]
    return line.removeprefix(f"  {name}").strip()


def test_the_whole_account_of_a_settled_call():
    explained = explain(SETTLED)
    assert (
        explained
        == """\
act_01a125b0c3d84d6f8b0e2a7c9911
  agent     painter (role Pictures, owner design)
  call      api_call openai:gpt-4o
  when      2026-11-22T23:26:40.000Z, took 1,812 ms
  price     models, by policy 5e884898da280471
  outcome   success, upstream status 200
  charge    $0.002315: settled at its usage
  reserved  $0.04337, of which $0.041055 returned

usage
  cache_read_tokens 200 × 1.25 / 1,000,000 = 0.000250 cache_read_mtok
  input_tokens      746 ×  2.5 / 1,000,000 = 0.001865 input_mtok
  output_tokens      20 ×   10 / 1,000,000 = 0.000200 output_mtok
  total, rounded up                        = 0.002315 USD
  counted above: output_reasoning_tokens 7

estimate
  input_tokens        964 × 2.5 / 1,000,000 = 0.00241 input_mtok
  output_tokens     4,096 ×  10 / 1,000,000 = 0.04096 output_mtok
  total, rounded up                         = 0.04337 USD
"""
    )
    assert indent(explained, "    ") in README


def test_the_whole_account_of_an_overrun_on_other_terms_than_were_reserved():
    overrun = action(
        cost=300_000_001, reserved=250_000_000, flags=("usage_clamped", "from_a_later_version"), output_cap=1024,
        unconfirmed=True, softened=("budget_exceeded",), estimated={"request": 1, "seconds": 5},
        usage={"request": 1, "seconds": Decimal("2.500000005")}, upstream_status=None, duration_ms=None,
        rates={"request": "0.05", "seconds": "0.1"}, reserved_rates={"request": "0.05", "seconds": "0.04"},
    )  # fmt: skip
    assert (
        explain(overrun)
        == """\
act_01a125b0c3d84d6f8b0e2a7c9911
  agent       painter (role Pictures, owner design)
  call        api_call openai:gpt-4o
  when        2026-11-22T23:26:40.000Z
  price       models, by policy 5e884898da280471
  outcome     success
  charge      $0.300000001: settled at the usage that came before the answer broke off; the upstream may bill more
  reserved    $0.25; overrun $0.050000001
  output cap  1,024 tokens an answer, by cap_output
  shadow      enforced, it would have been denied: budget_exceeded

usage
  request                     1 × 0.05 / 1 = 0.0500000000 request
  seconds           2.500000005 ×  0.1 / 1 = 0.2500000005 seconds
  total, rounded up                        = 0.3000000010 USD

estimate
  request           1 × 0.05 / 1 = 0.05 request
  seconds           5 × 0.04 / 1 = 0.20 seconds
  total, rounded up              = 0.25 USD

flags
  usage_clamped         the answer stated more than can be; the most that is believed was charged
  from_a_later_version
"""
    )


def test_the_whole_account_of_a_denial_and_of_a_report():
    denied = Action(
        "act_1", "painter", "api_call", "tools:search", 0, "denied", 0, count=3, reason="budget_exceeded",
        budget="everyone-day", price="search", policy_hash="5e884898da280471", rates={"request": "0.01"},
        estimated={"request": 1},
    )  # fmt: skip
    assert (
        explain(denied)
        == """\
act_1
  agent    painter
  call     api_call tools:search
  when     1970-01-01T00:00:00.000Z
  price    search, by policy 5e884898da280471
  outcome  denied, 3 times within a minute
  charge   $0.00: denied, budget_exceeded by everyone-day; nothing was sent upstream

estimate
  request           1 × 0.01 / 1 = 0.01 request
  total, rounded up              = 0.01 USD
"""
    )
    reported = Action("act_2", "painter", "llm", "openai:gpt-4o", 5, "failure", 0, ending="settled", policy_hash="h")
    assert (
        explain(reported)
        == """\
act_2
  agent    painter
  call     llm openai:gpt-4o
  when     1970-01-01T00:00:00.000Z
  price    none, by policy h
  outcome  failure
  charge   $0.000000005: settled at the cost that its agent reported
"""
    )


HELD = {"cost": 43_370_000, "reserved": 43_370_000, "unconfirmed": True, "usage": {}}


@pytest.mark.parametrize(
    ("changes", "by", "why"),
    [
        ({}, "usage", "$0.002315: settled at its usage"),
        ({"rates": {}, "cost": 0}, "usage", "$0.00: settled at its usage"),
        (
            {"usage": {}, "rates": {"request": "0.01"}, "cost": 10_000_000},
            "usage", "$0.01: settled at its price, which depends on no usage",
        ),
        (
            {"unconfirmed": True}, "usage",
            "$0.002315: settled at the usage that came before the answer broke off; the upstream may bill more",
        ),
        ({"usage": {}, "rates": {}, "cost": 0, "reserved": None}, "reported",
         "$0.00: settled at the cost that its agent reported"),
        (HELD, "reservation",
         "$0.04337: charged at its reservation, because the answer states no usage that can be read"),
        (HELD | {"upstream_status": None}, "reservation",
         "$0.04337: charged at its reservation, because no answer came, and the upstream may have acted"),
        (HELD | {"usage": {"input_tokens": 9}}, "reservation",
         "$0.04337: charged at its reservation, because the answer broke off before it stated all of its usage"),
        (HELD | {"usage": {"seconds": 9}}, "reservation",
         "$0.04337: charged at its reservation, because the price has no rate for what the answer states was used"),
        # by an engine or a script that says nothing more
        (HELD | {"unconfirmed": False}, "reservation",
         "$0.04337: charged at its reservation, because the answer states no usage that can be read"),
        (HELD | {"ending": "expired", "upstream_status": None, "flags": ("expired",)}, "reservation",
         "$0.04337: expired, at its reservation, because the sidecar stopped before it ended"),
        ({"cost": 0, "ending": "voided", "usage": {}, "upstream_status": 503}, "none",
         "$0.00: voided, because the upstream answered 503 and stated no usage"),
        ({"cost": 0, "ending": "voided", "usage": {}, "upstream_status": None}, "none",
         "$0.00: voided, because the upstream was not reached"),
        ({"cost": 0, "ending": "voided", "usage": {}, "upstream_status": None, "flags": ("abandoned",)}, "none",
         "$0.00: voided, because it was never forwarded"),
        ({"cost": 0, "ending": None, "outcome": "denied", "reason": "agent_paused", "reserved": None}, "none",
         "$0.00: denied, agent_paused; nothing was sent upstream"),
        ({"cost": 0, "ending": None, "outcome": "pending", "usage": {}, "upstream_status": None}, "pending",
         "$0.00: in flight; if its sidecar has stopped, the next one charges its reservation"),
    ],
)  # fmt: skip
def test_what_the_charge_is_and_why(changes: dict[str, Any], by: str, why: str):
    explained = action(**changes)
    assert basis(explained) == by
    assert fact(explain(explained), "charge") == why


def test_what_is_still_held_and_what_returned():
    assert fact(explain(action(outcome="pending", ending=None, cost=0, usage={})), "reserved") == "$0.04337"
    voided = action(ending="voided", cost=0, usage={})
    assert fact(explain(voided), "reserved") == "$0.04337, of which $0.04337 returned"
    assert fact(explain(action(cost=43_370_001)), "reserved") == "$0.04337; overrun $0.000000001"


def test_a_fraction_of_a_nano_dollar_is_shown_and_rounded_once():
    tiny = action(
        cost=42, rates={"input_mtok": "0.041666666666666664", "output_mtok": "0.000000001"},
        usage={"input_tokens": 1, "output_tokens": 1}, estimated={},
    )  # fmt: skip
    assert (
        explain(tiny).partition("\n\nusage\n")[2]
        == """\
  input_tokens      1 × 0.041666666666666664 / 1,000,000 = 0.000000041666666666666664 input_mtok
  output_tokens     1 ×          0.000000001 / 1,000,000 = 0.000000000000001000000000 output_mtok
  total, rounded up                                      = 0.000000042000000000000000 USD
"""
    )


def test_a_cost_that_the_upstream_states_is_one_line():
    stated = action(
        cost=1_234_500, rates={"cost": "1"}, usage={"input_tokens": 10, "cost": Decimal("0.0012345")}, estimated={}
    )
    assert (
        explain(stated).partition("\n\nusage\n")[2]
        == """\
  cost              0.0012345 × 1 / 1 = 0.0012345 cost
  total, rounded up                   = 0.0012345 USD
  without a rate: input_tokens 10
"""
    )


def test_hazard_32_nothing_that_a_caller_named_reaches_the_terminal_as_more_than_text():
    named = action(
        agent_id="a\x1b[2J", target="openai:\u202etxt", action_type="x\r\ny", price="p\x07", owner_id="\ud800",
        usage={"own\x1bunit": 1}, flags=("f\n",), softened=("s\x00",),
    )  # fmt: skip
    explained = explain(named)
    assert all(char.isprintable() or char == "\n" for char in explained)
    explained.encode()
    assert "a\\u001b[2J" in explained
    assert "openai:\\u202etxt" in explained


def raised_flags() -> Iterator[str]:
    """Every flag that some line of proxy/ may raise."""
    for path in (ROOT / "proxy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            values: list[ast.AST] = []
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                values += [keyword.value for keyword in node.keywords if keyword.arg == "flags"]
                values += node.args if called.endswith((".flag", "_flag", "flags.append")) else []
            elif isinstance(node, ast.Assign | ast.AugAssign) and "flags" in ast.unparse(node).partition("=")[0]:
                values.append(node.value)
            for value in values:
                yield from (
                    each.value for each in ast.walk(value) if isinstance(each, ast.Constant) and type(each.value) is str
                )


def test_every_flag_that_can_be_raised_has_a_meaning():
    raised = {*raised_flags(), *FAILED}
    assert {"usage_zero", "stream_error", "abandoned", "expired"} <= raised
    assert raised <= FLAGS.keys()


def test_an_amount_of_many_dollars_is_exact():
    large = action(cost=12_345_678 * NANO, usage={"request": 12_345_678}, rates={"request": "1"}, estimated={})
    assert "12,345,678 × 1 / 1 = 12345678 request" in explain(large)


def test_every_reason_that_is_on_record_has_its_words():
    assert STATUS.keys() - REASONS.keys() == {"unauthenticated", "agent_not_found", "ledger_unavailable"}
    assert REASONS.keys() <= STATUS.keys()
