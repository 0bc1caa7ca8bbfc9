"""The lines of the journal: what each says, and its codec. One line is one atomic transaction.

type         carries
carry        the book as it stood when the month's file was begun: a closed month can be moved or removed
authorize    the draft of the action, its holds and its limits: all that is needed to end it
settle       the whole action (so do void, expire, record, adjust and denied), and the alerts it raised
void, expire
record       a self-reported action, with its holds and limits: authorized and settled at once
adjust       a correction, with its holds on the periods that still run
denied       with the verdict, and the pause it led to
repeat       how often denials already written were repeated
agent        an agent as it now is
policy       agents that the file changed, budgets and webhooks in force, balances and holds opened for them
acknowledge  the id of an alert
alert        alerts that came of nothing else
delivery     how an alert's delivery to a webhook ended, or that it is queued again by hand
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from operator import attrgetter
from typing import Any, Literal, NamedTuple, get_args

import msgspec
from msgspec import Struct

from policy.decide import Verdict
from proxy.ledger.port import Action, Agent, Alert, Key

# 2: keys are rows, where 1 had their digests alone; adjustments. 3: webhooks, and the deliveries of alerts to them. A
# line says its own, and all are read.
VERSION = 3
GENESIS = "0" * 64

Kind = Literal[
    "carry", "authorize", "settle", "void", "expire", "record", "adjust", "denied", "repeat", "agent", "policy",
    "acknowledge", "alert", "delivery",
]  # fmt: skip
_KINDS = frozenset(get_args(Kind))
FINAL: frozenset[str] = frozenset({"settle", "void", "expire", "record", "adjust", "denied"})

# A hold on a budget: its name, group, and the period's start and end in unix ms.
Hold = tuple[str, str, int, int]


class LimitHold(NamedTuple):
    """One call counted against a limit; a limit of calls in flight has no period (both 0)."""

    name: str
    group: str
    start_ms: int
    end_ms: int


class Opened(NamedTuple):
    """A budget's balance for a running period, as the journal's actions add up."""

    name: str
    group: str
    start_ms: int
    end_ms: int
    spent: int


class Terms(NamedTuple):
    """A budget in force: the ``signature`` of all but its amount and mode, and the amount."""

    signature: str
    amount: int


class Pause(NamedTuple):
    """Why an agent is paused by its own month: the period and the amount that were exhausted."""

    agent_id: str
    reason: str
    start_ms: int
    amount: int


class Notice(NamedTuple):
    """An alert, and the key under which it is not raised again before ``until_ms``."""

    alert: Alert
    once: str | None = None
    until_ms: int = 0


class DeliveryNote(NamedTuple):
    """What became of a delivery after so many attempts; ``error`` is the last one's."""

    how: Literal["delivered", "given up", "again"]
    attempts: int
    error: str | None


class Idempotency(NamedTuple):
    key: str
    digest: str


class Entry(Struct, gc=False):
    """One line; ``seq`` is given by the journal. Only the fields of its ``type`` are set."""

    type: Kind
    at: int
    seq: int = 0
    action: Action | None = None
    holds: tuple[Hold, ...] = ()
    limits: tuple[LimitHold, ...] = ()
    alerts: tuple[Notice, ...] = ()
    verdict: Verdict | None = None
    pause: Pause | None = None
    idempotency: Idempotency | None = None
    agents: tuple[Agent, ...] = ()
    counts: Mapping[str, int] = {}
    agent_id: str | None = None
    budgets: Mapping[str, Terms] = {}
    opened: tuple[Opened, ...] = ()
    reheld: Mapping[str, tuple[Hold, ...]] = {}
    id: str | None = None
    book: Mapping[str, Any] | None = None
    webhooks: Mapping[str, tuple[str, ...]] = {}
    delivery: DeliveryNote | None = None


def encode(entry: Entry, prev: str) -> bytes:
    """The line, with its newline; ``prev`` is the sha256 (hex) of the whole line before, newline and all."""
    if entry.type in _ON_THE_LINE and not entry.alerts and (line := _encode_plain(entry, prev)) is not None:
        return line
    return _encode_rows(entry, prev)


