"""One webhook's courier: it sends what waits for it, one at a time and in order, until each is taken or given up."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from policy.model import Webhook
from proxy.ledger.port import Delivery, Ledger
from proxy.notify.backoff import GIVE_UP_S, MOST_S
from proxy.notify.message import body_of, headers_of
from proxy.notify.receiver import Failure, Receiver

log = logging.getLogger("agent_ledger.notify")

# Said of the receiver as a whole. Any other answer may be to this one alert: after so many of them those behind it go
# first, or an alert that the receiver never takes would hold up all others for a day.
_DOWN = frozenset({0, 408, 425, 429, 502, 503, 504})
_YIELDS_AFTER = 5


@dataclass(slots=True)
class _Tried:
    """A delivery that failed: how often, how often by an answer to it alone, and when it is due (loop time)."""

    failures: int = 0
    answered: int = 0
    due: float = 0.0


class Courier:
    """``outcomes`` counts attempts: (webhook, "delivered" or "failed"). ``pause`` is as `backoff.pause_s`."""

    def __init__(
        self,
        webhook: Webhook,
        ledger: Ledger,
        outcomes: Counter[tuple[str, str]],
        pause: Callable[[int, float], float],
        attempt_s: float,
    ) -> None:
        self.webhook = webhook
        self._ledger = ledger
        self._outcomes = outcomes
        self._pause = pause
        self._attempt_s = attempt_s
        self._receiver = Receiver(webhook.url, attempt_s)
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._spent: list[Receiver] = []
        self._stopping = False
        self._begin_anew()
        for outcome in ("delivered", "failed"):
            outcomes[webhook.name, outcome] += 0

    def use(self, webhook: Webhook) -> None:
        """What waits goes there from now on, at once."""
        if webhook != self.webhook:
            self._spent.append(self._receiver)
            self.webhook, self._receiver = webhook, Receiver(webhook.url, self._attempt_s)
            self._begin_anew()
            self._woken.set()

    def wake(self, by_hand: bool) -> None:
        """Something waits; what an operator sends again is tried at once."""
        if by_hand:
            self._not_before = 0.0
        self._woken.set()

    def stop(self) -> None:
        """No other attempt begins."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Until it is stopped; cancelled, it breaks the attempt in flight off."""
        try:
            while not self._stopping:
                self._woken.clear()
                while self._spent:
                    await self._spent.pop().aclose()
                delivery, wait_s = self._next()
                if delivery is not None:
                    await self._send(delivery)
                else:
                    await self._wait(wait_s)
        finally:
            for receiver in (*self._spent, self._receiver):
                await receiver.aclose()

    def _begin_anew(self) -> None:
        self._began_s = time.time()
        self._tried: dict[str, _Tried] = {}
        self._failures = 0  # in a row, of whatever was sent
        self._not_before = 0.0  # loop time

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass

    def _next(self) -> tuple[Delivery | None, float | None]:
        """What to send now; else for how long there is nothing (None: until woken)."""
        waiting = self._ledger.waiting(self.webhook.name)
        if not waiting:
            self._tried.clear()
            return None, None
        now, tried = self._loop.time(), self._tried
        if now < self._not_before:
            return None, self._not_before - now
        due = [each for each in waiting if each.id not in tried or tried[each.id].due <= now]
        if due:
            return min(due, key=self._yields), None
        return None, min(tried[each.id].due for each in waiting) - now

    def _yields(self, delivery: Delivery) -> int:
        tried = self._tried.get(delivery.id)
        return tried.answered // _YIELDS_AFTER if tried else 0

    async def _send(self, delivery: Delivery) -> None:
        webhook, receiver, now_s = self.webhook, self._receiver, time.time()
        body = body_of(webhook, delivery.alert, delivery.id)
        failure = await receiver.post(headers_of(webhook, body, delivery.id, int(now_s)), body, now_s)
        self._outcomes[webhook.name, "delivered" if failure is None else "failed"] += 1
        if failure is None:
            await self._taken(delivery)
        elif receiver is self._receiver:
            await self._failed(delivery, failure)

    async def _taken(self, delivery: Delivery) -> None:
        if self._failures:
            log.info("webhook %s takes alerts again", self.webhook.name)
        self._failures = 0
        self._tried.pop(delivery.id, None)
        await self._ledger.delivered(delivery.id)

    async def _failed(self, delivery: Delivery, failure: Failure) -> None:
        name, now_s = self.webhook.name, time.time()
        if not self._failures:
            log.warning("webhook %s takes no alerts, they wait: %s", name, failure.words)
        self._failures += 1
        tried = self._tried.setdefault(delivery.id, _Tried())
        tried.failures += 1
        tried.answered += failure.status not in _DOWN
        chance = random.random()  # noqa: S311 (spreads load; no secret)
        asked_s = min(failure.retry_after_s, MOST_S) if failure.status in (429, 503) else 0.0
        pauses = [max(asked_s, self._pause(failures, chance)) for failures in (self._failures, tried.failures)]
        self._not_before, tried.due = (self._loop.time() + pause for pause in pauses)
        self._ledger.tried(delivery.id, failure.words, int((now_s + max(pauses)) * 1000))
        for each in self._ledger.waiting(name):
            gone = each.id == delivery.id and failure.status == 410
            # What waited while nobody tried has its day still before it: a restart after a weekend loses no alert.
            if gone or now_s - max(each.since / 1000, self._began_s) >= GIVE_UP_S:
                self._tried.pop(each.id, None)
                log.warning("alert %s is no longer sent to webhook %s: %s", each.alert.id, name, failure.words)
                await self._ledger.give_up(each.id, failure.words)
                await asyncio.sleep(0)  # there may be hundreds
