"""What was spent, summed from the read index: of whole days from its totals, of parts of days from their rows.

A part of a day is added, or what lies outside it is taken away, whichever is shorter. Where the totals are not of the
zone that is asked for (they are being made anew), and for hours, all is summed from the rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from policy.periods import Span, span
from proxy.ledger.sql import OUTCOMES, SUM, cost_of, numbers, one_moment

WORDS = ("agent", "owner_id", "role", "upstream", "price", "target", "outcome")  # columns of words' numbers
TIMES = ("hour", "day", "month")
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_KINDS = ("agent", "owner_id", "role", "upstream", "price")

_ORDER = {"day": 0, "agent": 1, "outcome": 2}  # of the totals themselves

# The values of a row's groups, each in a form that sorts as it should and ends with how it is shown.
_Shown = tuple[Any, ...]
_Keys = tuple[_Shown, ...]


class Spent(NamedTuple):
    """What the actions of one kind of call, authorized in one span, cost."""

    agent_id: str
    owner_id: str
    role: str
    upstream: str
    price: str | None
    cost: int


def check_groups(groups: Sequence[str]) -> None:
    """Raises ValueError for a group there is not."""
    for group in groups:
        if group not in WORDS and group not in TIMES:
            raise ValueError(f"can't group by {group!r}; by {', '.join((*WORDS, *TIMES))}")


def spend(
    db: sqlite3.Connection,
    groups: Sequence[str],
    since: int | None,
    until: int | None,
    zone: ZoneInfo,
    agent_id: str | None = None,
) -> list[dict[str, Any]]:
    with one_moment(db):
        sums = _Sums(db, groups, zone, agent_id).of(since, until)
    return [
        {**{group: key[-1] for group, key in zip(groups, keys, strict=True)}, "cost": cost, "actions": actions}
        for keys, (cost, actions) in _sorted(sums, len(groups))
    ]


def spent(db: sqlite3.Connection, since: int, until: int, zone: ZoneInfo) -> tuple[int, list[Spent]]:
    """The sequence the index has come to, and what was spent by then on actions authorized in that span."""
    with one_moment(db):
        (seq,) = db.execute("SELECT seq FROM place").fetchone() or (0,)
        sums = _Sums(db, _KINDS, zone, None).of(since, until)
    return seq, [Spent._make((*(key[-1] for key in keys), cost)) for keys, (cost, _) in sums.items() if cost]


class _Part(NamedTuple):
    """Rows of a span to be added (``sign`` 1), or taken away (-1)."""

    sign: int
    start_ms: int
    end_ms: int


class _Sums:
    """Of one question, within one moment. Each sum is a cost and a number of actions."""

    def __init__(self, db: sqlite3.Connection, groups: Sequence[str], zone: ZoneInfo, agent_id: str | None) -> None:
        self._db = db
        self._groups = groups
        self._by = f"GROUP BY {', '.join(str(1 + n) for n in range(len(groups)))}" if groups else ""
        self._zone = zone
        self._shown: dict[str, Mapping[Any, _Shown]] = dict.fromkeys(WORDS, _Words(db))
        self._shown |= {"day": _Dates(zone, 10), "month": _Dates(zone, 7)}
        self._outcomes = [number for (number,) in numbers(db, OUTCOMES)]
        self._agents = None if agent_id is None else [number for (number,) in numbers(db, [agent_id])]
        self._sums: dict[_Keys, tuple[int, int]] = {} if groups else {(): (0, 0)}

    def of(self, since: int | None, until: int | None) -> Mapping[_Keys, tuple[int, int]]:
        first, last = self._edge("min", 0), self._edge("max", 0)
        if first is None or last is None or self._agents == []:
            return self._sums
        start = first if since is None else max(since, first)
        end = last + 1 if until is None else min(until, last + 1)
        if start >= end:
            return self._sums
        if "hour" in self._groups or not self._totalled():
            self._add_rows(_Part(1, start, end))
        else:
            whole, parts = _split(start, end, self._zone, first, last)
            self._add_totals(whole)
            for part in parts:
                self._add_rows(part)
        return {keys: sums for keys, sums in self._sums.items() if sums[1] or not self._groups}

    def _totalled(self) -> bool:
        noted: tuple[str, int | None] = self._db.execute("SELECT zone, summed_to FROM totalled").fetchone()
        return noted == (self._zone.key, None)

    def _edge(self, which: str, since: int) -> int | None:
        """The first, or the last, moment from ``since`` on that an action is of."""
        sql = f"SELECT {which}(at) FROM actions WHERE outcome = ? AND at >= ?"  # noqa: S608
        found = (self._db.execute(sql, (outcome, since)).fetchone()[0] for outcome in self._outcomes)
        moments = [at for at in found if at is not None]
        return (min if which == "min" else max)(moments) if moments else None

    def _add_totals(self, whole: Span) -> None:
        """In their own order where that serves: then nothing is sorted. An agent's are found day by day."""
        columns = ["day" if group in TIMES else group for group in self._groups]
        by = sorted(dict.fromkeys(columns), key=lambda column: _ORDER.get(column, len(_ORDER)))
        days, tables, values = "", "totals", [whole.start_ms, whole.end_ms]
        conditions = ["totals.day >= ? AND totals.day < ?"]
        if self._agents is not None:
            days, tables, conditions = _DAYS, "held CROSS JOIN totals", ["totals.day = held.day AND totals.agent = ?"]
            values += [whole.end_ms, *self._agents]
        if not _ORDER.keys() >= set(by):
            tables, conditions = f"{tables} CROSS JOIN kinds", [*conditions, "number = kind"]
        names = {column: f"totals.{column}" if column in _ORDER else column for column in by}
        shown = "".join([f"{names[column]}, " for column in columns])
        sql = f"{days} SELECT {shown}sum(dollars), sum(rest), sum(actions) FROM {tables}"  # noqa: S608
        sql += f" WHERE {' AND '.join(conditions)} {'GROUP BY' if by else ''} {', '.join(names.values())}"
        self._add(self._db.execute(sql, values), 1, self._shown)

    def _add_rows(self, part: _Part) -> None:
        where = f"actions.outcome IN ({','.join('?' * len(self._outcomes))}) AND at >= ? AND at < ?"
        values = self._outcomes
        if self._agents is not None:
            where, values = f"actions.agent = ? AND {where}", [*self._agents, *values]
        for start, end, day_ms, offset in self._stretches(part):
            times = {"day": day_ms, "month": day_ms, "hour": f"(at + {offset + _DAY_MS}) / {_HOUR_MS} - 24"}
            columns = "".join([f"{times[group] if group in TIMES else f'kinds.{group}'}, " for group in self._groups])
            sql = f"SELECT {columns}{SUM}, sum(count) FROM actions CROSS JOIN kinds"  # noqa: S608
            rows = self._db.execute(f"{sql} WHERE kind = number AND {where} {self._by}", [*values, start, end])
            self._add(rows, part.sign, {**self._shown, "hour": _Hours(offset)})

    def _stretches(self, part: _Part) -> Iterator[tuple[int, int, int, int]]:
        """The part, cut so that each piece is of one day and of one offset from UTC, where that is asked: from, to, the
        day's start and the offset."""
        if not any(group in TIMES for group in self._groups):
            yield part.start_ms, part.end_ms, 0, 0
            return
        end = part.start_ms
        while (start := self._edge("min", end)) is not None and start < part.end_ms:
            day = span("day", start, self._zone)
            end = min(day.end_ms, part.end_ms)
            if "hour" in self._groups:
                for since, until, offset in _offsets(start, end, self._zone):
                    yield since, until, day.start_ms, offset
            else:
                yield start, end, day.start_ms, 0

    def _add(self, rows: Iterator[Any], sign: int, shown: Mapping[str, Mapping[Any, _Shown]]) -> None:
        sums, values = self._sums, [shown[group] for group in self._groups]
        for *keys, dollars, rest, actions in rows:
            by = tuple([value[key] for value, key in zip(values, keys, strict=True)])
            cost, count = sums.get(by, (0, 0))
            sums[by] = cost + sign * cost_of(dollars, rest), count + sign * (actions or 0)