def _encode_rows(entry: Entry, prev: str) -> bytes:
    body = {name: to_json(value) for (name, to_json), value in zip(_TO_JSON, _carried(entry), strict=True) if value}
    text = dumps(body)
    comma = "," if body else ""
    head = f'{{"v":{VERSION},"seq":{entry.seq},"prev":"{prev}","at":{entry.at},"type":"{entry.type}"{comma}'
    return f"{head}{text[1:]}\n".encode("ascii")


class _Line(Struct, omit_defaults=True, gc=False):
    """A line of the calls' own kinds, its fields in the order that every line has them."""

    v: int
    seq: int
    prev: str
    at: int
    type: Kind
    action: Action
    holds: tuple[Hold, ...] = ()
    limits: tuple[LimitHold, ...] = ()


_ON_THE_LINE: frozenset[Kind] = frozenset({"authorize", "settle", "void"})
_to_json = msgspec.json.Encoder().encode


def _encode_plain(entry: Entry, prev: str) -> bytes | None:
    """The same bytes in a tenth of the time: each call pays for two lines. None for what msgspec says otherwise than
    `dumps`: fractions, mappings that are no dict, text beyond ASCII.
    """
    action = entry.action
    if action is None:
        return None
    try:
        # The sum of integers is one; a fraction among them makes it another number.
        if type(sum(action.usage.values())) is not int or type(sum(action.estimated.values())) is not int:
            return None
        for rates in (action.rates, action.reserved_rates):
            if rates and not (_TEXTS.issuperset(map(type, rates.values())) or _is_plain(rates)):
                return None
        line = _to_json(_Line(VERSION, entry.seq, prev, entry.at, entry.type, action, entry.holds, entry.limits))
    except (TypeError, UnicodeEncodeError):
        return None
    return line + b"\n" if line.isascii() else None


_TEXTS = frozenset({str})


def _is_plain(value: Any) -> bool:
    """Whether it is an integer or text, or an object or array of these (rates with tiers are)."""
    if isinstance(value, (dict, list)):
        return all(map(_is_plain, value.values() if isinstance(value, dict) else value))
    return type(value) in (int, str)


def decode(line: Mapping[str, Any]) -> Entry:
    """What ``encode`` was given. Raises ValueError, KeyError or TypeError for what no engine wrote."""
    if line["v"] not in range(1, VERSION + 1):
        raise ValueError(f"there is no format {line['v']} that this engine reads")
    if line["type"] not in _KINDS:
        raise ValueError(f"no such entry: {line['type']}")
    entry = Entry(line["type"], line["at"], line["seq"])
    for name, from_json in _FROM_JSON:
        if name in line:
            setattr(entry, name, from_json(line[name]))
    return entry


def dumps(value: Any) -> str:
    """Compact ASCII JSON; a Decimal is written as the number it is, never through a float."""
    try:
        return _fast(value)
    except TypeError:
        return _exact(value)


def loads(text: str | bytes) -> Any:
    """JSON with fractions as Decimal. Raises ValueError."""
    try:
        return _decode(text if isinstance(text, str) else text.decode())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


_decode = json.JSONDecoder(parse_float=Decimal).decode
_fast = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _exact(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_fast(str(key))}:{_exact(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_exact, value)) + "]"
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError("a quantity must be finite")
        text = format(value, "f")
        return text if "." in text else text + ".0"  # stays a Decimal when read back
    return _fast(value)


# -- rows: records as JSON objects, without the fields that hold their default ---------------------------------------
class _Columns:
    """A record's fields, and what each holds by default."""

    def __init__(self, row: Any) -> None:
        fields = msgspec.structs.fields(row) if issubclass(row, Struct) else dataclasses.fields(row)
        self._defaults = [
            (each.name, each.default_factory() if callable(each.default_factory) else each.default) for each in fields
        ]
        self._values = attrgetter(*(name for name, _ in self._defaults))

    def row(self, value: Any) -> dict[str, Any]:
        held = zip(self._defaults, self._values(value), strict=True)
        return {name: value for (name, default), value in held if value != default}


