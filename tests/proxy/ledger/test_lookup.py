from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from proxy.ledger.index import path_of
from proxy.ledger.lookup import find_action
from proxy.ledger.port import Action, Denial, LedgerDamaged, LedgerError, Settlement
from tests.contract.world import World, call, ms

SETTLED = Settlement(8, "success", {"input_tokens": 3}, flags=("usage_clamped",), upstream_status=200)


def without_index(data: Path) -> None:
    for path in data.glob(f"{path_of(data).name}*"):
        path.unlink()


async def in_the_journal_alone(world: World, action_id: str) -> Action | None:
    await world.stop()
    without_index(world.data)
    return find_action(world.data, action_id)


async def ended(world: World) -> Action:
    admission = await world.ledger.authorize(call(estimate=9, estimated={"request": 9}))
    return await world.ledger.settle(admission.action_id, SETTLED)


async def test_an_ended_action_is_found_beside_the_ledger_and_after_it(world: World) -> None:
    action = await ended(world)
    assert await world.ledger.action(action.id) == action  # the index has it now
    assert find_action(world.data, action.id) == action
    await world.stop()
    assert find_action(world.data, action.id) == action


async def test_an_ended_action_is_found_in_the_journal_where_no_index_is(world: World) -> None:
    action = await ended(world)
    assert await in_the_journal_alone(world, action.id) == action


@pytest.mark.parametrize(
    "ruined", [b"", b"no database" * 1000, None], ids=["an empty file", "no database", "another version"]
)
async def test_an_index_that_can_not_answer_is_not_asked(world: World, ruined: bytes | None) -> None:
    action = await ended(world)
    await world.stop()
    without_index(world.data)
    if ruined is None:
        with sqlite3.connect(path_of(world.data)) as db:
            db.execute("CREATE TABLE actions (id TEXT, row TEXT, count INTEGER)")
            db.execute("INSERT INTO actions VALUES (?, '{\"later\": 1}', 1)", (action.id,))
        db.close()
    else:
        path_of(world.data).write_bytes(ruined)
    assert find_action(world.data, action.id) == action


async def test_an_action_in_flight_is_found_though_its_sidecar_died(world: World) -> None:
    admission = await world.ledger.authorize(call(estimate=9))
    pending = await world.ledger.action(admission.action_id)
    assert pending is not None
    assert (pending.outcome, pending.reserved) == ("pending", 9)
    assert find_action(world.data, admission.action_id) == pending
    await world.stop()
    assert find_action(world.data, admission.action_id) == pending
    await world.start()
    expired = find_action(world.data, admission.action_id)
    assert expired is not None
    assert (expired.ending, expired.cost) == ("expired", 9)


async def test_an_action_that_ends_in_a_later_month_is_found_as_it_ended(world: World) -> None:
    admission = await world.ledger.authorize(call(estimate=9))
    flying = await world.ledger.authorize(call(estimate=9))
    world.at = ms("2026-11-02T00:00:00Z")
    settled = await world.ledger.settle(admission.action_id, SETTLED)
    world.at = ms("2026-12-02T00:00:00Z")
    await world.ledger.record(call(estimate=1), "success")
    assert await in_the_journal_alone(world, admission.action_id) == settled
    pending = find_action(world.data, flying.action_id)
    assert pending is not None
    assert pending.outcome == "pending"


async def test_a_denial_is_found_with_how_often_it_was_repeated(world: World) -> None:
    await world.ledger.authorize(call(estimate=101 * 10**9))  # which pauses the agent
    first = await world.ledger.authorize(call(estimate=9))
    assert isinstance(first, Denial)
    assert first.action_id is not None
    world.at = ms("2026-10-31T23:59:30Z")
    again = [await world.ledger.authorize(call(estimate=9)) for _ in range(3)]
    assert isinstance(again[0], Denial)
    assert again[0].action_id is not None
    world.at = ms("2026-11-01T00:00:10Z")
    await world.ledger.authorize(call(estimate=9))
    recorded = await in_the_journal_alone(world, first.action_id)
    repeated = find_action(world.data, again[0].action_id)
    assert recorded is not None
    assert (recorded.outcome, recorded.reason, recorded.count) == ("denied", "agent_paused", 1)
    assert repeated is not None
    assert (repeated.outcome, repeated.reason, repeated.count) == ("denied", "agent_paused", 4)


async def test_what_is_not_there_is_none(world: World) -> None:
    action = await ended(world)
    for wrong in ("act_1", action.id[:-1], "", 'a"b', "a", "\ud800", "carry"):
        assert find_action(world.data, wrong) is None
    assert await in_the_journal_alone(world, "act_1") is None


def test_a_folder_without_a_journal_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="holds no journal"):
        find_action(tmp_path / "data", "act_1")
    assert list(tmp_path.iterdir()) == []


async def test_hazard_38_a_line_that_is_cut_short_is_not_read_and_one_that_is_damaged_is_told(world: World) -> None:
    action = await ended(world)
    await world.stop()
    without_index(world.data)
    [journal] = (world.data / "journal").glob("*.jsonl")
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-1])
    cut = find_action(world.data, action.id)
    assert cut is not None
    assert cut.outcome == "pending"
    journal.write_bytes(whole[:-2] + b"\n")
    with pytest.raises(LedgerDamaged, match=f"a line of {journal.name} that names {action.id}"):
        find_action(world.data, action.id)
