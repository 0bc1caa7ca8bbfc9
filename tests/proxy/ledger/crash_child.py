"""The process that test_crash kills: it acts on a ledger, and says on stdout what was acknowledged, when it was."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from proxy.ledger import store
from proxy.ledger.embedded import open_embedded
from proxy.ledger.port import Admission, Ledger, Settlement
from tests.contract.policies import agent, budget, policy
from tests.contract.world import call

POLICY = policy(agent("a"), agent("b"), budget("all", "100", "total"))


def tell(*words: object) -> None:
    print(*words, flush=True)


async def authorize(ledger: Ledger, agent_id: str, amount: int) -> str:
    answer = await ledger.authorize(call(agent_id, amount))
    assert isinstance(answer, Admission)
    tell("reserved", answer.action_id, amount)
    return answer.action_id


async def settle(ledger: Ledger, action_id: str, cost: int) -> None:
    await ledger.settle(action_id, Settlement(cost, "success"))
    tell("settled", action_id, cost)


async def record(ledger: Ledger, agent_id: str, cost: int, key: str) -> None:
    recorded = await ledger.record(call(agent_id, cost), "success", (key, "digest"))
    assert recorded.action is not None
    tell("recorded", recorded.action.id, cost, agent_id, key)


async def work(ledger: Ledger, seed: int) -> None:
    """Act without end, with checkpoints every few lines."""
    store._CHECKPOINT_LINES = 50
    chance = random.Random(seed)
    held: list[str] = []
    for n in range(10**9):
        agent_id, amount = chance.choice("ab"), chance.randint(1, 1000)
        if held and chance.random() < 0.4:
            await settle(ledger, held.pop(chance.randrange(len(held))), amount)
        elif chance.random() < 0.5:
            held.append(await authorize(ledger, agent_id, amount))
        else:
            await record(ledger, agent_id, amount, f"key-{seed}-{n}")
        await asyncio.sleep(0)


async def main(data: str, state: str, seed: int) -> None:
    ledger = await open_embedded(Path(data))
    await ledger.use(POLICY)
    tell("opened")
    if state == "working":
        await work(ledger, seed)
    if state != "before reserve":
        held = await authorize(ledger, "a", 700)
        if state == "settled":
            await settle(ledger, held, 300)
        elif state == "voided":
            await ledger.void(held, Settlement(None, "failure"))
        elif state == "recorded":
            await record(ledger, "a", 50, "key")
    tell("ready")
    await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
