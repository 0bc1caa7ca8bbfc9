"""What a policy that fails open lets through while the ledger can't record: counted, and told of by an alert."""

from __future__ import annotations

from proxy.ledger.entries import Entry
from proxy.ledger.notices import HOUR_MS, notice
from proxy.ledger.outbox import Outbox
from proxy.ledger.port import Alert, LedgerUnavailable
from proxy.ledger.store import Store


class Unrecorded:
    """Calls since this process began. ``alerts``, one an hour, are those that could not be written either, and
    ``outbox`` has their deliveries."""

    def __init__(self, store: Store) -> None:
        self.alerts: list[Alert] = []
        self.outbox = Outbox()
        self._store = store
        self._calls = 0
        self._hour = -1

    def admit(self, at: int, why: str) -> None:
        self._calls += 1
        if at // HOUR_MS != self._hour:
            self._hour = at // HOUR_MS
            self._alert(at, why)

    def warning(self) -> str | None:
        return f"{self._calls} calls were let through unrecorded (ledger_unavailable: allow)" if self._calls else None

    def _alert(self, at: int, why: str) -> None:
        message = f"The ledger can't record ({why}), and the policy lets calls pass: they are forwarded unrecorded."
        told = notice(at, None, "failed_open", message)
        try:
            self._store.commit(Entry("alert", at, alerts=(told,)))  # on a nearly full disk a line still fits
        except LedgerUnavailable:
            self.alerts.insert(0, told.alert)
            self.outbox.webhooks = self._store.book.outbox.webhooks
            self.outbox.queue(told.alert, at)