# The days there are totals of within a span, found one after the other: a year's are many rows each.
_DAYS = """
WITH RECURSIVE held (day) AS (
    SELECT min(day) FROM totals WHERE day >= ? AND day < ?
    UNION ALL SELECT (SELECT min(day) FROM totals WHERE day > held.day AND day < ?) FROM held WHERE day IS NOT NULL
)
"""


class _Words(dict[int | None, _Shown]):
    """By their numbers, read as they are asked for; what has none is first."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self[None] = (False, None)

    def __missing__(self, number: int) -> _Shown:
        (word,) = self._db.execute("SELECT word FROM words WHERE number = ?", (number,)).fetchone()
        self[number] = (True, word)
        return self[number]


class _Dates(dict[int, _Shown]):
    """By the starts of days, unix ms: so many characters of the date."""

    def __init__(self, zone: ZoneInfo, length: int) -> None:
        self._zone = zone
        self._length = length

    def __missing__(self, start_ms: int) -> _Shown:
        self[start_ms] = (_at(start_ms, self._zone).date().isoformat()[: self._length],)
        return self[start_ms]


class _Hours(dict[int, _Shown]):
    """By their number on clocks at that offset: sorted by the start, shown as ``2026-11-22T14:00+05:45``."""

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self._clock = timezone(timedelta(milliseconds=offset))

    def __missing__(self, number: int) -> _Shown:
        start_ms = number * _HOUR_MS - self._offset
        shown = _at(start_ms, self._clock).isoformat(timespec="minutes")
        self[number] = (start_ms, shown.replace("+00:00", "Z"))
        return self[number]


def _split(start: int, end: int, zone: ZoneInfo, first: int, last: int) -> tuple[Span, list[_Part]]:
    """The whole days to count, and the parts of rows that make them the span; all actions are from first to last."""
    head, tail = span("day", start, zone), span("day", end - 1, zone)
    start = head.start_ms if start <= first else start
    end = tail.end_ms if end > last else end
    if head == tail and start > head.start_ms and end < head.end_ms:
        return Span(start, start), [_Part(1, start, end)]
    parts = []
    if start - head.start_ms <= head.end_ms - start:
        parts.append(_Part(-1, head.start_ms, start))
        start = head.start_ms
    else:
        parts.append(_Part(1, start, head.end_ms))
        start = head.end_ms
    if tail.end_ms - end <= end - tail.start_ms:
        parts.append(_Part(-1, end, tail.end_ms))
        end = tail.end_ms
    else:
        parts.append(_Part(1, tail.start_ms, end))
        end = tail.start_ms
    return Span(start, max(start, end)), [part for part in parts if part.start_ms < part.end_ms]


def _offsets(start: int, end: int, zone: ZoneInfo) -> Iterator[tuple[int, int, int]]:
    """The span, cut where the zone's clocks change (once in it at most): from, to, and the offset from UTC, in ms."""
    before, after = _offset(start, zone), _offset(end - 1, zone)
    if before == after:
        yield start, end, before
        return
    low, high = start, end - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _offset(middle, zone) == before else (low, middle)
    yield start, high, before
    yield high, end, after


def _offset(at_ms: int, zone: ZoneInfo) -> int:
    offset = _at(at_ms, zone).utcoffset()
    assert offset is not None
    return offset // timedelta(milliseconds=1)


def _at(at_ms: int, zone: ZoneInfo | timezone) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(zone)


def _sorted(sums: Mapping[_Keys, tuple[int, int]], groups: int) -> list[tuple[_Keys, tuple[int, int]]]:
    """By their groups, from the first on; each group's values are put in order once, however many rows they make."""
    columns = [sorted({keys[group] for keys in sums}) for group in range(groups)]
    ranks = [{value: rank for rank, value in enumerate(column)} for column in columns]
    return sorted(sums.items(), key=lambda item: [rank[key] for rank, key in zip(ranks, item[0], strict=True)])
