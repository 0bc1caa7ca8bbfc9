"""Alerts wait for the webhooks of the policy until they are taken, or given up; each once for each webhook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from policy.model import Policy, Webhook
from proxy.ledger.port import Delivery
from tests.contract.conftest import Worlds
from tests.contract.policies import agent, budget, policy
from tests.contract.world import World


def hook(name: str, *types: str) -> Webhook:
    return Webhook(f"https://hooks.example/secret-{name}", types=types, name=name)


def hooked(*hooks: Webhook) -> Policy:
    return policy(agent(), agent("b", "1"), budget("day", "50"), thresholds=(50,), webhooks=hooks)


ALL = hook("all")
POLICIES: Mapping[str, Policy] = {
    "two": hooked(ALL, hook("overruns", "overrun", "failed_open")),
    "none": hooked(),
    "one": hooked(ALL),
    "other types": hooked(hook("all", "overrun")),
    "late": hooked(hook("late"), ALL),
}
OVERRUN = "authorize a 1.00 as x → ok 49.00\nsettle x 26.00 → 26.00"  # a threshold too


def told(w: World) -> list[tuple[str, str]]:
    return [(each.webhook, each.alert.type) for each in w.ledger.deliveries()]


def only(w: World) -> Delivery:
    (found,) = w.ledger.deliveries()
    return found


async def raise_one(w: World) -> Delivery:
    """An alert, which waits for one webhook."""
    await w.do_record("b", "2.00")
    return only(w)


async def test_an_alert_waits_for_each_webhook_that_is_sent_its_type(world: Worlds) -> None:
    async with world(POLICIES) as w:
        await w.run(OVERRUN)
        assert told(w) == [("all", "budget_threshold"), ("all", "overrun"), ("overruns", "overrun")]
        alerts = {alert.id: alert for alert in await w.ledger.alerts()}
        for each in w.ledger.deliveries():
            assert each.alert == alerts[each.alert.id]
            assert each.id.startswith("dlv_")
            assert (each.attempts, each.last_error, each.next_at, each.since) == (0, None, w.at, w.at)
        assert len({each.id for each in w.ledger.deliveries()}) == 3
        assert [each.alert.type for each in w.ledger.waiting("all")] == ["budget_threshold", "overrun"]
        assert w.ledger.waiting("elsewhere") == []


async def test_an_alert_is_sent_once_however_many_calls_are_denied(world: Worlds) -> None:
    async with world(POLICIES) as w:
        for _ in range(5):
            await w.do_record("a", "60.00")
        assert told(w) == [("all", "budget_exceeded")]
        await w.ledger.delivered(only(w).id)
        for _ in range(5):
            await w.do_record("a", "60.00")
        assert told(w) == []


async def test_what_was_delivered_leaves_for_good(world: Worlds) -> None:
    async with world(POLICIES) as w:
        await w.run(OVERRUN)
        first, second, third = w.ledger.deliveries()
        await w.ledger.delivered(second.id)
        assert list(w.ledger.deliveries()) == [first, third]
        await w.restart()
        assert list(w.ledger.deliveries()) == [first, third]
        await w.ledger.delivered(second.id)  # told twice
        assert await w.ledger.redeliver(second.id) is None
        for each in (first, third):
            await w.ledger.delivered(each.id)
        assert list(w.ledger.deliveries()) == []


async def test_attempts_are_told_and_those_given_up_are_dead_letters_until_by_hand(world: Worlds) -> None:
    async with world(POLICIES) as w:
        made = await raise_one(w)
        w.ledger.tried(made.id, "status 500", w.at + 1000)
        w.ledger.tried(made.id, "connection refused", w.at + 2000)
        tried = only(w)
        assert (tried.attempts, tried.last_error, tried.next_at) == (2, "connection refused", w.at + 2000)
        assert await w.ledger.redeliver(made.id) is None  # it waits anyhow
        await w.ledger.give_up(made.id, "status 410")
        dead = only(w)
        assert (dead.id, dead.attempts, dead.last_error, dead.next_at) == (made.id, 2, "status 410", None)
        assert w.ledger.waiting("all") == []
        w.ledger.tried(made.id, "late", w.at)
        await w.restart()
        assert only(w) == dead
        w.at += 5000
        again = await w.ledger.redeliver(made.id)
        assert again == only(w) == Delivery(made.id, made.alert, "all", 0, None, w.at, w.at)
        assert list(w.ledger.waiting("all")) == [again]
        await w.restart()
        assert only(w) == again
        assert await w.ledger.redeliver("dlv_unknown") is None
        await w.ledger.delivered(made.id)
        assert told(w) == []


async def test_one_that_is_sent_again_by_hand_comes_last(world: Worlds) -> None:
    async with world(POLICIES) as w:
        await w.run(OVERRUN)
        first, second = w.ledger.waiting("all")
        await w.ledger.give_up(first.id, "status 410")
        await w.ledger.redeliver(first.id)
        assert [each.id for each in w.ledger.waiting("all")] == [second.id, first.id]
        await w.restart()
        assert [each.id for each in w.ledger.waiting("all")] == [second.id, first.id]


async def test_alerts_of_before_a_webhook_are_not_sent_to_it(world: Worlds) -> None:
    async with world({"none": POLICIES["none"], **POLICIES}) as w:
        await w.do_record("b", "2.00")
        await w.do_use("late")
        assert told(w) == []
        await w.do_record("a", "60.00")
        assert told(w) == [("late", "budget_exceeded"), ("all", "budget_exceeded")]


async def test_a_webhook_that_leaves_the_policy_takes_what_waits_for_it_along(
    world: Worlds, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(POLICIES) as w:
        await w.run(OVERRUN)
        (dead,) = w.ledger.waiting("overruns")
        await w.ledger.give_up(dead.id, "status 410")
        await w.do_use("other types")
        assert told(w) == [("all", "budget_threshold"), ("all", "overrun")]  # queued is queued, whatever the types now
        assert caplog.messages == []
        await w.do_use("none")
        assert told(w) == []
        assert caplog.messages == ["webhook all left the policy: 2 alerts that waited for it are not sent"]
        await w.do_use("two")
        assert told(w) == []
        await w.restart()
        assert told(w) == []


async def test_who_delivers_is_told_of_what_is_queued(world: Worlds) -> None:
    async with world(POLICIES) as w:
        woken: list[tuple[str, bool]] = []
        w.ledger.on_queued(lambda webhook, by_hand: woken.append((webhook, by_hand)))
        await w.do_record("a", "1.00")
        assert woken == []
        made = await raise_one(w)
        assert woken == [("all", False)]
        await w.ledger.give_up(made.id, "status 410")
        await w.ledger.redeliver(made.id)
        assert woken == [("all", False), ("all", True)]


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    return [each.id for each in deliveries]


async def test_the_id_is_of_the_alert_and_the_webhook(world: Worlds) -> None:
    async with world(POLICIES) as w:
        await w.run(OVERRUN)
        before = ids(w.ledger.deliveries())
        w.at += 31 * 86_400_000  # another month, whose first line carries the outbox over
        await w.do_record("a", "1.00")
        assert ids(w.ledger.deliveries()) == before
        await w.restart()
        assert ids(w.ledger.deliveries()) == before
