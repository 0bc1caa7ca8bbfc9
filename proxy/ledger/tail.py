"""What was recorded lately, in the order in which it was: not by when a call was authorized, as the lists are."""

from __future__ import annotations

import re
import sqlite3

from proxy.ledger.entries import loads, row_action
from proxy.ledger.port import ActionFilter, Page

_PLACE = re.compile(r"[0-9a-f]{1,15}", re.ASCII)

# By the table's own order, from the place on: an index by agent or outcome would have to be sorted.
_RECORDED = """
SELECT seq, row, count FROM actions WHERE seq > ?1
    AND (?2 IS NULL OR +agent = (SELECT number FROM words WHERE word = ?2))
    AND (?3 IS NULL OR +outcome = (SELECT number FROM words WHERE word = ?3))
    AND at >= coalesce(?4, at) AND at < coalesce(?5, at + 1)
ORDER BY seq LIMIT ?6
"""


def parse_place(place: str) -> int:
    if not _PLACE.fullmatch(place):
        raise ValueError("not a place that the ledger answered")
    return int(place, 16)


def recorded(db: sqlite3.Connection, query: ActionFilter, after: str | None) -> Page:
    """The next ``limit`` that match, and the place after them; ``after`` None: none, and the place after all there are.

    Raises ValueError for a place that this ledger has not come to.
    """
    (come_to,) = db.execute("SELECT max(seq) FROM place").fetchone()
    place = come_to or 0
    if after is None:
        return Page([], f"{place:x}")
    if (begin := parse_place(after)) > place:
        raise ValueError("a place that this ledger has not come to: it is another one, or was restored")
    values = (begin, query.agent_id, query.outcome, query.since, query.until, query.limit)
    rows = db.execute(_RECORDED, values).fetchall()
    items = [row_action({**loads(row), "count": count}) for _, row, count in rows]
    # Rows come into the index in their order: all up to the last of these, or up to the place, are here.
    last = rows[-1][0] if rows else 0
    return Page(items, f"{last if len(rows) == query.limit else max(place, last):x}")
