"""The read index's tables, and how lines of the journal become their rows.

A row costs about 10 µs, most of it sqlite's: so it has three indexes and no more, their keys are numbers that stand for
words, what it is summed by is one number that stands for its kind, and lines are decoded by the hundred. The rest
(repeats, alerts, keys) is seldom, and plain.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import DecodeError, Raw, Struct, convert
from msgspec.json import Decoder

from proxy.ledger.entries import FINAL, dumps, loads
from proxy.ledger.totals import TOTALS, Row, Totals

VERSION = 4
SCHEMA = f"""
CREATE TABLE begin (month TEXT, seq INTEGER);
CREATE TABLE place (month TEXT, offset INTEGER, seq INTEGER, head TEXT);
CREATE TABLE words (number INTEGER PRIMARY KEY, word TEXT UNIQUE);
CREATE TABLE kinds (
    number INTEGER PRIMARY KEY, agent INTEGER, owner_id INTEGER, role INTEGER, upstream INTEGER, price INTEGER,
    target INTEGER, outcome INTEGER
);
CREATE INDEX kinds_agent ON kinds (agent, target, outcome);
CREATE TABLE actions (
    seq INTEGER PRIMARY KEY, id TEXT, at INTEGER, agent INTEGER, outcome INTEGER, kind INTEGER, cost INTEGER,
    count INTEGER, row TEXT
);
CREATE INDEX actions_id ON actions (id);
CREATE INDEX actions_outcome ON actions (outcome, at);
CREATE INDEX actions_agent ON actions (agent, outcome, at);
{TOTALS}
CREATE TABLE alerts (number INTEGER PRIMARY KEY, id TEXT UNIQUE, at INTEGER, agent TEXT, open INTEGER, row TEXT);
CREATE INDEX alerts_at ON alerts (at);
CREATE INDEX alerts_agent ON alerts (agent, at);
CREATE INDEX alerts_open_at ON alerts (at) WHERE open;
CREATE INDEX alerts_open_agent ON alerts (agent, at) WHERE open;
CREATE TABLE idempotency (
    agent TEXT, key TEXT, digest TEXT, at INTEGER, action_id TEXT, verdict TEXT, PRIMARY KEY (agent, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_at ON idempotency (at);
"""

_PIECE = 1 << 16  # bytes decoded in one go: the event loop waits that long for its turn, some 0.2 ms
_WORDS_KEPT = 20_000

_ADD_ACTIONS = "INSERT INTO actions VALUES (?,?,?,?,?,?,?,?,?)"
_COUNT_REPEATS = """
UPDATE actions SET count = count + :times WHERE id = :id RETURNING seq, id, at, agent, outcome, kind, 0, :times, ''
"""
_ADD_ALERTS = """
INSERT INTO alerts (id, at, agent, open, row) SELECT
    value ->> '$.id', value ->> '$.created_at', value ->> '$.agent_id', TRUE, json_remove(value, '$.once', '$.until_ms')
FROM json_each(?)
"""
_ACKNOWLEDGE = "UPDATE alerts SET open = FALSE, row = json_set(row, '$.acknowledged_at', ?) WHERE id = ?"
_FIND_KIND = """
SELECT number FROM kinds
WHERE agent = ? AND owner_id = ? AND role = ? AND upstream = ? AND price IS ? AND target = ? AND outcome = ?
"""
_ADD_KIND = """
INSERT INTO kinds (agent, owner_id, role, upstream, price, target, outcome) VALUES (?,?,?,?,?,?,?)
"""
_ADD_KEYS = "INSERT OR REPLACE INTO idempotency VALUES (?,?,?,?,?,?)"

_NONE = Raw(b"")


class Line(Struct, gc=False):
    """What of a line an index needs; what most lines lack stays JSON until it is known to be there."""

    v: int
    seq: int
    at: int
    type: str
    action: Raw = _NONE
    alerts: Raw = _NONE
    idempotency: Raw = _NONE
    verdict: Raw = _NONE
    counts: Raw = _NONE
    id: Raw = _NONE
    agent_id: Raw = _NONE


class _Action(Struct, gc=False):
    """What of an action is looked for, or summed."""

    id: str
    agent_id: str
    created_at: int
    target: str
    outcome: str
    cost: int
    owner_id: str = ""
    role: str = ""
    upstream: str = ""
    price: str | None = None
    count: int = 1


_RAW = frozenset(Line.__struct_fields__) - {"v", "seq", "at", "type"}
_decode_lines = Decoder(Line).decode_lines
_decode_action = Decoder(_Action).decode


def read_lines(text: bytes) -> list[Line]:
    """Raises ValueError, LookupError, TypeError for what no engine wrote."""
    try:
        return _decode_lines(text)
    except DecodeError:  # perhaps of a lone surrogate out of some request, which this decoder does not take
        return [_read_line(line) for line in text.splitlines()]


class Rows:
    """Writes them, within the transaction that the caller ends."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._kinds = _Kinds(db)
        self._totals: Totals | None = None

    @property
    def totals(self) -> Totals:
        """Raises sqlite3.Error."""
        if self._totals is None:
            self._totals = Totals(self._db)
        return self._totals

    def add(self, text: bytes) -> None:
        """Of whole lines of the journal. Raises sqlite3.Error, or as ``read_lines``."""
        for piece in _pieces(text):
            self._add(read_lines(piece))
        self.totals.write()

    def forget(self) -> None:
        """What was known of the tables: to be called where what was written is taken back."""
        self._kinds.clear()
        self._totals = None

    def _add(self, lines: list[Line]) -> None:
        made = [self._row(line) for line in lines if line.type in FINAL]
        self._db.executemany(_ADD_ACTIONS, made)
        self.totals.add(made)
        for line in lines:
            if line.counts:
                for action_id, times in _loads(line.counts).items():
                    self.totals.repeat(self._db.execute(_COUNT_REPEATS, {"times": times, "id": action_id}).fetchall())
            if line.alerts:
                self._db.execute(_ADD_ALERTS, (_text(line.alerts),))
            if line.type == "acknowledge":
                self._db.execute(_ACKNOWLEDGE, (line.at, _loads(line.id)))
            if line.idempotency:
                self._db.execute(_ADD_KEYS, _answer(line))

    def _row(self, line: Line) -> Row:
        found = _read_action(line.action)
        kind, agent, outcome = self._kinds[
            found.agent_id, found.owner_id, found.role, found.upstream, found.price, found.target, found.outcome
        ]
        text = _text(line.action)
        return line.seq, found.id, found.created_at, agent, outcome, kind, found.cost, found.count, text


# Agent, owner_id, role, upstream, price, target and outcome of an action: all that it is summed by, but its time.
_Kind = tuple[str, str, str, str, str | None, str, str]


class _Kinds(dict[_Kind, tuple[int, int, int]]):
    """The number of each, as the table has it, with its agent's and its outcome's; what it lacks is given one."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._numbers = _Numbers(db)

    def clear(self) -> None:
        super().clear()
        self._numbers.clear()

    def __missing__(self, kind: _Kind) -> tuple[int, int, int]:
        if len(self) >= _WORDS_KEPT:
            self.clear()
        words = [self._numbers[word] for word in kind]
        found = self._db.execute(_FIND_KIND, words).fetchone()
        number = found[0] if found else self._db.execute(_ADD_KIND, words).lastrowid
        agent, outcome = words[0], words[-1]
        assert number is not None
        assert agent is not None
        assert outcome is not None
        self[kind] = number, agent, outcome
        return self[kind]


class _Numbers(dict[str | None, int | None]):
    """Of words, as the table has them; a word that it lacks is given one."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __missing__(self, word: str | None) -> int | None:
        if len(self) >= _WORDS_KEPT:
            self.clear()
        self[word] = number = None if word is None else self._in_table(word)
        return number

    def _in_table(self, word: str) -> int | None:
        found = self._db.execute("SELECT number FROM words WHERE word = ?", (word,)).fetchone()
        if found:
            number: int = found[0]
            return number
        return self._db.execute("INSERT INTO words (word) VALUES (?)", (word,)).lastrowid


def _pieces(text: bytes) -> Iterator[bytes]:
    """Whole lines each."""
    start = 0
    while start < len(text):
        end = text.find(b"\n", start + _PIECE) + 1 or len(text)
        yield text[start:end]
        start = end


def _answer(line: Line) -> tuple[Any, ...]:
    """What an idempotency key was answered: an action, or a verdict and the denial it counts to."""
    key, digest = _loads(line.idempotency)
    if line.action:
        action = _read_action(line.action)
        agent_id, action_id = action.agent_id, action.id
    else:
        agent_id, action_id = _loads(line.agent_id), next(iter(_loads(line.counts)))
    return agent_id, key, digest, line.at, action_id, _text(line.verdict) if line.verdict else None


def _read_action(row: Raw) -> _Action:
    try:
        return _decode_action(row)
    except DecodeError:
        return convert(_loads(row), _Action)


def _read_line(text: bytes) -> Line:
    fields: Mapping[str, Any] = loads(text)
    kept = {name: Raw(dumps(value).encode()) for name, value in fields.items() if name in _RAW}
    return Line(fields["v"], fields["seq"], fields["at"], fields["type"], **kept)


def _loads(value: Raw) -> Any:
    return _whole(loads(_text(value)))


def _whole(value: Any) -> Any:
    """Without lone surrogates, which sqlite does not take."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {_whole(name): _whole(item) for name, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list) else value


def _text(value: Raw) -> str:
    return str(value, "ascii")
