"""The read index's totals: what each kind of action cost on each day of a zone, and how many there were.

They are kept with the rows, in the same transaction: summed in memory over a chunk of lines, then written as one. Where
the policy's zone is another than theirs, they are made anew from the rows, a batch at a time, while lines are followed.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable
from zoneinfo import ZoneInfo

from policy.money import NANO
from policy.periods import span

log = logging.getLogger("agent_ledger.ledger")

# A row of `actions`: seq, id, at, agent, outcome, kind, cost, count, and the action's own row.
Row = tuple[int, str, int, int, int, int, int, int, str]

# A day is named by its start, unix ms. Whole dollars and the rest are apart: sums of 64-bit integers must not overflow.
# Rows of lines after `summed_to` are not in the totals yet; NULL: all are.
TOTALS = """
CREATE TABLE totals (
    day INTEGER, agent INTEGER, outcome INTEGER, kind INTEGER, dollars INTEGER, rest INTEGER, actions INTEGER,
    PRIMARY KEY (day, agent, outcome, kind)
) WITHOUT ROWID;
CREATE TABLE totalled (zone TEXT, summed_to INTEGER);
INSERT INTO totalled VALUES ('UTC', NULL);
"""
_ADD = """
INSERT INTO totals VALUES (?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET
    dollars = dollars + excluded.dollars, rest = rest + excluded.rest, actions = actions + excluded.actions
"""
_BATCH = 10_000


class Totals:
    """Writes them, within the transaction that the caller ends."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        key, self._summed_to = db.execute("SELECT zone, summed_to FROM totalled").fetchone()
        self.zone = _zone(key)
        if self.zone is None:
            self._summed_to = 0
        # Not written yet: cost, count, agent and outcome by day and kind.
        self._days: dict[int, dict[int, list[int]]] = {}
        self._start = self._end = 0  # of the day that was looked up last

    def add(self, rows: Iterable[Row]) -> None:
        """Of lines that follow those before."""
        if self._summed_to is None:
            self._sum(rows)

    def repeat(self, rows: Iterable[Row]) -> None:
        """More actions, of rows that there are: each with no cost, and how many more."""
        held = self._summed_to
        self._sum(row for row in rows if held is None or row[0] <= held)

    def write(self) -> None:
        """What was added since the last time."""
        for day, sums in self._days.items():
            self._db.executemany(
                _ADD,
                [
                    (day, agent, outcome, kind, cost // NANO, cost % NANO, count)
                    for kind, (cost, count, agent, outcome) in sums.items()
                ],
            )
        self._days = {}

    def behind(self, zone: ZoneInfo) -> bool:
        """Whether there is something to do before they are that zone's, of all rows."""
        return self._summed_to is not None or self._is_another(zone)

    def catch_up(self, zone: ZoneInfo) -> None:
        """A batch of it."""
        if self._is_another(zone):
            log.info("totals are made anew from the read index's rows, by the days of %s", zone.key)
            self._db.execute("DELETE FROM totals")
            self.zone, self._summed_to, self._start, self._end = zone, 0, 0, 0
        sql = (
            "SELECT seq, '', at, agent, outcome, kind, cost, count, '' FROM actions WHERE seq > ? ORDER BY seq LIMIT ?"
        )
        rows: list[Row] = self._db.execute(sql, (self._summed_to, _BATCH)).fetchall()
        self._sum(rows)
        self.write()
        self._summed_to = rows[-1][0] if len(rows) == _BATCH else None
        self._db.execute("UPDATE totalled SET zone = ?, summed_to = ?", (zone.key, self._summed_to))

    def _is_another(self, zone: ZoneInfo) -> bool:
        return self.zone is None or zone.key != self.zone.key

    def _sum(self, rows: Iterable[Row]) -> None:
        start = end = 0
        sums: dict[int, list[int]] = {}
        for _, _, at, agent, outcome, kind, cost, count, _ in rows:
            if not start <= at < end:
                start, end = self._day_of(at)
                sums = self._days.setdefault(start, {})
            held = sums.get(kind)
            if held is None:
                sums[kind] = [cost, count, agent, outcome]
            else:
                held[0] += cost
                held[1] += count

    def _day_of(self, at: int) -> tuple[int, int]:
        """From when on, and until when."""
        if not self._start <= at < self._end:
            assert self.zone is not None
            day = span("day", at, self.zone)
            self._start, self._end = day.start_ms, day.end_ms
        return self._start, self._end


def _zone(key: str) -> ZoneInfo | None:
    """None where this machine doesn't know it: then they are made anew, for one that it does."""
    try:
        return ZoneInfo(key)
    except (KeyError, ValueError, OSError):
        return None
