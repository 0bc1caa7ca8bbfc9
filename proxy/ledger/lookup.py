"""Actions out of a data folder, found without the folder's lock: beside the sidecar that serves it, or after it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from msgspec.structs import replace

from proxy.ledger import index, queries, rows
from proxy.ledger.chain import MALFORMED
from proxy.ledger.entries import FINAL, Entry, decode, loads
from proxy.ledger.journal import PACK_ERRORS, file_of, folder_of, months, open_lines, packed_of
from proxy.ledger.lock import is_taken
from proxy.ledger.port import Action, ActionFilter, LedgerDamaged, LedgerError

_PAGE = 1000


def find_action(data: Path, action_id: str) -> Action | None:
    """The action as it ended, or as it was authorized (``pending``) where no end of it is on record yet.

    Reads only. The index answers, and the journal where the index hasn't got it. Raises LedgerError where the folder
    holds no journal, LedgerDamaged where a line that names the action can't be read.
    """
    data = data.absolute()
    if not months(folder_of(data)):
        raise LedgerError(f"{data} holds no journal")
    return _indexed(data, action_id) or _journaled(data, action_id)


def actions_of(data: Path, query: ActionFilter) -> Iterator[list[Action]]:
    """All that match, oldest first, a page at a time, of a folder that nobody serves.

    The read index answers, if it has come to the journal's end. Raises LedgerError where it hasn't, or where some
    process has the folder.
    """
    data = data.absolute()
    journal = months(folder_of(data))
    if not journal:
        raise LedgerError(f"{data} holds no journal")
    if is_taken(data):
        raise LedgerError(f"{data} is in use by another process")
    behind = f"the read index of {data} is not up to its journal: start its sidecar, and export from that"
    try:
        with closing(index.open_beside(data)) as db:
            seq = _whole_to(db, file_of(folder_of(data), journal[-1]))
            if seq is None:
                raise LedgerError(behind)
            before, place = _stamp(data), (-1, -1)
            while page := queries.after(db, query, place, seq, _PAGE):
                yield [action for action, _ in page]
                place = page[-1][1]
    except sqlite3.Error as error:
        raise LedgerError(behind) from error
    if _stamp(data) != before:  # read without sqlite's locks, where nobody had it open
        raise LedgerError(f"a process has begun to write to {data} meanwhile: export from its sidecar")


def _whole_to(db: sqlite3.Connection, newest: Path) -> int | None:
    """The sequence that the index has come to, if it is of this version and has followed that file to its end."""
    if db.execute("PRAGMA user_version").fetchone() != (rows.VERSION,) or not newest.exists():
        return None
    month, offset, seq = db.execute("SELECT month, offset, seq FROM place").fetchone() or ("", 0, 0)
    return seq if (month, offset) == (newest.stem, newest.stat().st_size) else None


def _stamp(data: Path) -> tuple[int, int]:
    found = index.path_of(data).stat()
    return found.st_mtime_ns, found.st_size


def _indexed(data: Path, action_id: str) -> Action | None:
    try:
        with closing(index.open_beside(data)) as db:
            return queries.action(db, action_id)
    except (sqlite3.Error, ValueError, TypeError):
        return None  # missing, of another version, or being made anew: never the truth, and the journal is


def _journaled(data: Path, action_id: str) -> Action | None:
    """By the months from the newest on: what ended one stands in the same file as what began it, or in a later one."""
    repeats = 0
    for month in reversed(months(folder_of(data))):
        path, found = file_of(folder_of(data), month), None
        for entry in _naming(path, action_id):
            repeats += entry.counts.get(action_id, 0)
            if entry.action is not None and entry.action.id == action_id:
                found = entry.action
                if entry.type in FINAL and entry.type != "denied":
                    return found
        if found is not None:
            return replace(found, count=found.count + repeats)
    return None


def _naming(path: Path, action_id: str) -> Iterator[Entry]:
    """The month's entries in whose lines that id stands."""
    named = json.dumps(action_id).encode()
    with open_lines(path) as lines:
        try:
            for line in lines:
                if named in line and line.endswith(b"\n"):  # else it is being written as we read
                    yield decode(loads(line))
        except MALFORMED as error:
            raise LedgerDamaged(f"a line of {path.name} that names {action_id} can't be read: {error}") from error
        except PACK_ERRORS as error:
            raise LedgerDamaged(f"{packed_of(path).name} can't be read: {error}") from error
