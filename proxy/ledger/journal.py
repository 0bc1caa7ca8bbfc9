"""The journal: `2026-11.jsonl` holds the lines of one UTC month, each chained to the one before by its hash.

A closed month may be compressed (`2026-10.jsonl.gz`), and the oldest may be gone: each begins with the whole book.

Lines are written on the event loop (a whole fresh line in one write, microseconds) and synced by a thread, as many at
once as have gathered. After a failed write or sync nothing more is written until a restart has looked at the file: what
the disk then holds is not known. How far it was synced is kept beside the journal, so that after a crash damage can be
told from loss: past that place a torn tail is expected, before it something is wrong.
"""

from __future__ import annotations

import asyncio
import errno
import gzip
import hashlib
import io
import json
import logging
import os
import re
import threading
import zlib
from collections import deque
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from policy.periods import Span, span
from proxy.ledger.entries import GENESIS, Entry, encode
from proxy.ledger.port import LedgerUnavailable

log = logging.getLogger("agent_ledger.ledger")

UTC = ZoneInfo("UTC")
PACK_ERRORS = (gzip.BadGzipFile, EOFError, zlib.error)
_MONTH_FILE = re.compile(r"([1-9]\d{3}-(?:0[1-9]|1[0-2]))\.jsonl(?:\.gz)?", re.ASCII)
_CHUNK = 1 << 20
_SYNCED_BYTES = 128
_GATHER_S = 0.05


class Mark(Struct, frozen=True, gc=False):
    """A place between two lines: all before ``offset`` of the month's file, whose crc32 up to there is ``crc``.

    ``seq``, ``head`` (sha256 hex) and ``at`` are those of the line before it.
    """

    month: str = ""
    offset: int = 0
    crc: int = 0
    seq: int = 0
    head: str = GENESIS
    at: int = 0


class Synced(NamedTuple):
    """How far the journal is known to be on disk."""

    month: str = ""
    offset: int = 0
    crc: int = 0


class Archived(NamedTuple):
    """The last line of the months that were moved away or removed."""

    month: str = ""
    seq: int = 0
    head: str = GENESIS


def folder_of(data: Path) -> Path:
    return data / "journal"


def file_of(folder: Path, month: str) -> Path:
    return folder / f"{month}.jsonl"


def packed_of(path: Path) -> Path:
    """A closed month's file, compressed: it counts where ``path``, the plain one, is not there."""
    return path.with_name(f"{path.name}.gz")


def months(folder: Path) -> list[str]:
    """The months that have a file, plain or compressed, oldest first."""
    names = (_MONTH_FILE.fullmatch(path.name) for path in folder.glob("*.jsonl*"))
    return sorted({name[1] for name in names if name})


def open_lines(path: Path) -> io.BufferedIOBase:
    """A month's lines, of its plain file, else of its compressed one; where those are damaged, reads raise PACK_ERRORS.

    Raises FileNotFoundError where neither is there.
    """
    try:
        return path.open("rb")
    except FileNotFoundError:
        return gzip.open(packed_of(path))


def month_of(at_ms: int) -> str:
    """The UTC month a line written then belongs to: ``2026-11``."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m")


def month_span(month: str) -> Span:
    """When that UTC month begins and ends."""
    year, number = month.split("-")
    return span("month", int(datetime(int(year), int(number), 1, tzinfo=UTC).timestamp()) * 1000, UTC)


def read_synced(folder: Path) -> Synced:
    """What the last run noted; the beginning, where it noted nothing that can be read."""
    try:
        noted = json.loads((folder / "synced").read_bytes())
        return Synced(noted["month"], noted["offset"], noted["crc"])
    except (OSError, ValueError, KeyError, TypeError):
        return Synced()


def read_archived(folder: Path) -> Archived:
    """What `agent-ledger archive` noted; the beginning, where it noted nothing that can be read."""
    try:
        noted = json.loads((folder / "archived").read_bytes())
        return Archived(noted["month"], noted["seq"], noted["head"])
    except (OSError, ValueError, KeyError, TypeError):
        return Archived()


def sum_of(path: Path, offset: int) -> int | None:
    """The crc32 of the file up to there; None where it ends before."""
    crc, left = 0, offset
    with path.open("rb") as file:
        while left and (chunk := file.read(min(_CHUNK, left))):
            crc = zlib.crc32(chunk, crc)
            left -= len(chunk)
    return None if left else crc


def sync_folder(folder: Path) -> None:
    """Make the folder's own entries (a new or renamed file) durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_again(path: Path, synced: Synced) -> None:
    """Write the lines that are not known to be synced once more, as they are.

    Where a sync failed under the process before, the kernel may take their pages for clean and pass over them now.
    """
    with path.open("r+b") as file:
        at = synced.offset if synced.month == path.stem else 0
        while True:
            file.seek(at)
            if not (chunk := file.read(_CHUNK)):
                return
            file.seek(at)
            at += file.write(chunk)


