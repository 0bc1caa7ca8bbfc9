"""The outbox has bounds, is proved as the rest of the book is, and outlives the months that its alerts are of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policy.model import Webhook
from proxy.ledger import outbox
from proxy.ledger.archive import archive
from proxy.ledger.port import ActionFilter, Settlement
from proxy.ledger.verify import verify
from tests.contract.policies import policy
from tests.contract.world import World, call, ms

HOOKS = (Webhook("https://hooks.example/planted-path", name="ops", secret="planted-signing-secret"),)


async def hooked(world: World, *names: str) -> None:
    hooks = tuple(Webhook("https://hooks.example/planted-path", name=name) for name in names) or HOOKS
    world.policies = {"hooked": policy(thresholds=(50,), webhooks=hooks)}
    await world.do_use("hooked")


async def overruns(world: World, count: int) -> None:
    for n in range(count):
        held = await world.ledger.authorize(call(estimate=1, target=f"x:{n}"))
        await world.ledger.settle(held.action_id, Settlement(2, "success"))


def targets(world: World, *, dead: bool) -> list[str]:
    held = [each for each in world.ledger.deliveries() if (each.next_at is None) == dead]
    return [each.alert.message.split(" ")[1] for each in held]


async def test_of_too_many_the_oldest_are_given_up_and_of_those_the_oldest_go(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "WAITING_MAX", 3)
    monkeypatch.setattr(outbox, "DEAD_MAX", 2)
    await hooked(world)
    await overruns(world, 4)
    assert targets(world, dead=False) == ["x:1", "x:2", "x:3"]
    (dead,) = (each for each in world.ledger.deliveries() if each.next_at is None)
    assert dead.last_error == "more than 1000 alerts waited for this webhook"
    second = world.ledger.deliveries()[1]
    await world.ledger.delivered(dead.id)  # it was on its way when it was given up
    assert targets(world, dead=True) == []
    await world.ledger.give_up(second.id, "status 410")
    world.at += 86_400_000
    await overruns(world, 3)
    assert targets(world, dead=True) == ["x:1", "x:3"]
    assert targets(world, dead=False) == ["x:0", "x:1", "x:2"]
    held = world.ledger.deliveries()
    await world.restart()
    assert world.ledger.deliveries() == held


async def test_promise_12_an_outbox_that_the_journal_does_not_come_to_is_found(world: World) -> None:
    await hooked(world)
    await overruns(world, 2)
    await world.ledger.give_up(world.ledger.deliveries()[0].id, "status 410")
    assert verify(world.data).problems == ()
    await world.stop()
    desk = world.data / "desk.json"
    text = desk.read_text()
    for old, new in (
        ('"status 410"', '"status 418"'),
        ('"ops":[]', '"ops":["overrun"]'),
        ('"webhook":"ops"', '"webhook":"o"'),
    ):
        assert old in text
        desk.write_text(text.replace(old, new, 1))
        assert "the desk's checkpoint here" in verify(world.data).problems[0], new
    desk.write_text(text)
    assert verify(world.data).problems == ()


@pytest.mark.parametrize("desk", ["kept", "lost"])
async def test_months_go_and_what_waits_of_them_stays(world: World, desk: str) -> None:
    await hooked(world)
    await overruns(world, 3)
    await world.ledger.give_up(world.ledger.deliveries()[1].id, "status 410")
    held = world.ledger.deliveries()
    for moment in ("2026-11-20T00:00:00Z", "2026-12-20T00:00:00Z"):
        world.at = ms(moment)
        await world.ledger.record(call(estimate=1), "success")
    await world.ledger.actions(ActionFilter())
    await world.stop()
    assert [month.path for month in archive(world.data, ms("2027-06-01T00:00:00Z"), remove=True)] == [None, None]
    if desk == "lost":
        (world.data / "desk.json").unlink()
    assert verify(world.data).problems == ()
    await world.start()
    assert world.ledger.deliveries() == held
    await world.ledger.delivered(held[0].id)
    assert world.ledger.deliveries() == held[1:]


async def test_promise_10_no_url_and_no_secret_of_a_webhook_is_kept(world: World) -> None:
    await hooked(world)
    await overruns(world, 1)
    await world.stop()
    kept = {path: path.read_bytes() for path in world.data.rglob("*") if path.is_file()}
    assert any(b'"webhooks":{"ops":[]}' in text for text in kept.values())
    assert not [path for path, text in kept.items() if b"planted" in text or b"hooks.example" in text]


def lines_of(data: Path) -> list[dict[str, object]]:
    path = max((data / "journal").glob("*.jsonl"))
    return [json.loads(line) for line in path.read_bytes().splitlines()]


async def test_a_delivery_is_one_line_and_attempts_are_none(world: World) -> None:
    await hooked(world)
    await overruns(world, 1)
    (made,) = world.ledger.deliveries()
    before = len(lines_of(world.data))
    world.ledger.tried(made.id, "status 500", 1)
    assert len(lines_of(world.data)) == before
    await world.ledger.delivered(made.id)
    last = lines_of(world.data)[-1]
    assert (last["type"], last["id"], last["delivery"]) == ("delivery", made.id, ["delivered", 2, "status 500"])
    await world.do_use("hooked")  # nothing has changed
    assert len(lines_of(world.data)) == before + 1


async def test_a_webhook_that_is_renamed_is_another(world: World) -> None:
    await hooked(world, "ops")
    await overruns(world, 1)
    await hooked(world, "ops", "more")
    assert [each.webhook for each in world.ledger.deliveries()] == ["ops"]
    await hooked(world, "more")
    assert world.ledger.deliveries() == []
