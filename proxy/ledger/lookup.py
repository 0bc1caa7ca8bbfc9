"""One action out of a data folder, found without the folder's lock: beside the sidecar that serves it, or after it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from msgspec.structs import replace

from proxy.ledger import index, queries
from proxy.ledger.chain import MALFORMED
from proxy.ledger.entries import FINAL, Entry, decode, loads
from proxy.ledger.journal import PACK_ERRORS, file_of, folder_of, months, open_lines, packed_of
from proxy.ledger.port import Action, LedgerDamaged, LedgerError


def find_action(data: Path, action_id: str) -> Action | None:
    """The action as it ended, or as it was authorized (``pending``) where no end of it is on record yet.

    Reads only. The index answers, and the journal where the index hasn't got it. Raises LedgerError where the folder
    holds no journal, LedgerDamaged where a line that names the action can't be read.
    """
    data = data.absolute()
    if not months(folder_of(data)):
        raise LedgerError(f"{data} holds no journal")
    return _indexed(data, action_id) or _journaled(data, action_id)


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
