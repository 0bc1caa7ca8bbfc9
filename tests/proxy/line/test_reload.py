"""Hazard 44: a policy that is reloaded while calls are in flight, and one that can't be."""

from __future__ import annotations

import asyncio
from pathlib import Path

from policy.money import NANO
from tests.proxy.line.chat import CHARGE, CHAT, PATH, POLICY, RESERVED, how, told
from tests.proxy.line.governed import FullDisk, governed
from tests.proxy.upstreams import Line, Seen, says

DEARER = POLICY.replace("input_mtok: 1,", "input_mtok: 10,")


class Gated:
    """An upstream that answers when it may ``go``."""

    def __init__(self) -> None:
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def __call__(self, seen: Seen, line: Line) -> None:
        self.asked.set()
        await self.go.wait()
        await line.say(told())


async def test_hazard_44_a_call_in_flight_is_settled_under_the_policy_it_began_with(tmp_path: Path) -> None:
    upstream = Gated()
    async with governed(tmp_path, POLICY.replace("1s", "60s"), upstream) as line:
        before = line.app.sidecar.policy_file.rules.policy.hash
        call = asyncio.create_task(line.post(PATH, CHAT))
        await upstream.asked.wait()
        line.write_policy(DEARER)
        assert (await line.api("POST", "/api/policy/reload")).status_code == 200
        upstream.go.set()
        assert (await call).status == 200
        first = await line.ended()
        assert (first.cost, first.policy_hash) == (CHARGE, before)
        await line.post(PATH, CHAT)
        second = await line.ended()
        assert second.cost == CHARGE + 9 * 40 * 1_000
        assert second.policy_hash == line.app.sidecar.policy_file.rules.policy.hash != before


async def test_hazard_44_a_call_in_flight_ends_though_its_upstream_is_no_longer_named(tmp_path: Path) -> None:
    upstream = Gated()
    async with governed(tmp_path, POLICY.replace("1s", "60s"), upstream) as line:
        call = asyncio.create_task(line.post(PATH, CHAT))
        await upstream.asked.wait()
        line.write_policy(POLICY.replace("  up: {", "  other: {"))
        await line.api("POST", "/api/policy/reload")
        assert (await line.post(PATH, CHAT)).status == 404
        upstream.go.set()
        assert (await call).status == 200
        assert how(await line.ended()) == ("settled", CHARGE, False, "success")


async def test_hazard_44_a_budget_lowered_below_what_is_reserved_denies_the_next_and_lets_this_end(
    tmp_path: Path,
) -> None:
    upstream = Gated()
    policy = POLICY.replace("1s", "60s") + "budgets:\n  - {name: all, amount: %s, period: day}\n"
    async with governed(tmp_path, policy % 10, upstream) as line:
        call = asyncio.create_task(line.post(PATH, CHAT))
        await upstream.asked.wait()
        line.write_policy(policy % f"{(RESERVED - 1) / NANO:.9f}")
        await line.api("POST", "/api/policy/reload")
        standing = line.standing("all")
        assert standing.reserved == RESERVED > standing.budget.amount
        assert (await line.post(PATH, CHAT)).status == 403
        upstream.go.set()
        assert (await call).status == 200
        assert (await line.ended()).cost == line.standing("all").spent == CHARGE


async def test_a_broken_file_changes_nothing_and_is_shown(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(told())) as line:
        policy_file = line.app.sidecar.policy_file
        before = policy_file.rules
        line.write_policy(DEARER.replace("output_mtok: 2", "output_mtok: -2"))
        got = await line.api("POST", "/api/policy/reload")
        assert (got.status_code, got.json()["error"]["code"]) == (422, "policy_invalid")
        assert "output_mtok: -2" in got.json()["error"]["problems"]
        assert policy_file.rules is before
        assert policy_file.error is not None
        ready = await line.api("GET", "/readyz")
        assert (ready.status_code, ready.json()["checks"]["policy"]) == (200, False)
        assert "reload" in ready.json()["detail"]
        assert "agent_ledger_policy_reload_failures_total 1.0" in (await line.api("GET", "/metrics")).text
        await line.post(PATH, CHAT)
        assert (await line.ended()).cost == CHARGE
        line.write_policy(DEARER)
        await line.api("POST", "/api/policy/reload")
        assert policy_file.error is None
        assert (await line.api("GET", "/readyz")).json()["detail"] == ""


async def test_a_policy_that_the_ledger_can_t_put_in_force_is_not_in_force(tmp_path: Path, full_disk: FullDisk) -> None:
    async with governed(tmp_path, POLICY, says(told())) as line:
        before = line.app.sidecar.policy_file.rules
        line.write_policy(DEARER + "budgets:\n  - {name: all, amount: 1, period: day}\n")
        full_disk.begin()
        assert (await line.api("POST", "/api/policy/reload")).status_code == 503
        full_disk.end()
        assert line.app.sidecar.policy_file.rules is before
