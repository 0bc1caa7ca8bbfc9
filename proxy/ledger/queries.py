"""What is asked of the read index. Every list walks an index in its order, a page at a time; none scans or sorts."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from proxy.ledger.entries import loads, row_action, row_alert, row_verdict
from proxy.ledger.index import IDEMPOTENCY_MS
from proxy.ledger.port import Action, ActionFilter, Alert, Denial, Page, Recorded

NANO = 1_000_000_000

_CURSOR = re.compile(r"([0-9a-f]{1,15})\.([0-9a-f]{1,15})", re.ASCII)
_GROUPS = {
    "agent": "agent",
    "owner_id": "owner_id",
    "role": "role",
    "upstream": "upstream",
    "price": "price",
    "target": "target",
    "outcome": "outcome",
    "hour": "strftime('%Y-%m-%dT%H:00Z', at / 1000, 'unixepoch')",
    "day": "strftime('%Y-%m-%d', at / 1000, 'unixepoch')",
    "month": "strftime('%Y-%m', at / 1000, 'unixepoch')",
}


class Spent(NamedTuple):
    """What the actions of one kind of call, authorized in one span, cost."""

    agent_id: str
    owner_id: str
    role: str
    upstream: str
    price: str | None
    cost: int


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
    where, values = _where(query)
    if query.cursor is not None:
        where.append("(at, seq) < (?, ?)")
        values += parse_cursor(query.cursor)
    sql = f"SELECT row, count, at, seq FROM actions WHERE {' AND '.join(where)} ORDER BY at DESC, seq DESC LIMIT ?"  # noqa: S608
    rows = db.execute(sql, (*values, query.limit + 1)).fetchall()
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    return Page([_action(row, count) for row, count, _, _ in rows], _cursor(*rows[-1][2:]) if more and rows else None)


def after(
    db: sqlite3.Connection, query: ActionFilter, place: tuple[int, int], seq_max: int, limit: int
) -> list[tuple[Action, tuple[int, int]]]:
    """The next ``limit`` that match, oldest first, each with its place; none recorded after ``seq_max``."""
    where, values = _where(query)
    sql = (
        f"SELECT row, count, at, seq FROM actions WHERE {' AND '.join(where)} "  # noqa: S608
        "AND (at, seq) > (?, ?) AND +seq <= ? ORDER BY at, seq LIMIT ?"
    )
    rows = db.execute(sql, (*values, *place, seq_max, limit))
    return [(_action(row, count), (at, seq)) for row, count, at, seq in rows]


def parse_cursor(cursor: str) -> tuple[int, int]:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise ValueError("not a cursor that a page answered")
    return int(found[1], 16), int(found[2], 16)


def alerts(db: sqlite3.Connection, agent_id: str | None, limit: int) -> list[Alert]:
    where = "WHERE agent = ?" if agent_id is not None else ""
    values: tuple[Any, ...] = (agent_id, limit) if agent_id is not None else (limit,)
    rows = db.execute(f"SELECT row FROM alerts {where} ORDER BY at DESC, number DESC LIMIT ?", values)  # noqa: S608
    return [row_alert(loads(row)) for (row,) in rows]


def alert(db: sqlite3.Connection, alert_id: str) -> Alert | None:
    found = db.execute("SELECT row FROM alerts WHERE id = ?", (alert_id,)).fetchone()
    return row_alert(loads(found[0])) if found else None


def check_groups(groups: Sequence[str]) -> None:
    """Raises ValueError for a group there is not."""
    for group in groups:
        if group not in _GROUPS:
            raise ValueError(f"can't group by {group!r}; by {', '.join(_GROUPS)}")


def spend(db: sqlite3.Connection, groups: Sequence[str], since: int | None, until: int | None) -> list[dict[str, Any]]:
    columns = [f'{_GROUPS[group]} AS "by_{group}"' for group in groups]
    named = ", ".join(f'"by_{group}"' for group in groups)
    where, values = _where(ActionFilter(since=since, until=until))
    by = f"GROUP BY {named} ORDER BY {named}" if groups else ""
    sql = f"SELECT {', '.join([*columns, _SUM, 'sum(count)'])} FROM actions WHERE {' AND '.join(where)} {by}"  # noqa: S608
    return [
        {**dict(zip(groups, row, strict=False)), "cost": _cost(row[-3], row[-2]), "actions": row[-1] or 0}
        for row in db.execute(sql, values)
    ]


def spent(db: sqlite3.Connection, since: int, until: int) -> tuple[int, list[Spent]]:
    """The sequence the index has come to, and what was spent by then on actions authorized in that span."""
    kinds = "agent, owner_id, role, upstream, price"
    sql = f"SELECT {kinds}, {_SUM} FROM actions WHERE at >= ? AND at < ? AND cost != 0 GROUP BY {kinds}"  # noqa: S608
    db.execute("BEGIN")  # both of one moment
    try:
        (seq,) = db.execute("SELECT seq FROM place").fetchone() or (0,)
        rows = db.execute(sql, (since, until)).fetchall()
    finally:
        db.execute("COMMIT")
    return seq, [Spent._make((*row[:5], _cost(row[5], row[6]))) for row in rows]


def sums(db: sqlite3.Connection, first: int) -> Sums:
    """Of all rows of lines from ``first`` on that the index ever followed."""
    places = "(SELECT max(seq) FROM begin), (SELECT max(seq) FROM place)"
    sql = f"SELECT {places}, count(*), {_SUM} FROM actions WHERE seq >= ?"  # noqa: S608
    begin, seq, actions, dollars, rest = db.execute(sql, (first,)).fetchone()
    return Sums(max(first, begin or 0), seq or 0, actions, _cost(dollars, rest))


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


# Whole dollars and the rest apart: a sum of 64-bit integers must not overflow.
_SUM = f"sum(cost / {NANO}), sum(cost % {NANO})"


def _cost(dollars: int | None, rest: int | None) -> int:
    return (dollars or 0) * NANO + (rest or 0)


def _action(row: str, count: int) -> Action:
    found = row_action(loads(row))
    return found if found.count == count else replace(found, count=count)


def _cursor(at: int, seq: int) -> str:
    return f"{at:x}.{seq:x}"


def _where(query: ActionFilter) -> tuple[list[str], list[Any]]:
    asked = (
        ("agent = ?", query.agent_id),
        ("outcome = ?", query.outcome),
        ("at >= ?", query.since),
        ("at < ?", query.until),
    )
    where = [condition for condition, value in asked if value is not None]
    return where or ["TRUE"], [value for _, value in asked if value is not None]
