"""The read index: actions and alerts in sqlite, for look-ups, lists and totals. Off the line, and never the truth.

A thread follows the journal's files from where it last was, whenever it is told to: by a read, which waits until all
recorded before it is there, and now and then by the ledger. So a burst needs no queue, and catching up, rebuilding and
following are one thing.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from proxy.ledger import rows
from proxy.ledger.chain import MALFORMED, newer
from proxy.ledger.chain import place as place_of
from proxy.ledger.entries import GENESIS, VERSION, loads
from proxy.ledger.journal import PACK_ERRORS, Mark, file_of, month_span, months, open_lines
from proxy.ledger.port import LedgerError, LedgerUnavailable

log = logging.getLogger("agent_ledger.ledger")
T = TypeVar("T")

IDEMPOTENCY_MS = 24 * 3_600_000
_BYTES_AT_ONCE = 1 << 22  # of a transaction: the more, the fewer times a page is written
_READERS = 3
_SQLITE_MIN = (3, 38)  # its JSON operators


def path_of(data: Path) -> Path:
    return data / "index.sqlite"


def open_beside(data: Path) -> sqlite3.Connection:
    """To read the index of a folder that is, or is not, another process's. Raises sqlite3.Error."""
    path = path_of(data.absolute())
    # Without its log nobody has it open: then sqlite is told so, or it would leave a log of its own behind.
    alone = "" if path.with_name(f"{path.name}-wal").exists() else "&immutable=1"
    return sqlite3.connect(f"{path.as_uri()}?mode=ro{alone}", uri=True)


def followed_to(data: Path) -> str:
    """The month that the folder's index has come to; none where there is no index that a ledger would go on with."""
    try:
        with closing(open_beside(data)) as db:
            if db.execute("PRAGMA user_version").fetchone() != (rows.VERSION,):
                return ""
            place = db.execute("SELECT month FROM place").fetchone()
            return place[0] if place else ""
    except sqlite3.Error:
        return ""


class _Place(NamedTuple):
    """How far the journal is in the index, and the hash of the line before."""

    month: str = ""
    offset: int = 0
    seq: int = 0
    head: str = GENESIS


class _Begin(NamedTuple):
    """The first line that it followed: the months before were not in the folder."""

    month: str = ""
    seq: int = 0


def _text(held: bytes) -> str:
    """A lone surrogate out of some request, which sqlite holds as it came, must not stop a read."""
    return held.decode("utf-8", "replace")


class _Foreign(Exception):
    """What the index holds is not of this journal."""


