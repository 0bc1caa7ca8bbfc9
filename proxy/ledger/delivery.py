"""The part of the ledger's port that is about alerts' delivery to webhooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from proxy.ledger.port import Alert


@dataclass(frozen=True, slots=True)
class Delivery:
    """An alert that a webhook has not taken yet. ``id`` (``dlv_…``) is the same for the same alert to the same webhook.

    ``webhook`` is its name; ``next_at`` is when it is tried next (unix ms; None: it was given up, a dead letter).
    ``since`` is when it was queued, or last queued again by hand. ``attempts`` and ``last_error`` of one that waits are
    those since then that this process made.
    """

    id: str
    alert: Alert
    webhook: str
    attempts: int
    last_error: str | None
    next_at: int | None
    since: int = 0


class Deliveries(Protocol):
    """Each alert waits for every webhook of the policy in force that such alerts are sent to."""

    def deliveries(self) -> Sequence[Delivery]:
        """Those not delivered: waiting and given up, oldest first."""

    async def redeliver(self, delivery_id: str) -> Delivery | None:
        """Try a dead letter again from now; None: there is none."""

    def on_queued(self, wake: Callable[[str, bool], None]) -> None:
        """From now on ``wake`` is told of each webhook that an alert is queued for, and whether by `redeliver`."""

    def waiting(self, webhook: str) -> Sequence[Delivery]:
        """Those that wait for that webhook, in the order in which they are to be sent."""

    def tried(self, delivery_id: str, error: str, next_at: int) -> None:
        """An attempt failed; the next one is at ``next_at`` (unix ms). For `deliveries`; kept in memory only."""

    async def delivered(self, delivery_id: str) -> None:
        """The webhook took it. Where that can't be recorded, it waits again in the next process."""

    async def give_up(self, delivery_id: str, error: str) -> None:
        """It is tried no more: a dead letter, with that last error. As `delivered` where that can't be recorded."""
