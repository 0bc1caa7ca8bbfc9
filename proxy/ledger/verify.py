"""Proof, offline: the journal is whole, and the balances, agents and rows are what replaying it gives."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.ledger import desk
from proxy.ledger.book import Book, state_of
from proxy.ledger.chain import MALFORMED, Damage, NewerFormat, place, walk
from proxy.ledger.desk import Checkpoint
from proxy.ledger.entries import FINAL, GENESIS, agent_row, dumps, loads, row_agent
from proxy.ledger.index import open_beside, path_of
from proxy.ledger.journal import (
    PACK_ERRORS,
    Mark,
    file_of,
    folder_of,
    months,
    open_lines,
    packed_of,
    read_archived,
    read_synced,
)
from proxy.ledger.lock import is_taken, reading_files
from proxy.ledger.queries import Sums, sums


@dataclass(frozen=True, slots=True)
class Report:
    """``head`` is the hash of the last line: keep it elsewhere, and a later run can be given it as ``anchor``.

    ``first`` is the sequence of the first line that is there: those before are in months that were archived.
    """

    ok: bool
    first: int
    lines: int
    head: str
    problems: tuple[str, ...]


def verify(data: Path, anchor: str | None = None, also: Path | None = None) -> Report:
    """Walk every journal file, replay it through a fresh book and compare with what the ledger keeps beside it.

    Reads only; beside a running sidecar too. Checked: the chain and the sequence; that each month begins with the book
    the one before left; that no month is missing but what was archived; the desk's balances, agents and open
    reservations at its checkpoint; the sums of the index's rows; that what was synced is there; that the line of hash
    ``anchor`` still is. Months that were archived are read from the folder ``also``.
    """
    folder = folder_of(data)
    with reading_files(folder) if folder.is_dir() else nullcontext():
        return _Verification(data.absolute(), anchor, also).run()


class _Verification:
    def __init__(self, data: Path, anchor: str | None, also: Path | None) -> None:
        folder = folder_of(data)
        self._running = is_taken(data)
        self._problems: list[str] = []
        # Read before the journal is: a running sidecar may be ahead of them, they never of it.
        self._synced = read_synced(folder)
        self._archived = read_archived(folder)
        self._checkpoint = self._read_checkpoint(data)
        self._files = {month: file_of(each, month) for each in (also, folder) if each for month in months(each)}
        self._first = 0
        self._anchor = self._begin(anchor)
        self._index = self._read_index(data)
        self._book = Book()
        self._rows = Sums(0, 0, 0, 0)

    def run(self) -> Report:
        mark, lines = Mark(), 0
        try:
            for month, path in sorted(self._files.items()):
                start = Mark(month, seq=mark.seq, head=mark.head, at=mark.at)
                for entry, reached in walk(path, start, self._synced):
                    if entry.type == "carry" and lines:
                        self._book.advance(entry.at)
                        self._compare(entry.book, path, start, "what it carries over")
                    self._book.apply(entry)
                    lines += 1
                    start = reached
                    if entry.action is not None and entry.type in FINAL:
                        self._count(entry.seq, entry.action.cost)
                    if reached.head == self._anchor:
                        self._anchor = None
                    if self._checkpoint is not None and reached.seq == self._checkpoint.mark.seq:
                        self._compare_checkpoint(path, reached)
                if not start.offset and month != max(self._files):
                    raise Damage(path, 0, "there is no line in it")
                mark = start
        except Damage as damage:
            if not (self._running and damage.cut_short):  # a line being written as we read
                self._problems.append(str(damage))
            mark = start
        except NewerFormat as newer:
            self._problems.append(str(newer))
            mark = start
        except MALFORMED as error:
            self._problems.append(f"{place(path, start.offset)}: it says what can't be ({error!r})")
            mark = start
        self._compare_end(mark)
        head = mark.head if lines else GENESIS
        return Report(not self._problems, self._first, lines, head, tuple(self._problems))

    def _begin(self, anchor: str | None) -> str | None:
        """Where the chain begins, and whether months before are missing; the anchor, unless it is what begins it."""
        if not self._files:
            return anchor
        path = self._files[min(self._files)]
        try:
            with open_lines(path) as file:
                line = loads(file.readline())
            before, prev = line["seq"] - 1, line["prev"]
        except (*MALFORMED, *PACK_ERRORS):
            return anchor  # the walk will say it
        self._first = before + 1
        if before > self._archived.seq or (before == self._archived.seq and prev != self._archived.head):
            self._problems.append(
                f"{place(path, 0)}: the journal begins with line {self._first}: the months before it are missing, "
                "and were not archived"
            )
        return None if anchor == prev != GENESIS else anchor

    def _count(self, seq: int, cost: int) -> None:
        if self._index is not None and self._index.first <= seq <= self._index.seq:
            self._rows = self._rows._replace(actions=self._rows.actions + 1, cost=self._rows.cost + cost)

    def _compare(self, state: Any, path: Path, mark: Mark, what: str) -> None:
        if _canonical(state) != _canonical(state_of(self._book.freeze())):
            self._problems.append(f"{place(path, mark.offset)}: {what} is not what the lines before it come to")

    def _compare_checkpoint(self, path: Path, reached: Mark) -> None:
        assert self._checkpoint is not None
        if reached != self._checkpoint.mark:
            self._problems.append(f"{place(path, reached.offset)}: the desk's checkpoint here is another journal's")
        self._compare(state_of(self._checkpoint.book.freeze()), path, reached, "the desk's checkpoint here")

    def _compare_end(self, mark: Mark) -> None:
        if (mark.month, mark.offset) < (self._synced.month, self._synced.offset):
            at = place(self._files[mark.month], mark.offset) if mark.month else "nothing is there"
            synced = f"{self._synced.month}.jsonl was synced to byte {self._synced.offset}"
            self._problems.append(f"{at}: whole lines end here, but {synced}")
        newest = self._files.get(max(self._files, default=""))
        if newest is not None and not newest.exists():
            self._problems.append(
                f"{packed_of(newest).name} is a closed month: the file of the month after it is missing"
            )
        if self._checkpoint is not None and self._checkpoint.mark.seq > mark.seq:
            self._problems.append(f"the desk has seen line {self._checkpoint.mark.seq}; the journal ends at {mark.seq}")
        if self._anchor is not None:
            self._problems.append(f"no line has the hash {self._anchor}: the journal was cut or written anew")
        index = self._index
        if index is not None and index.seq > mark.seq:
            self._problems.append(f"the index has seen line {index.seq}; the journal ends at {mark.seq}")
        elif index is not None and (index.actions, index.cost) != (self._rows.actions, self._rows.cost):
            self._problems.append(
                f"the index holds {index.actions} actions of {index.cost} nano-dollars; "
                f"the journal, up to line {index.seq}, {self._rows.actions} of {self._rows.cost}"
            )

    def _read_checkpoint(self, data: Path) -> Checkpoint | None:
        try:
            return desk.read(data)
        except (ValueError, KeyError, TypeError) as error:
            self._problems.append(f"{desk.path_of(data).name} can't be read: {error}")
            return None

    def _read_index(self, data: Path) -> Sums | None:
        """Its sums over the months whose files are there."""
        path = path_of(data)
        if not path.exists() or not self._first:
            return None
        try:
            with closing(open_beside(data)) as db:
                return sums(db, self._first)
        except sqlite3.Error as error:
            self._problems.append(f"{path.name} can't be read: {error}")
            return None


def _canonical(state: Any) -> Any:
    """The state as JSON gives it back, its lists in an order of their own."""
    held = {"webhooks": {}, "outbox": [], **json.loads(dumps(state))}  # formats 1 and 2 had none
    held["agents"] = [agent_row(row_agent(row)) for row in held["agents"]]  # an earlier format says the same otherwise
    return {name: sorted(value, key=dumps) if isinstance(value, list) else value for name, value in held.items()}
