"""What is asked of the read index. Every list walks an index in its order, a page at a time; none scans or sorts.

An index has its rows by outcome: a list of all outcomes merges one walk of each, so that no index without it is kept.
"""

from __future__ import annotations

import re
import sqlite3
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from proxy.ledger.entries import loads, row_action, row_alert, row_verdict
from proxy.ledger.index import IDEMPOTENCY_MS
from proxy.ledger.port import Action, ActionFilter, Alert, Denial, Page, Recorded
from proxy.ledger.sql import OUTCOMES, SUM, between, cost_of, numbers, one_moment

_CURSOR = re.compile(r"([0-9a-f]{1,15})\.([0-9a-f]{1,15})", re.ASCII)


class Sums(NamedTuple):
    """How many actions the lines from ``first`` to ``seq`` made, and what they cost together."""

    first: int
    seq: int
    actions: int
    cost: int


def action(db: sqlite3.Connection, action_id: str) -> Action | None:
    found = db.execute("SELECT row, count FROM actions WHERE id = ?", (action_id,)).fetchone()
    return _action(*found) if found else None


def page(db: sqlite3.Connection, query: ActionFilter) -> Page:
    """Newest first. Raises ValueError for a cursor that no page gave."""
    where, values = between(query.since, query.until)
    if query.cursor is not None:
        where.append("(at, seq) < (?, ?)")
        values += parse_cursor(query.cursor)
    rows = _listed(db, query, where, values, query.limit + 1, newest_first=True)
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    return Page([_action(row, count) for row, count, _, _ in rows], _cursor(*rows[-1][2:]) if more and rows else None)


def after(
    db: sqlite3.Connection, query: ActionFilter, place: tuple[int, int], seq_max: int, limit: int
) -> list[tuple[Action, tuple[int, int]]]:
    """The next ``limit`` that match, oldest first, each with its place; none recorded after ``seq_max``."""
    where, values = between(query.since, query.until)
    where += ["(at, seq) > (?, ?)", "+seq <= ?"]
    rows = _listed(db, query, where, [*values, *place, seq_max], limit, newest_first=False)
    return [(_action(row, count), (at, seq)) for row, count, at, seq in rows]


def _listed(
    db: sqlite3.Connection, query: ActionFilter, where: list[str], values: list[int], limit: int, *, newest_first: bool
) -> list[tuple[str, int, int, int]]:
    agents = [number for (number,) in numbers(db, [query.agent_id])] if query.agent_id is not None else []
    if query.agent_id is not None and not agents:
        return []
    outcomes = numbers(db, OUTCOMES if query.outcome is None else [query.outcome])
    conditions = " AND ".join([*(["agent = ?"] if agents else []), "outcome = ?", *where])
    order = "at DESC, seq DESC" if newest_first else "at, seq"
    sql = f"SELECT row, count, at, seq FROM actions WHERE {conditions} ORDER BY {order} LIMIT ?"  # noqa: S608
    with one_moment(db):
        walks = [db.execute(sql, (*agents, *outcome, *values, limit)) for outcome in outcomes]
        return list(islice(merge(*walks, key=itemgetter(2, 3), reverse=newest_first), limit))


def parse_cursor(cursor: str) -> tuple[int, int]:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise ValueError("not a cursor that a page answered")
    return int(found[1], 16), int(found[2], 16)


def alerts(db: sqlite3.Connection, agent_id: str | None, limit: int, *, open_only: bool = False) -> list[Alert]:
    """Newest first."""
    conditions = [*(["agent = ?"] if agent_id is not None else []), *(["open"] if open_only else [])]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    values: tuple[Any, ...] = (agent_id, limit) if agent_id is not None else (limit,)
    rows = db.execute(f"SELECT row FROM alerts {where} ORDER BY at DESC, number DESC LIMIT ?", values)  # noqa: S608
    return [row_alert(loads(row)) for (row,) in rows]


def alert(db: sqlite3.Connection, alert_id: str) -> Alert | None:
    found = db.execute("SELECT row FROM alerts WHERE id = ?", (alert_id,)).fetchone()
    return row_alert(loads(found[0])) if found else None


def sums(db: sqlite3.Connection, first: int) -> Sums:
    """Of all rows of lines from ``first`` on that the index ever followed."""
    places = "(SELECT max(seq) FROM begin), (SELECT max(seq) FROM place)"
    sql = f"SELECT {places}, count(*), {SUM} FROM actions WHERE seq >= ?"  # noqa: S608
    begin, seq, actions, dollars, rest = db.execute(sql, (first,)).fetchone()
    return Sums(max(first, begin or 0), seq or 0, actions, cost_of(dollars, rest))


def answer(db: sqlite3.Connection, agent_id: str, key: str, now: int) -> tuple[str, Recorded] | None:
    """What a key was answered within the last 24 h, with the digest of its body."""
    found = db.execute(
        "SELECT digest, action_id, verdict FROM idempotency WHERE agent = ? AND key = ? AND at > ?",
        (agent_id, key, now - IDEMPOTENCY_MS),
    ).fetchone()
    if found is None:
        return None
    digest, action_id, verdict = found
    if verdict is not None:
        return digest, Recorded(None, Denial(row_verdict(loads(verdict)), action_id), replayed=True)
    return digest, Recorded(action(db, action_id), None, replayed=True)


def _action(row: str, count: int) -> Action:
    return row_action({**loads(row), "count": count})


def _cursor(at: int, seq: int) -> str:
    return f"{at:x}.{seq:x}"
