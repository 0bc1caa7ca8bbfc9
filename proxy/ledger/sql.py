"""What every question to the read index is made of."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import get_args

from policy.money import NANO
from proxy.ledger.port import Outcome

OUTCOMES = get_args(Outcome)

# Whole dollars and the rest apart: a sum of 64-bit integers must not overflow.
SUM = f"sum(cost / {NANO}), sum(cost % {NANO})"


def cost_of(dollars: int | None, rest: int | None) -> int:
    return (dollars or 0) * NANO + (rest or 0)


def between(since: int | None, until: int | None) -> tuple[list[str], list[int]]:
    """The conditions for a span, and their values."""
    asked = (("at >= ?", since), ("at < ?", until))
    return [text for text, value in asked if value is not None], [value for _, value in asked if value is not None]


def numbers(db: sqlite3.Connection, words: Sequence[str]) -> list[tuple[int]]:
    """Those of the words that the index has ever met."""
    marks = ",".join("?" * len(words))
    return db.execute(f"SELECT number FROM words WHERE word IN ({marks})", words).fetchall()  # noqa: S608


@contextmanager
def one_moment(db: sqlite3.Connection) -> Iterator[None]:
    """All that is read within is of the same moment."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("COMMIT")
