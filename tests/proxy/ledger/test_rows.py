"""Lines as the index reads them, against the journal's own codec."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxy.ledger.entries import GENESIS, Entry, Idempotency, Notice, encode, loads, row_action
from proxy.ledger.port import Action, Alert
from proxy.ledger.rows import SCHEMA, Rows

TEXTS = st.text(st.characters(codec=None), max_size=6) | st.sampled_from(
    ["\ud800", "a\\\ud83d", "\U0001f600", '"', "\\"]
)
WORDS = ("agent", "owner_id", "role", "upstream", "price", "target", "outcome")

ACTIONS = st.builds(
    Action,
    id=st.uuids().map(lambda drawn: f"act_{drawn.hex}"),
    agent_id=st.sampled_from("ab"),
    action_type=st.just("llm"),
    target=TEXTS,
    cost=st.integers(-(10**18), 10**18),
    outcome=st.sampled_from(["success", "failure", "denied"]),
    created_at=st.integers(1, 2**42),
    upstream=TEXTS,
    price=st.none() | TEXTS,
    metadata=st.none() | TEXTS,
    owner_id=TEXTS,
    role=TEXTS,
    count=st.integers(1, 9),
)


def whole(text: str | None) -> str | None:
    return text and text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def held(db: sqlite3.Connection) -> list[dict[str, Any]]:
    words = dict(db.execute("SELECT number, word FROM words"))
    found = db.execute("SELECT actions.*, kinds.* FROM actions JOIN kinds ON number = kind ORDER BY seq")
    rows = [dict(zip([name for name, *_ in found.description], row, strict=True)) for row in found]
    return [{name: words.get(value) if name in WORDS else value for name, value in row.items()} for row in rows]


@given(st.lists(ACTIONS, min_size=1, max_size=8, unique_by=lambda action: action.id))
def test_rows_say_what_the_lines_say_whatever_texts_they_hold(actions: list[Action]) -> None:
    entries = [Entry("record", 5, seq, action=action) for seq, action in enumerate(actions, 1)]
    text = b"".join(encode(entry, GENESIS) for entry in entries)
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        Rows(db).add(text)
        rows = held(db)
    assert [row_action(loads(row["row"])) for row in rows] == actions
    for row, action in zip(rows, actions, strict=True):
        assert (row["id"], row["at"], row["cost"]) == (action.id, action.created_at, action.cost)
        assert (row["agent"], row["outcome"], row["count"]) == (action.agent_id, action.outcome, action.count)
        assert [row[name] for name in WORDS[1:6]] == [whole(getattr(action, name)) for name in WORDS[1:6]]


@given(TEXTS, TEXTS)
def test_keys_counts_and_alerts_are_taken_out_of_lines_whatever_texts_they_hold(key: str, message: str) -> None:
    action = Action("act_1", "a", "llm", message, 3, "denied", 5)
    alert = Alert("alr_1", "a", "kind", message, 5)
    text = b"".join(
        encode(entry, GENESIS)
        for entry in (
            Entry("denied", 5, 1, action=action, idempotency=Idempotency(key, "d"), alerts=(Notice(alert, "once", 9),)),
            Entry("repeat", 6, 2, counts={"act_1": 4}),
            Entry("repeat", 7, 3, counts={"act_1": 1}, agent_id="a", idempotency=Idempotency(f"{key}2", "e")),
            Entry("acknowledge", 8, 4, id="alr_1"),
        )
    )
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        db.text_factory = lambda held: held.decode("utf-8", "replace")
        Rows(db).add(text)
        assert db.execute("SELECT count FROM actions").fetchall() == [(6,)]
        assert set(db.execute("SELECT agent, key, digest, at, action_id, verdict FROM idempotency")) == {
            ("a", whole(key), "d", 5, "act_1", None),
            ("a", whole(f"{key}2"), "e", 7, "act_1", None),
        }
        [(told,)] = db.execute("SELECT row FROM alerts").fetchall()
    assert (loads(told)["message"], loads(told)["acknowledged_at"], "once" in loads(told)) == (message, 8, False)


def test_words_taken_back_are_learned_anew() -> None:
    action = Action("act_1", "a", "llm", "t", 3, "success", 5)
    line = encode(Entry("record", 5, 1, action=action), GENESIS)
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        rows = Rows(db)
        rows.add(line)
        db.rollback()
        rows.forget()
        rows.add(line)
        assert held(db)[0]["agent"] == "a"
