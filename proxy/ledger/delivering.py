"""What the embedded engine tells of alerts' deliveries, and takes back from who makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from proxy.ledger.entries import DeliveryNote, Entry
from proxy.ledger.outbox import Outbox
from proxy.ledger.port import Delivery, LedgerUnavailable
from proxy.ledger.reading import Reading
from proxy.ledger.store import Store


class Delivering(Reading):
    """The outbox is the book's; beside it is one of alerts that no line could be written of, in memory only."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._strict = False
        # Ended, though no line says so: the journal is closed until this process ends, and its outbox stays as it is.
        self._ended: set[str] = set()

    def deliveries(self) -> Sequence[Delivery]:
        held = [each for outbox in self._outboxes() for each in outbox.held() if each.id not in self._ended]
        return sorted(held, key=lambda each: each.since)

    def waiting(self, webhook: str) -> Sequence[Delivery]:
        held = [each for outbox in self._outboxes() for each in outbox.waiting.get(webhook, {}).values()]
        return [each for each in held if each.id not in self._ended] if self._ended else held

    def on_queued(self, wake: Callable[[str, bool], None]) -> None:
        for outbox in self._outboxes():
            outbox.wake = wake

    async def redeliver(self, delivery_id: str) -> Delivery | None:
        outbox, delivery = self._find(delivery_id)
        if delivery is None or delivery.next_at is not None:
            return None
        seq = self._note(outbox, delivery, DeliveryNote("again", delivery.attempts, delivery.last_error))
        again = outbox.find(delivery_id)
        await self._durable(seq)
        return again

    def tried(self, delivery_id: str, error: str, next_at: int) -> None:
        outbox, delivery = self._find(delivery_id)
        if delivery is not None and delivery.next_at is not None:
            outbox.tried(delivery, error, next_at)

    async def delivered(self, delivery_id: str) -> None:
        self._delivery_ended(delivery_id, "delivered", None)

    async def give_up(self, delivery_id: str, error: str) -> None:
        self._delivery_ended(delivery_id, "given up", error)

    def _delivery_ended(self, delivery_id: str, how: Literal["delivered", "given up"], error: str | None) -> None:
        outbox, delivery = self._find(delivery_id)
        if delivery is None:
            return  # its webhook went out of the policy meanwhile
        try:
            attempts = delivery.attempts + (how == "delivered")
            self._note(outbox, delivery, DeliveryNote(how, attempts, error or delivery.last_error))
        except LedgerUnavailable:
            self._ended.add(delivery_id)

    def _note(self, outbox: Outbox, delivery: Delivery, note: DeliveryNote) -> int:
        at = self._store.now()
        if outbox is self._store.book.outbox:
            return self._store.commit(Entry("delivery", at, id=delivery.id, delivery=note))
        outbox.note(delivery, note, at)
        return 0

    def _find(self, delivery_id: str) -> tuple[Outbox, Delivery | None]:
        first, second = self._outboxes()
        delivery = first.find(delivery_id)
        return (second, second.find(delivery_id)) if delivery is None else (first, delivery)

    def _outboxes(self) -> tuple[Outbox, Outbox]:
        return self._store.book.outbox, self._unrecorded.outbox

    async def _durable(self, seq: int = 0) -> None:
        """Where lines are synced before they are answered for: return once that one is; 0: all that there are, on which
        an answer rests that wrote none itself."""
        if self._strict:
            await self._store.journal.durable(seq or self._store.journal.tip.seq)
