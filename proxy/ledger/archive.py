"""Closed months out of the way: compressed where they are, moved to another folder, or removed.

Beside a running sidecar or without one: it never writes a closed month, and what reads one reads either form. Each
step leaves the ledger whole: what takes a file's place is on disk and read back before that file goes, and where a
crash left both, the plain one counts and the other is made again.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import BinaryIO, NamedTuple

from proxy.ledger.chain import Damage, walk
from proxy.ledger.entries import loads
from proxy.ledger.index import IDEMPOTENCY_MS, followed_to
from proxy.ledger.journal import (
    PACK_ERRORS,
    Archived,
    Mark,
    file_of,
    folder_of,
    month_span,
    months,
    open_lines,
    packed_of,
    read_archived,
    read_synced,
    sync_folder,
)
from proxy.ledger.lock import moving_files
from proxy.ledger.port import LedgerDamaged, LedgerError

_CHUNK = 1 << 20


class Month(NamedTuple):
    """A closed month, done with: its lines ``first`` to ``last``, ``size`` bytes of text, ``head`` the last one's hash.

    ``kept`` says why it was only compressed, where it was to be moved or removed.
    """

    month: str
    first: int
    last: int
    size: int
    head: str
    path: Path | None
    kept: str = ""


def archive(
    data: Path, now_ms: int, *, before: str | None = None, to: Path | None = None, remove: bool = False
) -> Iterator[Month]:
    """Compress the closed months, and move them ``to`` a folder or ``remove`` them; each is told of as it is done.

    ``before`` is the first month left as it is. Raises LedgerError where another command is at work, or where ``to``
    is no folder to move to or holds another file of that name; LedgerDamaged where a month is not whole; OSError.
    """
    folder = folder_of(data)
    if not folder.is_dir():
        raise LedgerError(f"{data} holds no journal")
    if to is not None and (not to.is_dir() or to.samefile(folder)):
        raise LedgerError(f"{to} is no other folder to move months to")
    with moving_files(folder):
        # A month is closed once a line of a later one is synced: before that, a crash may take the later file away.
        end = read_synced(folder).month
        end = min(before or end, end)
        for month in [month for month in months(folder) if month < end]:
            kept = _why_kept(data, month, now_ms) if to or remove else ""
            if (to or remove) and not kept:
                yield _take_away(folder, month, to)
            elif (plain := file_of(folder, month)).exists():  # else a run before has compressed it
                read = _read(folder, month)
                yield read._replace(path=_pack(plain), kept=kept)


def _why_kept(data: Path, month: str, now_ms: int) -> str:
    """What of the month is still needed here: its rows, where the index has not got them, and its Idempotency-Keys."""
    if followed_to(data) <= month:
        return "the read index has not got its rows yet; a running sidecar brings it up"
    if now_ms < month_span(month).end_ms + IDEMPOTENCY_MS:
        return "its Idempotency-Keys hold for 24 hours"
    return ""


def _read(folder: Path, month: str) -> Month:
    """The month's lines, whole and followed by the next month's. Raises LedgerDamaged."""
    path, first, mark = file_of(folder, month), 0, Mark(month)
    try:
        for entry, reached in walk(path, mark):
            first, mark = first or entry.seq, reached
    except Damage as damage:
        raise LedgerDamaged(f"not archived: {damage}") from damage
    following = file_of(folder, next(each for each in months(folder) if each > month))
    try:
        with open_lines(following) as file:
            line = loads(file.readline())
        follows = bool((line["seq"] - 1, line["prev"]) == (mark.seq, mark.head))
    except (ValueError, LookupError, TypeError, *PACK_ERRORS):
        follows = False
    if not follows:
        raise LedgerDamaged(f"not archived: {following.name} does not follow {path.name}")
    return Month(month, first, mark.seq, mark.offset, mark.head, None)


def _take_away(folder: Path, month: str, to: Path | None) -> Month:
    read, plain = _read(folder, month), file_of(folder, month)
    packed, target = packed_of(plain), None
    if to is not None:
        target = to / packed.name
        _copy(_pack(plain) if plain.exists() else packed, target)
    if read.last > read_archived(folder).seq:
        note = Archived(month, read.last, read.head)
        with replacing(folder / "archived") as file:
            file.write(json.dumps(note._asdict()).encode())
    packed.unlink(missing_ok=True)
    plain.unlink(missing_ok=True)
    sync_folder(folder)
    return read._replace(path=target)


def _pack(plain: Path) -> Path:
    """Compressed in its place: the same bytes by the same zlib, whenever it is done."""
    packed = packed_of(plain)
    with (
        plain.open("rb") as file,
        replacing(packed, lambda draft: _same(plain.open("rb"), gzip.open(draft))) as draft,
        gzip.GzipFile("", "wb", fileobj=draft, mtime=0) as squeezing,
    ):
        shutil.copyfileobj(file, squeezing, _CHUNK)
    plain.unlink()
    sync_folder(plain.parent)
    return packed


def _copy(source: Path, target: Path) -> None:
    """To another file system, perhaps. What is there already is never written over."""
    if target.exists():
        if not _same(source.open("rb"), target.open("rb")):
            raise LedgerError(f"{target} is there already, and is not {source}")
        return
    with source.open("rb") as file, replacing(target, lambda draft: _same(source.open("rb"), draft.open("rb"))) as copy:
        shutil.copyfileobj(file, copy, _CHUNK)


def _same(one: BufferedIOBase, other: BufferedIOBase) -> bool:
    with one, other:
        try:
            while chunk := one.read(_CHUNK):
                if chunk != other.read(len(chunk)):
                    return False
            return not other.read(1)
        except PACK_ERRORS:
            return False


@contextmanager
def replacing(path: Path, check: Callable[[Path], bool] = Path.exists) -> Iterator[BinaryIO]:
    """A file, mode 0600, that takes the path's place when the block ends, synced and checked; if not, nothing is left.

    Raises OSError.
    """
    draft = path.with_name(f"{path.name}.tmp")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not check(draft):
            raise OSError(errno.EIO, "it reads otherwise than it was written", str(draft))
        draft.replace(path)
        sync_folder(path.parent)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
