"""Opening a journal: check what was synced, replay what the checkpoint has not seen, set a torn tail aside."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from policy.periods import span
from proxy.ledger import desk
from proxy.ledger.book import Book
from proxy.ledger.desk import Checkpoint
from proxy.ledger.entries import Entry, decode
from proxy.ledger.entries import loads as parse
from proxy.ledger.journal import UTC, Mark, Synced, file_of, folder_of, month_of, months, read_synced, sync_folder
from proxy.ledger.port import LedgerDamaged

log = logging.getLogger("agent_ledger.ledger")

_CHUNK = 1 << 20


class Recovered(NamedTuple):
    """``damage`` tells of each tail that was set aside."""

    book: Book
    mark: Mark
    damage: tuple[str, ...]


class Damage(Exception):
    """The line that begins at ``offset`` of the file is not whole, or does not follow from the one before."""

    def __init__(self, path: Path, offset: int, why: str, *, cut_short: bool = False) -> None:
        super().__init__(f"{path.name}, line {_line_number(path, offset)}, byte {offset}: {why}")
        self.cut_short = cut_short
        self.path = path
        self.offset = offset


def walk(path: Path, start: Mark) -> Iterator[tuple[Entry, Mark]]:
    """Each line after ``start`` with the mark behind it. Raises Damage at the first that is damaged.

    A ``start`` of a month alone takes sequence and hash from the file's first line: the months before may be gone.
    """
    mark = start
    with path.open("rb") as file:
        file.seek(start.offset)
        bounds = None
        for line in file:
            if not line.endswith(b"\n"):
                raise Damage(path, mark.offset, "it is cut short", cut_short=True)
            try:
                fields = parse(line)
                entry, prev = decode(fields), fields["prev"]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise Damage(path, mark.offset, f"not a line of this journal ({error})") from error
            if mark.seq == 0 and entry.type == "carry" and entry.seq > 1:
                mark = mark._replace(seq=entry.seq - 1, head=prev)
            if bounds is None:
                bounds = span("month", entry.at, UTC)
                if month_of(entry.at) != mark.month:
                    raise Damage(path, mark.offset, "a line of another month")
            if mark.offset == 0 and entry.type != "carry":
                raise Damage(path, 0, "the file does not begin with what the month before carried over")
            if entry.seq != mark.seq + 1:
                raise Damage(path, mark.offset, f"sequence {entry.seq} follows {mark.seq}")
            if prev != mark.head:
                raise Damage(path, mark.offset, "its hash of the line before does not match that line")
            if not max(mark.at, bounds.start_ms) <= entry.at < bounds.end_ms:
                raise Damage(path, mark.offset, "its time is before that of the line before, or in another month")
            mark = Mark(
                mark.month,
                mark.offset + len(line),
                zlib.crc32(line, mark.crc),
                entry.seq,
                hashlib.sha256(line).hexdigest(),
                entry.at,
            )
            yield entry, mark


def recover(data: Path) -> Recovered:
    """The book at the end of the journal, and that end. Blocks; raises LedgerDamaged and OSError.

    A damaged tail past what was synced is moved to `journal/damaged-….jsonl` and told of.
    """
    folder = folder_of(data)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    damages: list[str] = []
    checkpoint = _checkpoint(data)
    synced = _synced(folder, checkpoint)
    while True:
        kept = months(folder)
        month = kept[-1] if kept else ""
        if month < synced.month:
            raise LedgerDamaged(
                f"{file_of(folder, synced.month).name} is missing: it was synced to byte {synced.offset}"
            )
        if not month:
            return Recovered(Book(), Mark(), tuple(damages))
        path = file_of(folder, month)
        start, book = Mark(month), Book()
        if checkpoint is not None and checkpoint.mark.month == month:
            start, book = checkpoint
            _check_prefix(path, start)
        mark = start
        try:
            for entry, reached in walk(path, start):
                book.apply(entry)
                check_synced(path, mark, reached, synced)
                mark = reached
        except (KeyError, AssertionError) as error:
            raise LedgerDamaged(str(Damage(path, mark.offset, f"it says what can't be ({error!r})"))) from error
        except Damage as damage:
            if (month, damage.offset) < (synced.month, synced.offset):
                raise LedgerDamaged(f"the journal is damaged where it was synced: {damage}") from damage
            damages.append(_set_aside(damage))
        if (month, mark.offset) < (synced.month, synced.offset):
            raise LedgerDamaged(
                f"{path.name}, line {_line_number(path, mark.offset)}, byte {mark.offset}: the file ends here, "
                f"but was synced to byte {synced.offset}"
            )
        if mark.offset:
            return Recovered(book, mark, tuple(damages))
        path.unlink()  # nothing whole was written to it


def _checkpoint(data: Path) -> Checkpoint | None:
    try:
        return desk.read(data)
    except (ValueError, KeyError, TypeError) as error:
        log.warning("the desk can't be read and is rebuilt from the journal: %s", error)
        return None


def _synced(folder: Path, checkpoint: Checkpoint | None) -> Synced:
    """The later of the two: a checkpoint is only written once its lines are synced."""
    synced = read_synced(folder)
    if checkpoint is None:
        return synced
    mark = checkpoint.mark
    return max(synced, Synced(mark.month, mark.offset, mark.crc))


def _check_prefix(path: Path, mark: Mark) -> None:
    """The part the checkpoint has seen is not parsed, only summed; where the sum differs, the lines say where."""
    crc, left = 0, mark.offset
    with path.open("rb") as file:
        while left and (chunk := file.read(min(_CHUNK, left))):
            crc = zlib.crc32(chunk, crc)
            left -= len(chunk)
    if not left and crc == mark.crc:
        return
    last = 0
    try:
        for _, reached in walk(path, Mark(mark.month)):
            if reached.offset >= mark.offset:
                break
            last = reached.offset
        damage = Damage(path, last, "it is not the line that the checkpoint saw, or the file ends before it")
    except Damage as found:
        damage = found
    raise LedgerDamaged(f"the journal is damaged where it was synced: {damage}")


def check_synced(path: Path, before: Mark, reached: Mark, synced: Synced) -> None:
    """The last synced line has perhaps none after it to vouch for it: its sum does. Raises Damage."""
    if reached.month != synced.month or not before.offset < synced.offset <= reached.offset:
        return
    if (reached.offset, reached.crc) != (synced.offset, synced.crc):
        raise Damage(path, before.offset, "it is not the line that was synced")


def _set_aside(damage: Damage) -> str:
    """Move what begins at the damage out of the journal; the sentence for the operator."""
    path = damage.path
    size = path.stat().st_size
    number = 0
    while (aside := path.with_name(f"damaged-{path.stem}-{damage.offset}-{number}.jsonl")).exists():
        number += 1
    with path.open("r+b") as file:
        file.seek(damage.offset)
        with aside.open("xb") as kept:
            shutil.copyfileobj(file, kept)
            kept.flush()
            os.fsync(kept.fileno())
        file.truncate(damage.offset)
        os.fsync(file.fileno())
    sync_folder(path.parent)
    told = f"{size - damage.offset} bytes of the journal's tail, never synced, were damaged and set aside: {damage}"
    log.error("%s; they are kept in %s", told, aside.name)
    return f"{told}; they are kept in {aside.name}"


def _line_number(path: Path, offset: int) -> int:
    lines, left = 1, offset
    with path.open("rb") as file:
        while left and (chunk := file.read(min(_CHUNK, left))):
            lines += chunk.count(b"\n")
            left -= len(chunk)
    return lines
