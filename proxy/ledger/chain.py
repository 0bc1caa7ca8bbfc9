"""The chain: a month's lines, one after the other, each checked against the one before.

A line of a later format is told from a damaged one by what every format has at its head (`v`, `seq`, `prev`, `at`,
`type`) and by the hash that the line after it gives.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from policy.periods import Span
from proxy.ledger.entries import VERSION, Entry, decode, loads
from proxy.ledger.journal import PACK_ERRORS, Mark, Synced, file_of, month_span, months, open_lines, packed_of
from proxy.ledger.port import LedgerError

# What reading or applying a line raises that no engine wrote.
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError)


class Damage(Exception):
    """The line that begins at ``offset`` of the month is not whole, or does not follow from the one before."""

    def __init__(self, path: Path, offset: int, why: str, *, cut_short: bool = False) -> None:
        super().__init__(f"{place(path, offset)}: {why}")
        self.cut_short = cut_short
        self.path = path
        self.offset = offset


class NewerFormat(LedgerError):
    """Whole and chained, but of a later format than this engine reads."""


def place(path: Path, offset: int) -> str:
    """``2026-11.jsonl, line 7, byte 1234``: bytes of the text, be it compressed or not."""
    name = path.name if path.exists() else packed_of(path).name
    return f"{name}, line {_line_number(path, offset)}, byte {offset}"


def walk(path: Path, start: Mark, synced: Synced = Synced()) -> Iterator[tuple[Entry, Mark]]:  # noqa: B008 (immutable)
    """Each line after ``start`` with the mark behind it. Raises Damage at the first that is damaged, or NewerFormat.

    A ``start`` of a month alone takes sequence and hash from the file's first line: the months before may be gone. The
    last synced line has perhaps none after it to vouch for it: the sum of ``synced`` does.
    """
    mark, bounds = start, month_span(start.month)
    with open_lines(path) as file:
        try:
            file.seek(start.offset)
            while line := file.readline():
                fields, reached = _chained(path, mark, line, bounds)
                ends_synced = reached.month == synced.month and mark.offset < synced.offset <= reached.offset
                if ends_synced and (reached.offset, reached.crc) != (synced.offset, synced.crc):
                    raise Damage(path, mark.offset, "it is not the line that was synced")
                if fields["v"] > VERSION:
                    raise _newer(path, mark, reached, fields["v"], file.readline() or _first_after(path))
                try:
                    entry = decode(fields)
                except MALFORMED as error:
                    raise Damage(path, mark.offset, f"not a line of this journal ({error})") from error
                yield entry, reached
                mark = reached
        except PACK_ERRORS as error:
            raise Damage(path, mark.offset, f"the compressed file is damaged ({error})") from error


def _chained(path: Path, mark: Mark, line: bytes, bounds: Span) -> tuple[dict[str, Any], Mark]:
    """The line's fields and the mark behind it, if it follows from ``mark``. Raises Damage."""
    if not line.endswith(b"\n"):
        raise Damage(path, mark.offset, "it is cut short", cut_short=True)
    try:
        fields: dict[str, Any] = loads(line)
        version, seq, prev, at, kind = fields["v"], fields["seq"], fields["prev"], fields["at"], fields["type"]
        in_time = max(mark.at, bounds.start_ms) <= at < bounds.end_ms
        if version < 1:
            raise ValueError(f"there is no format {version}")
        first = mark.seq == 0 and kind == "carry" and seq > 1
    except MALFORMED as error:
        raise Damage(path, mark.offset, f"not a line of this journal ({error})") from error
    if mark.offset == 0 and kind != "carry":
        raise Damage(path, 0, "the file does not begin with what the month before carried over")
    if not first and seq != mark.seq + 1:
        raise Damage(path, mark.offset, f"sequence {seq} follows {mark.seq}")
    if not first and prev != mark.head:
        raise Damage(path, mark.offset, "its hash of the line before does not match that line")
    if not in_time:
        raise Damage(path, mark.offset, "its time is before that of the line before, or in another month")
    offset, head = mark.offset + len(line), hashlib.sha256(line).hexdigest()
    return fields, Mark(mark.month, offset, zlib.crc32(line, mark.crc), seq, head, at)


def _newer(path: Path, mark: Mark, reached: Mark, version: int, following: bytes) -> Damage | NewerFormat:
    """What to raise for a line that says a later format: a flipped bit may have made it say so."""
    if following.endswith(b"\n"):
        try:
            vouched = loads(following)["prev"] == reached.head
        except MALFORMED:
            vouched = False
        if not vouched:
            return Damage(path, mark.offset, f"it says format {version}, and is not the line that the next one follows")
    return NewerFormat(f"{place(path, mark.offset)}: {newer(version)}")


def _first_after(path: Path) -> bytes:
    """The first line of the month after, if there is one."""
    later = [month for month in months(path.parent) if month > path.stem]
    if not later:
        return b""
    with open_lines(file_of(path.parent, later[0])) as file:
        return file.readline()


def newer(version: int) -> str:
    """Why something of a later format is refused."""
    return f"written by a newer Agent Ledger: format {version}; this one reads 1 to {VERSION}"


def _line_number(path: Path, offset: int) -> int:
    lines = 1
    with open_lines(path) as file:  # read as `walk` does: damage further on is not met
        while offset > 0 and (line := file.readline()):
            offset -= len(line)
            lines += 1
    return lines
