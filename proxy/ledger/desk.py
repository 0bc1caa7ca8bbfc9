"""The desk: agents, keys, alerts, outbox and the checkpoint of the book, as a TinyDB file one can open and read.

Never the truth, never on the line: it saves replaying the journal at start, and is rebuilt from it if lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import asdict
from tinydb import TinyDB
from tinydb.middlewares import CachingMiddleware
from tinydb.storages import Storage

from proxy.ledger.book import Book, Frozen, state_of
from proxy.ledger.chain import newer
from proxy.ledger.entries import VERSION, agent_row, alert_row, dumps, key_row, loads, row_alert
from proxy.ledger.journal import Mark, sync_folder

# The book's state, a table each; `agents` and `keys` are told apart so that no agent's row carries a key's digest.
_STATE = ("balances", "open", "rates", "pauses", "outbox")
_HEAD = ("once", "budgets", "webhooks")


class AtomicStorage(Storage):
    """TinyDB's file, replaced whole: a temporary one is written and synced, then renamed over the old."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, dict[str, Any]] | None:
        try:
            held: dict[str, dict[str, Any]] = loads(self._path.read_bytes())
        except FileNotFoundError:
            return None
        return held

    def write(self, data: Mapping[str, Mapping[Any, Any]]) -> None:
        temporary = self._path.with_suffix(".tmp")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w", encoding="ascii") as file:
            # A document at a time: one json.dumps of it all would keep the interpreter's lock from the event loop.
            for at, (table, documents) in enumerate(data.items()):
                file.write(f"{',' if at else '{'}\n{json.dumps(table)}:{{")
                for number, (key, document) in enumerate(documents.items()):
                    file.write(f"{',' if number else ''}\n{json.dumps(str(key))}:{dumps(document)}")
                file.write("}")
            file.write("}\n" if data else "{}\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        sync_folder(self._path.parent)


class Checkpoint(NamedTuple):
    mark: Mark
    book: Book


def path_of(data: Path) -> Path:
    return data / "desk.json"


def write(data: Path, mark: Mark, frozen: Frozen) -> None:
    """Replace the desk by the book as frozen at ``mark``, which must be synced. Blocks; raises OSError."""
    state = state_of(frozen)
    desk = TinyDB(path_of(data), storage=CachingMiddleware(AtomicStorage))  # type: ignore[no-untyped-call]
    desk.drop_tables()
    desk.table("agents").insert_multiple(agent_row(replace(agent, keys=())) for agent in frozen.agents)
    desk.table("keys").insert_multiple(
        {**key_row(key), "agent_id": agent.id} for agent in frozen.agents for key in agent.keys
    )
    desk.table("alerts").insert_multiple(alert_row(alert) for alert in frozen.alerts)
    for name in _STATE:
        desk.table(name).insert_multiple({"row": row} for row in state[name])
    head = {"v": VERSION, **asdict(mark), **{name: state[name] for name in _HEAD}}
    desk.table("checkpoint").insert(head)
    desk.close()  # writes it; an error on the way here leaves the old one


def read(data: Path) -> Checkpoint | None:
    """The last checkpoint; None if there is none. Raises ValueError, KeyError or TypeError if it can't be read."""
    if not path_of(data).exists():
        return None
    desk = TinyDB(path_of(data), storage=AtomicStorage)
    (head,) = desk.table("checkpoint").all()
    if head.get("v", 1) > VERSION:  # the first to write its own was 2
        raise ValueError(newer(head["v"]))
    keys: dict[str, list[Any]] = {}
    for row in desk.table("keys"):
        key = {name: value for name, value in row.items() if name != "agent_id"}
        keys.setdefault(row["agent_id"], []).append(key if "id" in key else key["digest"])  # as format 1 had it
    state: dict[str, Any] = {name: [document["row"] for document in desk.table(name)] for name in _STATE}
    state |= {name: head[name] for name in _HEAD if name in head}
    state["agents"] = [{**row, "keys": keys.get(row["id"], [])} for row in desk.table("agents")]
    book = Book()
    book.load(state)
    for row in desk.table("alerts"):
        book.alerts[row["id"]] = row_alert(row)
    return Checkpoint(Mark(**{name: head[name] for name in Mark.__struct_fields__}), book)