class Index:
    """Made in a thread (opening sqlite may wait for the disk), then used from the event loop."""

    def __init__(self, data: Path, folder: Path, tip: Mark, loop: asyncio.AbstractEventLoop) -> None:
        """Raises LedgerError, sqlite3.Error."""
        if sqlite3.sqlite_version_info < _SQLITE_MIN:
            raise LedgerError(f"this Python comes with SQLite {sqlite3.sqlite_version}: 3.38 or later is needed")
        self.failure: str | None = None
        self._path = path_of(data)
        self._folder = folder
        self._target = tip
        self._loop = loop
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._work = threading.Event()
        self._closing = threading.Event()
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="index-read")
        self._lines: tuple[str, io.BufferedIOBase] | None = None
        self._begin = _Begin()
        self._anew = False  # all that it holds was read by this process: what does not follow is the journal's fault
        self._db, self._place = self._open()
        self._rows = rows.Rows(self._db)
        self.zone = self._rows.totals.zone or ZoneInfo("UTC")
        self._thread = threading.Thread(target=self._follow_forever, name="index", daemon=True)
        self._thread.start()
        self.follow(tip)

    @property
    def applied(self) -> int:
        """The sequence up to which the index holds all."""
        return self._place.seq

    @property
    def whole_from(self) -> int:
        """It holds all that was recorded from then on, unix ms; 0 where nothing before is missing."""
        return month_span(self._begin.month).start_ms if self._begin.seq > 1 else 0

    @property
    def shortened(self) -> str | None:
        """What an operator should know of it, if months before it are missing."""
        if not self.whole_from:
            return None
        return f"lists and totals begin with {self._begin.month}: the read index was made without the months before"

    def follow(self, tip: Mark) -> None:
        """Have the thread catch up to that place in the journal."""
        self._target = tip
        if not self._work.is_set():
            self._work.set()

    def sum_by(self, zone: ZoneInfo) -> None:
        """Totals are by that zone's days from now on; the thread makes them anew where they are by another's."""
        self.zone = zone
        self._work.set()

    async def reach(self, tip: Mark) -> None:
        """Return once all up to there is in the index. Raises LedgerUnavailable if it can't be."""
        if self._place.seq >= tip.seq:
            return
        future = self._loop.create_future()
        self._waiters.append((tip.seq, future))
        self.follow(tip)
        await future

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query in a thread. Raises LedgerUnavailable."""
        try:
            return await self._loop.run_in_executor(self._pool, self._query, query)
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"the read index failed: {error}") from error

    async def close(self) -> None:
        self._closing.set()
        self._work.set()
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._pool.shutdown)
        self.failure = "the ledger is closed"
        self._release()
        for db in (*self._readers, self._db):
            db.close()
        self._let_go()

    # -- the file ------------------------------------------------------------------------------------------------------
    def _open(self) -> tuple[sqlite3.Connection, _Place]:
        """Continue from the place noted in the file, if that is a place in this journal; else begin again."""
        db = None
        try:
            db = self._connect()
            for noted in db.execute("SELECT * FROM place, begin") if self._versioned(db) else ():
                place, begin = _Place(*noted[:4]), _Begin(*noted[4:])
                if self._is_ours(place, begin):
                    self._begin = begin
                    return db, place
        except sqlite3.DatabaseError as error:
            log.warning("the read index can't be read: %s", error)
            if db is not None:
                db.close()
            for path in self._path.parent.glob(f"{self._path.name}*"):
                path.unlink()
            db = self._connect()
        return db, self._renew(db)

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, check_same_thread=False)
        self._path.chmod(0o600)
        db.execute("PRAGMA journal_mode = WAL")
        # The pages that new rows touch stay in memory and are written back seldom: else a row costs more as they grow.
        db.execute("PRAGMA cache_size = -16384")  # KiB
        db.execute("PRAGMA wal_autocheckpoint = 4000")
        db.execute("PRAGMA synchronous = NORMAL")  # power loss takes what is newest, whole: it is read again
        return db

    def _versioned(self, db: sqlite3.Connection) -> bool:
        return bool(db.execute("PRAGMA user_version").fetchone()[0] == rows.VERSION)

    def _is_ours(self, place: _Place, begin: _Begin) -> bool:
        tip, kept = self._target, months(self._folder)
        if begin.seq > 1 and kept and kept[0] < begin.month:  # months that were missing have come back
            return False
        if place.seq >= tip.seq:
            return (place.seq, place.head) == (tip.seq, tip.head)
        return place.month in kept

    def _renew(self, db: sqlite3.Connection) -> _Place:
        if self._target.seq:
            log.info("the read index is made anew from the journal")
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        drops = "".join(f"DROP TABLE {name};" for name in tables)
        db.executescript(f"BEGIN; {drops} {rows.SCHEMA} PRAGMA user_version = {rows.VERSION}; COMMIT;")
        self._begin, self._anew = _Begin(), True
        return _Place()

    def _query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, check_same_thread=False)
            db.text_factory = _text
            self._local.db = db
            self._readers.append(db)
        return query(db)

    def _release(self) -> None:
        """On the loop: wake those whose line is there; tell the others if it can't be."""
        for seq, future in self._waiters:
            if future.done():
                continue
            if seq <= self._place.seq:
                future.set_result(None)
            elif self.failure is not None:
                future.set_exception(LedgerUnavailable(self.failure))
        # In one step: the thread looks at the list to know whether to call this again.
        self._waiters = [waiter for waiter in self._waiters if not waiter[1].done()]

    # -- following, in the thread --------------------------------------------------------------------------------------
    def _follow_forever(self) -> None:
        while not self._closing.is_set():
            self._work.wait()
            self._work.clear()
            self.failure = None
            try:
                while not self._closing.is_set() and (self._lags() or self._rows.totals.behind(self.zone)):
                    if self._lags():
                        self._follow()
                        self._tell()
                    self._sum_up()
            except _Foreign:
                self._place = self._renew(self._db)
                self._rows.forget()
                self._work.set()
            except (sqlite3.Error, OSError, *MALFORMED, *PACK_ERRORS) as error:
                self._let_go()
                self._db.rollback()
                self._rows.forget()
                self.failure = f"the read index can't follow the journal: {error}"
                if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                    self._path.unlink(missing_ok=True)  # damaged, where a full disk is not: a restart makes it anew
                log.error("%s", self.failure)
            self._tell()  # even if nothing was left to do: one may have begun to wait just before

    def _lags(self) -> bool:
        return self._place.seq < self._target.seq

    def _sum_up(self) -> None:
        zone = self.zone
        if self._rows.totals.behind(zone):
            self._rows.totals.catch_up(zone)
            self._db.commit()

    def _tell(self) -> None:
        if self._waiters:
            self._loop.call_soon_threadsafe(self._release)

    def _follow(self) -> None:
        """The lines that come next, as one transaction."""
        target, place = self._target, self._place
        month = place.month or months(self._folder)[0]
        left = target.offset - place.offset if month == target.month else _BYTES_AT_ONCE
        file = self._file(month, place.offset)
        chunk = file.read(max(0, min(left, _BYTES_AT_ONCE)))
        if not chunk:
            later = [each for each in months(self._folder) if each > month]
            if not later:
                raise _Foreign
            self._place = place._replace(month=later[0], offset=0)
            return
        if not chunk.endswith(b"\n"):
            chunk += file.readline()
        end_of_first, start_of_last = chunk.index(b"\n"), chunk.rfind(b"\n", 0, -1) + 1
        first_line, last_line = chunk[:end_of_first], chunk[start_of_last:]
        if place.seq and b'"prev":"%s"' % place.head.encode() not in first_line:
            if self._anew:
                at = place_of(file_of(self._folder, month), place.offset)
                raise ValueError(f"{at}: it does not follow from the line before, or a month is missing")
            raise _Foreign
        first, last = loads(first_line), loads(last_line)
        if last["v"] > VERSION:
            at = place_of(file_of(self._folder, month), place.offset + start_of_last)
            raise ValueError(f"{at}: {newer(last['v'])}")
        head = hashlib.sha256(last_line).hexdigest()
        reached = _Place(month, place.offset + len(chunk), last["seq"], head)
        self._rows.add(chunk)
        self._db.execute("DELETE FROM idempotency WHERE at <= ?", (last["at"] - IDEMPOTENCY_MS,))
        if not place.seq:
            self._begin = _Begin(month, first["seq"])
            self._db.execute("INSERT INTO begin VALUES (?,?)", self._begin)
        self._db.execute("DELETE FROM place")
        self._db.execute("INSERT INTO place VALUES (?,?,?,?)", reached)
        self._db.commit()
        self._place = reached

    def _file(self, month: str, offset: int) -> io.BufferedIOBase:
        if self._lines is None or self._lines[0] != month:
            self._let_go()
            self._lines = (month, open_lines(file_of(self._folder, month)))
        file = self._lines[1]
        file.seek(offset)
        return file

    def _let_go(self) -> None:
        if self._lines is not None:
            self._lines[1].close()
            self._lines = None
