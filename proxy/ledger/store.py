"""The data folder, open: journal, book, desk and index kept together, and what must be done now and then for them."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from proxy.ledger import desk
from proxy.ledger.book import Book, state_of
from proxy.ledger.entries import FINAL, Entry
from proxy.ledger.index import Index
from proxy.ledger.journal import Journal, folder_of
from proxy.ledger.lock import take
from proxy.ledger.notices import notice
from proxy.ledger.port import Action, LedgerError, LedgerUnavailable
from proxy.ledger.recovery import Recovered, recover
from proxy.ledger.repeats import Repeats

log = logging.getLogger("agent_ledger.ledger")

DISK_FREE_MIN = 16 << 20
_CHECKPOINT_LINES = 20_000
_CHECKPOINT_S = 30.0
_INDEX_LINES = 5_000  # many as one transaction cost it less; a read has it follow at once
_HOUSEKEEPING_S = 1.0


class Store:
    """One process's hold on a data folder. ``commit`` is the only way anything in it changes."""

    def __init__(
        self, data: Path, clock: Callable[[], int], lock: int, recovered: Recovered, journal: Journal, index: Index
    ) -> None:
        self.book: Book = recovered.book
        self.journal = journal
        self.index = index
        self.repeats = Repeats()
        self.opened_at = recovered.mark
        self.disk_low: str | None = None
        self.tape: list[tuple[int, Action]] | None = None
        self._damage = recovered.damage
        self._data = data
        self._clock = clock
        self._lock = lock
        self._loop = asyncio.get_running_loop()
        self._checkpoint_seq = -1
        self._checkpoint_at = self._loop.time()
        self._checkpoint_failure: str | None = None
        self._checkpointing: asyncio.Task[None] | None = None
        self._housekeeping: asyncio.Task[None] | None = None
        self._index_seq = 0

    @classmethod
    async def open(cls, data: Path, clock: Callable[[], int]) -> Store:
        """Raises LedgerDamaged, or LedgerError where the folder is another process's or can't be used."""
        lock = -1
        journal = index = None
        try:
            data.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = take(data)
            recovered = await asyncio.to_thread(recover, data)
            journal = Journal(folder_of(data), recovered.mark)
            index = await asyncio.to_thread(Index, data, journal.folder, journal.tip, asyncio.get_running_loop())
            store = cls(data, clock, lock, recovered, journal, index)
            await store._begin()
        except BaseException as error:
            for part in (index, journal):
                if part is not None:
                    await part.close()
            if lock >= 0:
                os.close(lock)
            if isinstance(error, (OSError, sqlite3.Error)):
                raise LedgerError(f"the data folder {data} can't be used: {error}") from error
            raise
        return store

    async def _begin(self) -> None:
        """Say what was found: a damaged tail, and calls that a process before left in flight."""
        await self._look_at_disk()
        try:
            at = self.now()
            if self._damage:
                told = tuple(notice(at, None, "journal_damaged", text) for text in self._damage)
                self.commit(Entry("alert", at, alerts=told))
            for reservation in list(self.book.open.values()):
                draft = reservation.action
                expired = replace(
                    draft,
                    cost=draft.reserved or 0,
                    outcome="failure",
                    ending="expired",
                    unconfirmed=True,
                    flags=(*draft.flags, "expired"),
                )
                self.commit(Entry("expire", at, action=expired))
        except LedgerUnavailable:
            log.warning("the ledger is open for reading only")
        self._housekeeping = asyncio.create_task(self._keep_house())

    # -- changing ------------------------------------------------------------------------------------------------------
    def now(self) -> int:
        """The ledger's time, unix ms: the clock's, but never before what is already recorded."""
        at, recorded = self._clock(), self.journal.tip.at
        return at if at > recorded else recorded

    def commit(self, entry: Entry) -> int:
        """Write the entry and apply it; its sequence. Raises LedgerUnavailable: then it has not happened."""
        if self.journal.ends_month(entry.at):
            self._begin_month(entry.at)
        seq = self.journal.append(entry)
        self.book.apply(entry)
        if self.tape is not None and entry.action is not None and entry.type in FINAL:
            self.tape.append((seq, entry.action))
        if seq - self._index_seq >= _INDEX_LINES:
            self._index_seq = seq
            self.index.follow(self.journal.tip)
        if seq - self._checkpoint_seq >= _CHECKPOINT_LINES:
            self._begin_checkpoint()
        return seq

    def _begin_month(self, at: int) -> None:
        self.journal.begin_month(at)
        self.book.advance(at)
        self.journal.append(Entry("carry", at, book=state_of(self.book.freeze())))

    def flush_repeats(self) -> None:
        """Write how often denials were repeated since the last time. Raises LedgerUnavailable."""
        counts = self.repeats.take()
        if counts:
            self.commit(Entry("repeat", self.now(), counts=counts))

    async def caught_up(self) -> None:
        """Return once the index holds everything recorded before the call."""
        if self.journal.failure is None:
            self.flush_repeats()
        await self.index.reach(self.journal.tip)

    # -- now and then --------------------------------------------------------------------------------------------------
    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            await self._look_at_disk()
            if self.journal.failure is not None:
                continue
            try:
                self.flush_repeats()
            except LedgerUnavailable:
                continue
            self.index.follow(self.journal.tip)
            if self._loop.time() - self._checkpoint_at >= _CHECKPOINT_S and self.journal.tip.seq > self._checkpoint_seq:
                self._begin_checkpoint()

    async def _look_at_disk(self) -> None:
        try:
            stat = await asyncio.to_thread(os.statvfs, self._data)
        except OSError as error:
            self.disk_low = f"the data folder can't be looked at: {error.strerror}"
            return
        free = stat.f_bavail * stat.f_frsize
        low = f"the disk has {free >> 20} MiB free, below {DISK_FREE_MIN >> 20} MiB: nothing new is admitted"
        self.disk_low = low if free < DISK_FREE_MIN else None

    def _begin_checkpoint(self) -> None:
        if self._checkpointing is None or self._checkpointing.done():
            self._checkpointing = asyncio.create_task(self._checkpoint())

    async def _checkpoint(self) -> None:
        """The desk as of now, once the journal is synced up to it; a failure is told of and costs a longer replay."""
        mark, frozen = self.journal.tip, self.book.freeze()
        if not mark.offset:
            return  # a month that could not begin: no line of it stands for the book
        self._checkpoint_seq, self._checkpoint_at = mark.seq, self._loop.time()
        try:
            await self.journal.durable(mark.seq)
            await asyncio.to_thread(desk.write, self._data, mark, frozen)
            self._checkpoint_failure = None
        except (OSError, LedgerUnavailable) as error:
            self._checkpoint_failure = f"the desk could not be written: {error}"
            log.warning("%s", self._checkpoint_failure)

    @property
    def checkpoint_ok(self) -> bool:
        return self._checkpoint_failure is None

    def warnings(self) -> tuple[str, ...]:
        told = (*self._damage, self._checkpoint_failure, self.index.failure, self.index.shortened)
        return tuple(text for text in told if text is not None)

    async def close(self) -> None:
        if self._housekeeping is not None:
            self._housekeeping.cancel()
            await asyncio.wait([self._housekeeping])
        if self._checkpointing is not None:
            await self._checkpointing
        if self.journal.failure is None:
            try:
                self.flush_repeats()
            except LedgerUnavailable:
                log.warning("repeated denials of the last second are not counted")
            await self._checkpoint()
        await self.index.close()
        await self.journal.close()
        os.close(self._lock)
