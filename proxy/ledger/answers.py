"""What an Idempotency-Key was answered, within a day: told by memory until the index knows, then by the index."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from proxy.ledger import queries
from proxy.ledger.index import IDEMPOTENCY_MS
from proxy.ledger.port import IdempotencyConflict, Recorded
from proxy.ledger.store import Store

# Whose it is, and the key.
Slot = tuple[str, str]


class _Answer(NamedTuple):
    """What a key was answered, until the index has it."""

    digest: str
    at: int
    seq: int
    recorded: Recorded


class Answers:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._given: dict[Slot, _Answer] = {}
        self._giving: set[Slot] = set()

    @contextmanager
    def giving(self, key: Slot) -> Iterator[None]:
        """The answer is being made. Raises IdempotencyConflict where it already is."""
        if key in self._giving:
            raise IdempotencyConflict("the first call with this Idempotency-Key is still in flight", in_flight=True)
        self._giving.add(key)
        try:
            yield
        finally:
            self._giving.discard(key)

    async def given(self, key: Slot, digest: str) -> Recorded | None:
        """The first answer. Raises IdempotencyConflict where it was to a body of another digest."""
        held = await self._find(key)
        if held is None:
            return None
        if held[0] != digest:
            raise IdempotencyConflict("this Idempotency-Key was used with another body", in_flight=False)
        return held[1]

    def keep(self, key: Slot, digest: str, seq: int, recorded: Recorded) -> None:
        self._given[key] = _Answer(digest, self._store.now(), seq, replace(recorded, replayed=True))

    async def _find(self, key: Slot) -> tuple[str, Recorded] | None:
        now, applied = self._store.now(), self._store.index.applied
        while self._given and (oldest := next(iter(self._given.items())))[1].seq <= applied:
            del self._given[oldest[0]]
        held = self._given.get(key)
        if held is not None:
            return (held.digest, held.recorded) if held.at > now - IDEMPOTENCY_MS else None
        await self._store.index.reach(self._store.opened_at)
        return await self._store.index.read(partial(queries.answer, agent_id=key[0], key=key[1], now=now))