def _is_at(fd: int, path: Path) -> bool:
    """Whether that open file is the one found there: what is written to another is lost with it."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


class Journal:
    """Appends to the open month. Made at a recovered ``mark``, whose file it syncs first; raises OSError."""

    def __init__(self, folder: Path, mark: Mark) -> None:
        self.folder = folder
        self.tip = mark
        self.synced = mark
        self.failure: str | None = None
        self._loop = asyncio.get_running_loop()
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._work = threading.Event()
        self._awaited = threading.Event()
        self._waiting_since = 0  # when the first line was written that no sync has begun on
        self._syncing_since: int | None = None  # when the first of those was that are being synced
        self._file = threading.Lock()  # held over a sync, and where the open file changes
        self._closing = False
        self._month_end = 0
        self._synced_fd = os.open(folder / "synced", os.O_WRONLY | os.O_CREAT, 0o600)
        self._fd = -1
        if mark.month:
            self._fd = os.open(file_of(folder, mark.month), os.O_WRONLY | os.O_APPEND)
            self._month_end = span("month", mark.at, UTC).end_ms
            _write_again(file_of(folder, mark.month), read_synced(folder))
            self._sync()
        sync_folder(folder)
        sync_folder(folder.parent)
        self._thread = threading.Thread(target=self._sync_forever, name="journal-sync", daemon=True)
        self._thread.start()

    @property
    def waiting_since(self) -> int | None:
        """When the oldest line was written that is not known to be on disk, unix ms; None: all of them are."""
        if self.synced.seq >= self.tip.seq:
            return None
        syncing = self._syncing_since
        return self._waiting_since if syncing is None else syncing

    def ends_month(self, at: int) -> bool:
        """Whether a line written at that time belongs to a later file than the open one."""
        return at >= self._month_end

    def append(self, entry: Entry) -> int:
        """Write one line and return its sequence. Raises LedgerUnavailable: then it is not part of the ledger."""
        if self.failure is not None:
            raise LedgerUnavailable(self.failure)
        tip = self.tip
        entry.seq = tip.seq + 1
        line = encode(entry, tip.head)
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            raise self._fail(f"writing the journal failed: {error.strerror}") from error
        if written != len(line):
            raise self._fail(f"the journal took {written} of a line's {len(line)} bytes")
        self.tip = Mark(
            tip.month,
            tip.offset + written,
            zlib.crc32(line, tip.crc),
            entry.seq,
            hashlib.sha256(line).hexdigest(),
            entry.at,
        )
        if not self._work.is_set():
            self._waiting_since = entry.at
            self._work.set()
        return entry.seq

    def begin_month(self, at: int) -> None:
        """Open the file that a line written at that time belongs to, once the file before it is synced, whole."""
        if self.failure is not None:
            raise LedgerUnavailable(self.failure)
        with self._file:
            try:
                before = self._fd
                if before >= 0:
                    self._sync()
                month = month_of(at)
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
                self._fd = os.open(file_of(self.folder, month), flags, 0o600)
                if before >= 0:
                    os.close(before)
                sync_folder(self.folder)
            except OSError as error:
                raise self._fail(f"beginning a month's journal failed: {error.strerror}") from error
            self.tip = replace(self.tip, month=month, offset=0, crc=0)
            self._month_end = span("month", at, UTC).end_ms

    async def durable(self, seq: int) -> None:
        """Return once the line of that sequence is synced. Raises LedgerUnavailable if it can't be."""
        if self.synced.seq >= seq:
            return
        future = self._loop.create_future()
        self._waiters.append((seq, future))
        self._awaited.set()
        self._release()  # the thread may have been done between the two lines above
        await future

    async def close(self) -> None:
        """Sync what is written and let the files go."""
        self._closing = True
        self._awaited.set()
        self._work.set()
        await asyncio.to_thread(self._thread.join)
        self._release()
        self.failure = self.failure or "the ledger is closed"
        for fd in (self._fd, self._synced_fd):
            if fd >= 0:
                os.close(fd)

    def _sync_forever(self) -> None:
        closing = False
        while not closing:
            self._work.wait()
            self._awaited.wait(_GATHER_S)  # where nobody waits, a sync a line would only slow the line
            self._awaited.clear()
            self._syncing_since = self._waiting_since
            self._work.clear()
            closing = self._closing  # before the sync: what was written before close began is synced
            with self._file:
                try:
                    if self.failure is None and self.synced.seq < self.tip.seq:
                        self._sync()
                except OSError as error:
                    # Never tried again: the kernel may have dropped the pages, and a second fsync would succeed.
                    self._fail(f"syncing the journal failed: {error.strerror}")
            self._syncing_since = None
            if self._waiters:
                self._loop.call_soon_threadsafe(self._release)

    def _sync(self) -> None:
        tip = self.tip
        os.fdatasync(self._fd)
        if not _is_at(self._fd, file_of(self.folder, tip.month)):
            raise FileNotFoundError(errno.ENOENT, "its file was moved or removed")
        note = f'{{"month": "{tip.month}", "offset": {tip.offset}, "crc": {tip.crc}}}'
        os.pwrite(self._synced_fd, note.ljust(_SYNCED_BYTES - 1).encode() + b"\n", 0)
        self.synced = tip

    def _release(self) -> None:
        """Wake those whose line is synced, or tell all that it never will be."""
        waiters = self._waiters
        while waiters and waiters[0][0] <= self.synced.seq:
            _, future = waiters.popleft()
            if not future.done():
                future.set_result(None)
        while waiters and self.failure is not None:
            _, future = waiters.popleft()
            if not future.done():
                future.set_exception(LedgerUnavailable(self.failure))

    def _fail(self, why: str) -> LedgerUnavailable:
        self.failure = f"{why}; nothing is recorded until a restart"
        log.error("%s", self.failure)
        return LedgerUnavailable(self.failure)
