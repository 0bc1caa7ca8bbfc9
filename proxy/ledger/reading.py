"""What the embedded engine answers: from the book where it is a matter of now, else from the index."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any

from proxy.ledger import queries, spending, tail
from proxy.ledger.port import Action, ActionFilter, Alert, Page, Reservation
from proxy.ledger.store import Store
from proxy.ledger.unrecorded import Unrecorded

_EXPORT_PAGE = 1000


class Reading:
    """The reads of the port; each sees everything recorded before it was asked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._unrecorded = Unrecorded(store)

    def reservations(self) -> Sequence[Reservation]:
        drafts = (reservation.action for reservation in self._store.book.open.values())
        return [
            Reservation(draft.id, draft.agent_id, draft.target, draft.reserved or 0, draft.created_at)
            for draft in drafts
        ]

    async def action(self, action_id: str) -> Action | None:
        reservation = self._store.book.open.get(action_id)
        if reservation is not None:
            return reservation.action
        await self._store.caught_up()
        return await self._store.index.read(partial(queries.action, action_id=action_id))

    async def actions(self, query: ActionFilter) -> Page:
        if query.cursor is not None:
            queries.parse_cursor(query.cursor)
        await self._store.caught_up()
        return await self._store.index.read(partial(queries.page, query=query))

    async def recorded(self, query: ActionFilter, after: str | None) -> Page:
        if after is not None:
            tail.parse_place(after)
        await self._store.caught_up()
        return await self._store.index.read(partial(tail.recorded, query=query, after=after))

    async def export(self, query: ActionFilter) -> AsyncIterator[Action]:
        await self._store.caught_up()
        place, seq_max = (-1, -1), self._store.journal.tip.seq
        while True:
            page = partial(queries.after, query=query, place=place, seq_max=seq_max, limit=_EXPORT_PAGE)
            rows = await self._store.index.read(page)
            for action, _ in rows:
                yield action
            if len(rows) < _EXPORT_PAGE:
                return
            place = rows[-1][1]

    async def alerts(
        self, agent_id: str | None = None, limit: int = 1000, *, open_only: bool = False
    ) -> Sequence[Alert]:
        await self._store.caught_up()
        query = partial(queries.alerts, agent_id=agent_id, limit=limit, open_only=open_only)
        held = await self._store.index.read(query)
        return [*self._unrecorded.alerts, *held][:limit] if agent_id is None else held

    def open_alerts(self) -> int:
        recorded = self._store.book.alerts.values()
        return len(self._unrecorded.alerts) + sum(alert.acknowledged_at is None for alert in recorded)

    async def spend(
        self, group_by: Sequence[str], since: int | None, until: int | None, agent_id: str | None = None
    ) -> Sequence[Mapping[str, Any]]:
        spending.check_groups(group_by)
        await self._store.caught_up()
        index = self._store.index
        query = partial(spending.spend, groups=group_by, since=since, until=until, zone=index.zone, agent_id=agent_id)
        return await index.read(query)
