"""Opening a journal: check what was synced, replay what the checkpoint has not seen, set a torn tail aside."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from proxy.ledger import desk
from proxy.ledger.book import Book
from proxy.ledger.chain import MALFORMED, Damage, place, walk
from proxy.ledger.desk import Checkpoint
from proxy.ledger.journal import Mark, Synced, file_of, folder_of, months, read_synced, sum_of, sync_folder
from proxy.ledger.port import LedgerDamaged

log = logging.getLogger("agent_ledger.ledger")


class Recovered(NamedTuple):
    """``damage`` tells of each tail that was set aside."""

    book: Book
    mark: Mark
    damage: tuple[str, ...]


def recover(data: Path) -> Recovered:
    """The book at the end of the journal, and that end. Blocks; raises LedgerDamaged, NewerFormat and OSError.

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
        if not path.exists():
            raise LedgerDamaged(f"{path.name} is a closed month, compressed: the file of the month after it is missing")
        start, book = Mark(month), Book()
        if checkpoint is not None and checkpoint.mark.month == month:
            start, book = checkpoint
            _check_prefix(path, start)
        mark = start
        try:
            for entry, reached in walk(path, start, synced):
                book.apply(entry)
                mark = reached
        except MALFORMED as error:
            raise LedgerDamaged(f"{place(path, mark.offset)}: it says what can't be ({error!r})") from error
        except Damage as damage:
            if (month, damage.offset) < (synced.month, synced.offset):
                raise LedgerDamaged(f"the journal is damaged where it was synced: {damage}") from damage
            damages.append(_set_aside(damage))
        if (month, mark.offset) < (synced.month, synced.offset):
            raise LedgerDamaged(
                f"{place(path, mark.offset)}: the file ends here, but was synced to byte {synced.offset}"
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
    if sum_of(path, mark.offset) == mark.crc:
        return
    last = 0
    try:
        for _, reached in walk(path, Mark(mark.month), Synced(mark.month, mark.offset, mark.crc)):
            if reached.offset >= mark.offset:
                break
            last = reached.offset
        damage = Damage(path, last, "it is not the line that the checkpoint saw, or the file ends before it")
    except Damage as found:
        damage = found
    raise LedgerDamaged(f"the journal is damaged where it was synced: {damage}")


def _set_aside(damage: Damage) -> str:
    """Move what begins at the damage out of the journal; the sentence for the operator."""
    path = damage.path
    size = path.stat().st_size
    number = 0
    while (aside := path.with_name(f"damaged-{path.stem}-{damage.offset}-{number}.jsonl")).exists():
        number += 1
    with path.open("r+b") as file:
        file.seek(damage.offset)
        try:
            with aside.open("xb") as kept:
                shutil.copyfileobj(file, kept)
                kept.flush()
                os.fsync(kept.fileno())
        except OSError:
            aside.unlink(missing_ok=True)  # or each start on a full disk would leave one more
            raise
        file.truncate(damage.offset)
        os.fsync(file.fileno())
    sync_folder(path.parent)
    told = f"{size - damage.offset} bytes of the journal's tail, never synced, were damaged and set aside: {damage}"
    log.error("%s; they are kept in %s", told, aside.name)
    return f"{told}; they are kept in {aside.name}"