action_row = _Columns(Action).row
alert_row = _Columns(Alert).row
verdict_row = _Columns(Verdict).row
key_row = _Columns(Key).row
_agent_row = _Columns(Agent).row


def row_action(row: Mapping[str, Any]) -> Action:
    if "flags" in row or "softened" in row:
        row = {**row, "flags": tuple(row.get("flags", ())), "softened": tuple(row.get("softened", ()))}
    return Action(**row)


def agent_row(agent: Agent) -> dict[str, Any]:
    row = _agent_row(agent)
    if agent.keys:
        row["keys"] = [key_row(key) for key in agent.keys]
    if agent.managed:
        row["managed"] = sorted(agent.managed)
    return row


def row_agent(row: Mapping[str, Any]) -> Agent:
    managed = frozenset(row.get("managed", ()))
    keys = tuple([_row_key(key, row["created_at"]) for key in row.get("keys", ())])
    return Agent(**{**row, "keys": keys, "managed": managed})


def _row_key(row: Mapping[str, Any] | str, agent_created_at: int) -> Key:
    if isinstance(row, str):  # format 1: the digest alone
        return Key(row, f"key_{hashlib.sha256(row.encode()).hexdigest()[:16]}", agent_created_at)
    return Key(**row)


def row_alert(row: Mapping[str, Any]) -> Alert:
    return Alert(**row)


def row_verdict(row: Mapping[str, Any]) -> Verdict:
    return Verdict(**row)


def _notice_row(notice: Notice) -> dict[str, Any]:
    row = alert_row(notice.alert)
    if notice.once is not None:
        row |= {"once": notice.once, "until_ms": notice.until_ms}
    return row


def _row_notice(row: Mapping[str, Any]) -> Notice:
    alert = {name: value for name, value in row.items() if name not in ("once", "until_ms")}
    return Notice(row_alert(alert), row.get("once"), row.get("until_ms", 0))


def _holds(rows: Any) -> tuple[Hold, ...]:
    return tuple((name, group, start, end) for name, group, start, end in rows)


def _same(value: Any) -> Any:
    return value


_TO_JSON: tuple[tuple[str, Any], ...] = (
    ("action", action_row),
    ("holds", _same),
    ("limits", _same),
    ("alerts", lambda notices: [_notice_row(notice) for notice in notices]),
    ("verdict", verdict_row),
    ("pause", _same),
    ("idempotency", _same),
    ("agents", lambda agents: [agent_row(agent) for agent in agents]),
    ("counts", dict),
    ("agent_id", _same),
    ("budgets", dict),
    ("opened", _same),
    ("reheld", dict),
    ("id", _same),
    ("book", dict),
    ("webhooks", dict),
    ("delivery", _same),
)
_carried = attrgetter(*(name for name, _ in _TO_JSON))
_FROM_JSON: tuple[tuple[str, Any], ...] = (
    ("action", row_action),
    ("holds", _holds),
    ("limits", lambda rows: tuple(LimitHold(*row) for row in rows)),
    ("alerts", lambda rows: tuple(_row_notice(row) for row in rows)),
    ("verdict", row_verdict),
    ("pause", lambda row: Pause(*row)),
    ("idempotency", lambda row: Idempotency(*row)),
    ("agents", lambda rows: tuple(row_agent(row) for row in rows)),
    ("counts", dict),
    ("agent_id", _same),
    ("budgets", lambda rows: {name: Terms(*row) for name, row in rows.items()}),
    ("opened", lambda rows: tuple(Opened(*row) for row in rows)),
    ("reheld", lambda rows: {name: _holds(holds) for name, holds in rows.items()}),
    ("id", _same),
    ("book", dict),
    ("webhooks", lambda rows: {name: tuple(types) for name, types in rows.items()}),
    ("delivery", lambda row: DeliveryNote(*row)),
)
