"""Alerts that arrive: what waits in the ledger's outbox is sent to the policy's webhooks, beside the line.

    Notifier   a courier for each webhook of the policy in force
    courier    one webhook's: one delivery at a time, in order, tried again until it is taken or given up
    receiver   one POST, and why it failed
    message    what is sent: the body in each format, the signature
    backoff    how long to wait between attempts

At least once: a process that ends between a webhook's answer and its line in the journal has it sent again, under the
same delivery id.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from policy.model import Webhook
from proxy.ledger.ids import new_id
from proxy.ledger.outbox import delivery_id
from proxy.ledger.port import Alert, Ledger
from proxy.notify.backoff import pause_s
from proxy.notify.courier import Courier
from proxy.notify.message import body_of, headers_of
from proxy.notify.receiver import Receiver

__all__ = ["Notifier", "Trial"]

_STOP_S = 2.0
_ATTEMPT_S = 10.0


class Trial(NamedTuple):
    """What became of a test alert; ``error`` None: it was delivered."""

    webhook: str
    error: str | None


class Notifier:
    """Sends nothing before `use` says where to. ``outcomes`` counts attempts: (webhook, "delivered" or "failed")."""

    def __init__(
        self,
        ledger: Ledger,
        outcomes: Counter[tuple[str, str]],
        *,
        pause: Callable[[int, float], float] = pause_s,
        attempt_s: float = _ATTEMPT_S,
    ) -> None:
        self.outcomes = outcomes
        self._ledger = ledger
        self._pause = pause
        self._attempt_s = attempt_s
        self._couriers: dict[str, Courier] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def use(self, webhooks: Iterable[Webhook]) -> None:
        """Send to these from now on; the ledger has them in force already."""
        self._ledger.on_queued(self._wake)
        named = {webhook.name: webhook for webhook in webhooks}
        for name in self._couriers.keys() - named.keys():
            del self._couriers[name]
            self._tasks.pop(name).cancel()
        for name, webhook in named.items():
            courier = self._couriers.get(name)
            if courier is None:
                made = Courier(webhook, self._ledger, self.outcomes, self._pause, self._attempt_s)
                self._couriers[name] = made
                self._tasks[name] = asyncio.create_task(made.run())
            else:
                courier.use(webhook)

    async def test(self) -> list[Trial]:
        """Send an alert of type `test` to each webhook now, whatever types it is sent; it is recorded nowhere."""
        return await asyncio.gather(*[self._test(courier.webhook) for courier in self._couriers.values()])

    async def aclose(self) -> None:
        """Attempts in flight have 2 s to end; what waits goes on waiting, in the ledger."""
        for courier in self._couriers.values():
            courier.stop()
        tasks = list(self._tasks.values())
        self._couriers.clear()
        self._tasks.clear()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_STOP_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _wake(self, webhook: str, by_hand: bool) -> None:
        courier = self._couriers.get(webhook)
        if courier is not None:
            courier.wake(by_hand)

    async def _test(self, webhook: Webhook) -> Trial:
        now_s = time.time()
        alert = Alert(
            new_id("alr", int(now_s * 1000)),
            None,
            "test",
            "A test: alerts of this ledger arrive here.",
            int(now_s * 1000),
        )
        made = delivery_id(alert.id, webhook.name)
        body, receiver = body_of(webhook, alert, made), Receiver(webhook.url, self._attempt_s)
        try:
            failure = await receiver.post(headers_of(webhook, body, made, int(now_s)), body, now_s)
        finally:
            await receiver.aclose()
        return Trial(webhook.name, None if failure is None else failure.words)
