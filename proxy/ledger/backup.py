"""A copy of a ledger in one file, made beside a running sidecar or without one, and a ledger made of such a file.

In it are the months (the open one up to its last whole line) and what was noted of them. Agents, keys, balances, rows
and alerts are the journal's; the index goes along only where it alone has the rows of months that were archived.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from proxy.ledger.archive import replacing
from proxy.ledger.index import open_beside, path_of
from proxy.ledger.journal import (
    PACK_ERRORS,
    Synced,
    file_of,
    folder_of,
    months,
    packed_of,
    read_archived,
    sum_of,
    sync_folder,
)
from proxy.ledger.lock import reading_files, take
from proxy.ledger.port import LedgerDamaged, LedgerError
from proxy.ledger.verify import Report, verify

_CHUNK = 1 << 20
_MEMBER = re.compile(r"journal/([0-9-]{7}\.jsonl(\.gz)?|synced|archived)|index\.sqlite", re.ASCII)


class _Part(NamedTuple):
    """A file to copy, by its place in the data folder: its first ``size`` bytes."""

    path: Path
    name: str
    size: int


def backup(data: Path, to: Path) -> Report:
    """Write all that is recorded as the call begins to the file ``to``, mode 0600, once its copy was replayed whole.

    Raises LedgerError where there is no journal; LedgerDamaged where what is there does not prove whole; OSError. The
    file that was there before then stays.
    """
    data, folder, proved = data.absolute(), folder_of(data), []
    if not months(folder):
        raise LedgerError(f"{data} holds no journal")

    def prove(draft: Path) -> bool:
        with TemporaryDirectory(prefix=f"{to.name}.", dir=to.parent) as copy:
            proved.append(_unpack(draft, Path(copy)))
        return True

    with reading_files(folder), TemporaryDirectory(prefix=f"{to.name}.", dir=to.parent) as scratch:
        parts = _noted(data, Path(scratch))
        with (
            replacing(to, prove) as file,
            gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as squeezing,
            tarfile.open(fileobj=squeezing, mode="w:") as tar,
        ):
            for part in parts:
                member = tarfile.TarInfo(part.name)
                member.size, member.mode = part.size, 0o600
                with part.path.open("rb") as source:
                    tar.addfile(member, source)
    return proved[0]


def restore(copy: Path, data: Path) -> Report:
    """Make a ledger of a backup, in a folder that holds none: whole and proved, or not at all.

    Raises LedgerError where the folder is in use or holds a ledger, or where ``copy`` is no backup; LedgerDamaged where
    it does not prove whole; OSError.
    """
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = take(data)
    try:
        if any(data.glob("journal/*")) or any(data.glob("desk.json")):
            raise LedgerError(f"{data} holds a ledger already")
        draft = data / "restoring"
        shutil.rmtree(draft, ignore_errors=True)  # of a restore that was cut short
        try:
            report = _unpack(copy, draft)
            for stale in data.glob("index.sqlite*"):  # of another journal
                stale.unlink()
            if path_of(draft).exists():
                path_of(draft).replace(path_of(data))
            folder_of(draft).replace(folder_of(data))
            sync_folder(data)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    finally:
        os.close(lock)
    return report


def _noted(data: Path, scratch: Path) -> list[_Part]:
    """What is to be copied, as of now. Notes that are made for the copy are in ``scratch``."""
    folder, parts = folder_of(data), []
    if read_archived(folder).seq:
        # Before the journal is looked at: the copy's index may be behind its journal, never ahead.
        parts += [_copy_index(data, scratch)] if path_of(data).exists() else []
        parts.append(_part(folder / "archived", "journal/archived"))
    kept = months(folder)
    whole = _whole(file_of(folder, kept[-1]))
    if not whole and len(kept) > 1:  # just begun, or torn at once
        kept.pop()
        whole = _whole(file_of(folder, kept[-1]))
    for month in kept[:-1]:
        path = file_of(folder, month)
        path = path if path.exists() else packed_of(path)
        parts.append(_part(path, f"journal/{path.name}"))
    path = file_of(folder, kept[-1])
    note = Synced(kept[-1], whole, sum_of(path, whole) or 0)
    (scratch / "synced").write_text(json.dumps(note._asdict()))
    return [*parts, _Part(path, f"journal/{path.name}", whole), _part(scratch / "synced", "journal/synced")]


def _part(path: Path, name: str) -> _Part:
    return _Part(path, name, path.stat().st_size)


def _copy_index(data: Path, scratch: Path) -> _Part:
    copied = path_of(scratch)
    try:
        with closing(open_beside(data)) as held, closing(sqlite3.connect(copied)) as copy:
            held.backup(copy)
    except sqlite3.Error as error:
        raise LedgerError(
            f"the read index, which alone has the rows of archived months, can't be read: {error}"
        ) from error
    return _part(copied, copied.name)


def _whole(path: Path) -> int:
    """Where the last whole line ends."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _CHUNK)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0


def _unpack(copy: Path, data: Path) -> Report:
    """The copy's files in a data folder, which they prove. Raises LedgerError, LedgerDamaged, OSError."""
    folder_of(data).mkdir(parents=True, mode=0o700)
    names = set()
    try:
        with gzip.open(copy) as whole, tarfile.open(fileobj=whole, mode="r:") as tar:
            for member in tar:
                source = tar.extractfile(member) if member.isreg() and _MEMBER.fullmatch(member.name) else None
                if source is None:
                    raise LedgerError(f"{copy} is no backup of a ledger: {member.name!r} is in it")
                names.add(member.name)
                with source, replacing(data / member.name) as file:
                    shutil.copyfileobj(source, file, _CHUNK)
            while whole.read(_CHUNK):  # to its very end, where its sum is
                pass
    except (tarfile.TarError, *PACK_ERRORS) as error:
        raise LedgerError(f"{copy} can't be read as a backup: {error}") from error
    report = verify(data)
    if not report.ok:
        raise LedgerDamaged(f"the copy does not prove whole: {report.problems[0]}")
    if not report.lines or "journal/synced" not in names:
        raise LedgerError(f"{copy} is no backup of a ledger: it is not complete")
    return report
