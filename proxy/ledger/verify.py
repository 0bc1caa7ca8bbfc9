"""Proof, offline: the journal is whole, and the balances, agents and rows are what replaying it gives."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.ledger import desk
from proxy.ledger.book import Book, state_of
from proxy.ledger.desk import Checkpoint
from proxy.ledger.entries import FINAL, GENESIS, dumps
from proxy.ledger.index import path_of
from proxy.ledger.journal import Mark, file_of, folder_of, months, read_synced
from proxy.ledger.queries import Sums, sums
from proxy.ledger.recovery import Damage, check_synced, walk


@dataclass(frozen=True, slots=True)
class Report:
    """``head`` is the hash of the last line: keep it elsewhere, and a later run can be given it as ``anchor``."""

    ok: bool
    lines: int
    head: str
    problems: tuple[str, ...]


def verify(data: Path, anchor: str | None = None) -> Report:
    """Walk every journal file, replay it through a fresh book and compare with what the ledger keeps beside it.

    Reads only; beside a running sidecar too. Checked: the chain and the sequence; that each month begins with the book
    the one before left; the desk's balances, agents and open reservations at its checkpoint; the sums of the index's
    rows; that what was synced is there; that the line of hash ``anchor`` still is.
    """
    return _Verification(data.absolute(), anchor).run()


class _Verification:
    def __init__(self, data: Path, anchor: str | None) -> None:
        self._folder = folder_of(data)
        self._running = _is_running(data)
        self._problems: list[str] = []
        # Read before the journal is: a running sidecar may be ahead of them, they never of it.
        self._synced = read_synced(self._folder)
        self._checkpoint = self._read_checkpoint(data)
        self._index = self._read_index(data)
        self._anchor = anchor
        self._book = Book()
        self._rows = Sums(0, 0, 0)

    def run(self) -> Report:
        mark, lines = Mark(), 0
        try:
            for month in months(self._folder):
                path = file_of(self._folder, month)
                start = Mark(month, seq=mark.seq, head=mark.head, at=mark.at)
                for entry, reached in walk(path, start):
                    if entry.type == "carry" and lines:
                        self._book.advance(entry.at)
                        self._compare(entry.book, f"{path.name}, line 1: what it carries over")
                    check_synced(path, start, reached, self._synced)
                    self._book.apply(entry)
                    lines += 1
                    start = reached
                    if entry.action is not None and entry.type in FINAL:
                        self._count(entry.seq, entry.action.cost)
                    if reached.head == self._anchor:
                        self._anchor = None
                    if self._checkpoint is not None and reached.seq == self._checkpoint.mark.seq:
                        self._compare_checkpoint(path, reached)
                mark = start
        except Damage as damage:
            if not (self._running and damage.cut_short):  # a line being written as we read
                self._problems.append(str(damage))
            mark = start
        except (KeyError, AssertionError) as error:
            self._problems.append(f"{path.name}, byte {start.offset}: it says what can't be ({error!r})")
            mark = start
        self._compare_end(mark)
        return Report(not self._problems, lines, mark.head if lines else GENESIS, tuple(self._problems))

    def _count(self, seq: int, cost: int) -> None:
        if self._index is not None and seq <= self._index.seq:
            self._rows = Sums(seq, self._rows.actions + 1, self._rows.cost + cost)

    def _compare(self, state: Any, what: str) -> None:
        if _canonical(state) != _canonical(state_of(self._book.freeze())):
            self._problems.append(f"{what} is not what the lines before it come to")

    def _compare_checkpoint(self, path: Path, reached: Mark) -> None:
        assert self._checkpoint is not None
        name = f"the desk's checkpoint, at {path.name}, byte {reached.offset}"
        if reached != self._checkpoint.mark:
            self._problems.append(f"{name}: another journal's")
        self._compare(state_of(self._checkpoint.book.freeze()), name)

    def _compare_end(self, mark: Mark) -> None:
        if (mark.month, mark.offset) < (self._synced.month, self._synced.offset):
            self._problems.append(
                f"{self._synced.month}.jsonl was synced to byte {self._synced.offset}; whole lines end at {mark.offset}"
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
        kept = months(self._folder)
        if not path_of(data).exists() or not kept:
            return None
        try:
            with file_of(self._folder, kept[0]).open("rb") as file:
                first_seq = json.loads(file.readline())["seq"]
            db = sqlite3.connect(f"{path_of(data).as_uri()}?mode=ro", uri=True)
        except (ValueError, KeyError, sqlite3.Error) as error:
            self._problems.append(f"the index can't be compared: {error}")
            return None
        try:
            return sums(db, first_seq)
        except sqlite3.Error as error:
            self._problems.append(f"{path_of(data).name} can't be read: {error}")
            return None
        finally:
            db.close()


def _canonical(state: Any) -> Any:
    """The state as JSON gives it back, its lists in an order of their own."""
    held = json.loads(dumps(state))
    return {name: sorted(value, key=dumps) if isinstance(value, list) else value for name, value in held.items()}


def _is_running(data: Path) -> bool:
    """Whether some process holds the folder's lock."""
    try:
        lock = os.open(data / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False
