"""What is asked of the read index. Every list walks an index in its order, a page at a time; none scans or sorts.

An index has its rows by outcome: a list of all outcomes merges one walk of each, so that no index without it is kept.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple, get_args

from proxy.ledger.entries import loads, row_action, row_alert, row_verdict
from proxy.ledger.index import IDEMPOTENCY_MS
from proxy.ledger.port import Action, ActionFilter, Alert, Denial, Outcome, Page, Recorded

NANO = 1_000_000_000

_CURSOR = re.compile(r"([0-9a-f]{1,15})\.([0-9a-f]{1,15})", re.ASCII)
_HOUR_MS = 3_600_000
_WORDS = ("agent", "owner_id", "role", "upstream", "price", "target", "outcome")  # columns of words' numbers
_TIMES = {
    "hour": (_HOUR_MS, "%Y-%m-%dT%H:00Z"),
    "day": (24 * _HOUR_MS, "%Y-%m-%d"),
    "month": (24 * _HOUR_MS, "%Y-%m"),  # the sums of its days, added up
}
_OUTCOMES = get_args(Outcome)


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
    where, values = _between(query.since, query.until)
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
    where, values = _between(query.since, query.until)
    where += ["(at, seq) > (?, ?)", "+seq <= ?"]
    rows = _listed(db, query, where, [*values, *place, seq_max], limit, newest_first=False)
    return [(_action(row, count), (at, seq)) for row, count, at, seq in rows]


def _listed(
    db: sqlite3.Connection, query: ActionFilter, where: list[str], values: list[int], limit: int, *, newest_first: bool
) -> list[tuple[str, int, int, int]]:
    agents = [number for (number,) in _numbers(db, [query.agent_id])] if query.agent_id is not None else []
    if query.agent_id is not None and not agents:
        return []
    outcomes = _numbers(db, _OUTCOMES if query.outcome is None else [query.outcome])
    conditions = " AND ".join([*(["agent = ?"] if agents else []), "outcome = ?", *where])
    order = "at DESC, seq DESC" if newest_first else "at, seq"
    sql = f"SELECT row, count, at, seq FROM actions WHERE {conditions} ORDER BY {order} LIMIT ?"  # noqa: S608
    with _one_moment(db):
        walks = [db.execute(sql, (*agents, *outcome, *values, limit)) for outcome in outcomes]
        return list(islice(merge(*walks, key=itemgetter(2, 3), reverse=newest_first), limit))


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
        if group not in _WORDS and group not in _TIMES:
            raise ValueError(f"can't group by {group!r}; by {', '.join((*_WORDS, *_TIMES))}")


def spend(db: sqlite3.Connection, groups: Sequence[str], since: int | None, until: int | None) -> list[dict[str, Any]]:
    columns = "".join(f"{f'at / {_TIMES[group][0]}' if group in _TIMES else group}, " for group in groups)
    by = f"GROUP BY {', '.join(str(1 + n) for n in range(len(groups)))}" if groups else ""
    totals: dict[tuple[str | None, ...], tuple[int, int]] = {}
    with _one_moment(db):
        where, values = _spanned(db, since, until)
        sql, words = f"SELECT {columns}{_SUM}, sum(count) FROM actions WHERE {where} {by}", _Words(db)  # noqa: S608
        for *keys, dollars, rest, actions in db.execute(sql, values):
            shown = tuple([_shown(group, key, words) for group, key in zip(groups, keys, strict=True)])
            cost, count = totals.get(shown, (0, 0))
            totals[shown] = cost + _cost(dollars, rest), count + (actions or 0)
    return [
        {**dict(zip(groups, shown, strict=True)), "cost": cost, "actions": actions}
        for shown, (cost, actions) in sorted(
            totals.items(), key=lambda total: [(key is not None, key) for key in total[0]]
        )
    ]


def _shown(group: str, key: Any, words: _Words) -> str | None:
    if group not in _TIMES:
        return words[key]
    every_ms, form = _TIMES[group]
    return datetime.fromtimestamp(key * every_ms // 1000, UTC).strftime(form)


def spent(db: sqlite3.Connection, since: int, until: int) -> tuple[int, list[Spent]]:
    """The sequence the index has come to, and what was spent by then on actions authorized in that span."""
    kinds = "agent, owner_id, role, upstream, price"
    with _one_moment(db):
        (seq,) = db.execute("SELECT seq FROM place").fetchone() or (0,)
        where, values = _spanned(db, since, until)
        sql = f"SELECT {kinds}, {_SUM} FROM actions WHERE {where} AND cost != 0 GROUP BY {kinds}"  # noqa: S608
        words = _Words(db)
        rows = [(*map(words.__getitem__, row[:5]), _cost(*row[5:])) for row in db.execute(sql, values)]
    return seq, [Spent._make(row) for row in rows]


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
    return row_action({**loads(row), "count": count})


def _cursor(at: int, seq: int) -> str:
    return f"{at:x}.{seq:x}"


def _between(since: int | None, until: int | None) -> tuple[list[str], list[int]]:
    asked = (("at >= ?", since), ("at < ?", until))
    return [text for text, value in asked if value is not None], [value for _, value in asked if value is not None]


def _spanned(db: sqlite3.Connection, since: int | None, until: int | None) -> tuple[str, list[int]]:
    """The condition for a span, such that the index by outcome and time serves it."""
    where, values = _between(since, until)
    if not where:
        return "TRUE", []
    outcomes = [number for (number,) in _numbers(db, _OUTCOMES)]
    marks = ",".join("?" * len(outcomes))
    return " AND ".join([f"outcome IN ({marks})", *where]), outcomes + values


def _numbers(db: sqlite3.Connection, words: Sequence[str]) -> list[tuple[int]]:
    """Those of the words that the index has ever met."""
    marks = ",".join("?" * len(words))
    return db.execute(f"SELECT number FROM words WHERE word IN ({marks})", words).fetchall()  # noqa: S608


class _Words(dict[int | None, str | None]):
    """By their numbers, read as they are asked for."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self[None] = None

    def __missing__(self, number: int) -> str:
        (word,) = self._db.execute("SELECT word FROM words WHERE number = ?", (number,)).fetchone()
        self[number] = word
        return str(word)


@contextmanager
def _one_moment(db: sqlite3.Connection) -> Iterator[None]:
    """All that is read within is of the same moment."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("COMMIT")
