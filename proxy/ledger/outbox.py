"""The outbox: the alerts that webhooks have not taken yet. A part of the book: the same entries give the same outbox.

At most WAITING_MAX wait for a webhook: from there on its oldest are given up. Of those given up, the dead letters, the
latest DEAD_MAX are kept. Both bounds are part of the format: a replay by others would come to another outbox.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from proxy.ledger.entries import DeliveryNote, alert_row, row_alert
from proxy.ledger.port import Alert, Delivery

WAITING_MAX = 1000
DEAD_MAX = 1000
_CROWDED = f"more than {WAITING_MAX} alerts waited for this webhook"


class Outbox:
    """``webhooks`` in force, each with the types of alerts it is sent (none: all).

    How often a delivery that waits was tried is known to this process alone, and in no state.
    """

    def __init__(self) -> None:
        self.webhooks: dict[str, tuple[str, ...]] = {}
        self.waiting: dict[str, dict[str, Delivery]] = {}  # by webhook, in the order they are sent
        self.dead: dict[str, Delivery] = {}
        # Told live of a webhook that something waits for, and whether by hand; a replay tells nobody.
        self.wake: Callable[[str, bool], None] | None = None

    def use(self, webhooks: Mapping[str, tuple[str, ...]]) -> None:
        """Put these in force; what is held for others is dropped."""
        self.webhooks = dict(webhooks)
        self.waiting = {name: held for name, held in self.waiting.items() if name in webhooks}
        self.dead = {each.id: each for each in self.dead.values() if each.webhook in webhooks}

    def queue(self, alert: Alert, at: int) -> None:
        """For each webhook that such alerts are sent to."""
        for name, types in self.webhooks.items():
            if not types or alert.type in types:
                self._wait(Delivery(delivery_id(alert.id, name), alert, name, 0, None, at, at))

    def note(self, delivery: Delivery, note: DeliveryNote, at: int) -> None:
        """The end of a delivery that waits, or of one given up meanwhile; or that it waits again, by hand."""
        self.dead.pop(delivery.id, None)
        self.waiting.get(delivery.webhook, {}).pop(delivery.id, None)
        if note.how == "given up":
            self._bury(replace(delivery, attempts=note.attempts, last_error=note.error, next_at=None))
        elif note.how == "again":
            self._wait(replace(delivery, attempts=0, last_error=None, since=at, next_at=at), by_hand=True)

    def tried(self, delivery: Delivery, error: str, next_at: int) -> None:
        """An attempt has failed; the next is at ``next_at``."""
        tried = replace(delivery, attempts=delivery.attempts + 1, last_error=error, next_at=next_at)
        self.waiting[delivery.webhook][delivery.id] = tried

    def find(self, delivery_id: str) -> Delivery | None:
        for held in (*self.waiting.values(), self.dead):
            if delivery_id in held:
                return held[delivery_id]
        return None

    def held(self) -> list[Delivery]:
        """Those that wait, for each webhook in order, and then those given up."""
        return [each for held in (*self.waiting.values(), self.dead) for each in held.values()]

    def held_for_others(self, webhooks: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
        """How many of each webhook that is not among these wait."""
        return {name: len(held) for name, held in self.waiting.items() if held and name not in webhooks}

    def load(self, webhooks: Mapping[str, Iterable[str]], rows: Iterable[Mapping[str, Any]]) -> None:
        """An empty outbox becomes what `delivery_row` told of each of ``held``."""
        self.webhooks = {name: tuple(types) for name, types in webhooks.items()}
        for row in rows:
            each = _row_delivery(row)
            held = self.dead if each.next_at is None else self.waiting.setdefault(each.webhook, {})
            held[each.id] = each

    def _wait(self, delivery: Delivery, *, by_hand: bool = False) -> None:
        waiting = self.waiting.setdefault(delivery.webhook, {})
        waiting[delivery.id] = delivery
        if len(waiting) > WAITING_MAX:
            oldest = waiting.pop(next(iter(waiting)))
            self._bury(replace(oldest, attempts=0, last_error=_CROWDED, next_at=None))
        if self.wake is not None:
            self.wake(delivery.webhook, by_hand)

    def _bury(self, delivery: Delivery) -> None:
        self.dead[delivery.id] = delivery
        if len(self.dead) > DEAD_MAX:
            del self.dead[next(iter(self.dead))]


def delivery_id(alert_id: str, webhook: str) -> str:
    """The same for the same alert to the same webhook, whenever it is worked out."""
    return f"dlv_{hashlib.sha256(f'{alert_id} {webhook}'.encode()).hexdigest()[:28]}"


def delivery_row(delivery: Delivery) -> dict[str, Any]:
    row = {
        "id": delivery.id,
        "alert": alert_row(delivery.alert),
        "webhook": delivery.webhook,
        "since": delivery.since,
    }
    if delivery.next_at is None:
        row["dead"] = [delivery.attempts, delivery.last_error]
    return row


def _row_delivery(row: Mapping[str, Any]) -> Delivery:
    attempts, error = row.get("dead", (0, None))
    next_at = None if "dead" in row else row["since"]
    return Delivery(row["id"], row_alert(row["alert"]), row["webhook"], attempts, error, next_at, row["since"])
