"""How far what is synced, and what is indexed, is behind what is recorded: told to Prometheus."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from proxy.ledger.embedded import EmbeddedLedger, open_embedded
from proxy.ledger.port import LedgerUnavailable, Settlement
from proxy.ledger.store import Store
from tests.contract.policies import budget, policy
from tests.contract.world import World, call
from tests.proxy.line.governed import until


def store_of(world: World) -> Store:
    assert isinstance(world.ledger, EmbeddedLedger)
    return world.ledger._store


async def record(world: World) -> None:
    await world.ledger.record(call(estimate=1), "success")


async def test_what_waits_to_be_synced_is_counted_and_timed_from_the_oldest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, gate, syncing, real = store_of(world).journal, threading.Event(), threading.Event(), os.fdatasync

    def held(fd: int) -> None:
        if fd == journal._fd:
            syncing.set()
            gate.wait()
        real(fd)

    await until(lambda: world.ledger.health().unsynced == 0)
    monkeypatch.setattr(os, "fdatasync", held)
    try:
        await record(world)
        await until(syncing.is_set)
        world.at += 5_000
        await record(world)  # behind the sync that is under way
        world.at += 2_000
        assert (world.ledger.health().unsynced, world.ledger.health().unsynced_ms) == (2, 7_000)
        syncing.clear()
        gate.set()
        await until(syncing.is_set)  # the first is synced, the second's turn has come
        await until(lambda: world.ledger.health().unsynced == 0)
    finally:
        gate.set()
    assert world.ledger.health().unsynced_ms == 0
    world.at += 60_000
    gate.clear()
    try:
        await record(world)
        world.at += 1_000
        assert world.ledger.health().unsynced_ms == 1_000  # idle time is no lag
    finally:
        gate.set()


async def test_what_came_while_others_were_synced_has_waited_from_then_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, gates, real = store_of(world).journal, [threading.Event(), threading.Event()], os.fdatasync
    turns = iter(gates)
    await until(lambda: world.ledger.health().unsynced == 0)

    def held(fd: int) -> None:
        if fd == journal._fd and (gate := next(turns, None)) is not None:
            gate.wait()
        real(fd)

    monkeypatch.setattr(os, "fdatasync", held)
    try:
        await record(world)
        first = world.ledger.health().sequence
        await until(lambda: journal._syncing_since is not None)
        world.at += 5_000
        await record(world)
        gates[0].set()
        await until(lambda: journal.synced.seq == first)
        world.at += 2_000
        assert (world.ledger.health().unsynced, world.ledger.health().unsynced_ms) == (1, 2_000)
    finally:
        for gate in gates:
            gate.set()


async def test_what_the_read_index_lacks_is_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    index = store_of(world).index
    await store_of(world).caught_up()
    assert world.ledger.health().unindexed == 0
    monkeypatch.setattr(index, "follow", lambda tip: None)
    for _ in range(3):
        await record(world)
    assert world.ledger.health().unindexed == 3


async def test_the_standing_of_one_budget_and_group(world: World) -> None:
    day = budget("day", "4", each="agent")
    await world.ledger.use(policy(day))
    admitted = await world.ledger.authorize(call(estimate=7))
    await record(world)
    found = world.ledger.standing(day, "a")
    assert (found.spent, found.reserved, found.group) == (1, 7, "a")
    nobody = world.ledger.standing(day, "nobody")
    assert (nobody.spent, nobody.reserved) == (0, 0)
    await world.ledger.void(admitted.action_id, Settlement(0, "failure"))
    assert world.ledger.standing(day, "a").reserved == 0
    world.at += 86_400_000
    assert world.ledger.standing(day, "a").spent == 0


async def test_it_has_none_before_a_policy_is_in_force(tmp_path: Path) -> None:
    ledger = await open_embedded(tmp_path / "data")
    with pytest.raises(LedgerUnavailable):
        ledger.standing(budget("day", "4"), "")
    await ledger.close()
