"""A disk that can fail: stands in for the calls of the file layer that the ledger makes on the files of one folder.

Each call is named by where in the ledger it is made, `journal.append:write`, and counted there; a fault is told by name
and number. sqlite makes its own calls: what stands for them is each statement.
"""

from __future__ import annotations

import errno
import io
import os
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.ledger import store

Point = tuple[str, int]

_LEDGER = str(Path(store.__file__).parent)
_BY_PATH = ("open", "replace", "unlink", "mkdir", "chmod")
_BY_FD = ("write", "pwrite", "fsync", "fdatasync", "close")


def ledger_frame() -> str | None:
    """Module and function of the ledger's that is calling."""
    frame = sys._getframe(1)
    while not frame.f_code.co_filename.startswith(_LEDGER):
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}"


class Disk:
    """``before`` is called ahead of every call, with its point; what it raises, the call raises."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, before: Callable[[Point], None]) -> None:
        self.points: list[Point] = []
        self._folder = str(folder)
        self._counts: Counter[str] = Counter()
        self._before = before
        self._fds: set[int] = set()
        self._lock = threading.RLock()
        for name in _BY_PATH:
            patch.setattr(os, name, self._by_path(name, getattr(os, name)))
        for name in _BY_FD:
            patch.setattr(os, name, self._by_fd(name, getattr(os, name)))
        opened, fdopened, connected = io.open, os.fdopen, sqlite3.connect

        def open_(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            if not self._mine(path):
                return opened(path, mode, *rest, **more)
            self.pass_("open")
            file = opened(path, mode, *rest, **more)
            return file if mode in ("r", "rb") else File(file, self)

        def connect(path: Any, *rest: Any, **more: Any) -> Any:
            if not self._mine(str(path).removeprefix("file://")):
                return connected(path, *rest, **more)
            self.pass_sql("connect")
            return connected(path, *rest, **more, factory=connection_of(self))

        patch.setattr(io, "open", open_)
        patch.setattr(os, "fdopen", lambda fd, *rest, **more: File(fdopened(fd, *rest, **more), self))
        patch.setattr(sqlite3, "connect", connect)

    def pass_(self, call: str) -> None:
        """Count one call; raises its fault."""
        frame = ledger_frame()
        if frame is None:
            return
        place = f"{frame}:{call}"
        with self._lock:
            self._counts[place] += 1
            self.points.append((place, self._counts[place]))
            self._before((place, self._counts[place]))

    def pass_sql(self, call: str) -> None:
        """As ``pass_``, with the error that sqlite makes of it."""
        try:
            self.pass_(call)
        except OSError as error:
            raise sqlite3.OperationalError("disk I/O error") from error

    def _mine(self, path: Any) -> bool:
        return isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(self._folder)

    def _by_path(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def stand_in(path: Any, *rest: Any, **more: Any) -> Any:
            if not self._mine(path):
                return real(path, *rest, **more)
            self.pass_(name)
            done = real(path, *rest, **more)
            if name == "open":
                self._fds.add(done)
            return done

        return stand_in

    def _by_fd(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def stand_in(fd: int, *rest: Any) -> Any:
            if fd not in self._fds:
                return real(fd, *rest)
            if name == "close":
                real(fd)  # as Linux does: it is closed, whatever is returned
                self._fds.discard(fd)
                self.pass_(name)
                return None
            self.pass_(name)
            return real(fd, *rest)

        return stand_in


class File:
    """A file that is written through Python's own buffers."""

    def __init__(self, file: Any, disk: Disk) -> None:
        self._file = file
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        if name in ("write", "flush", "truncate"):
            self._disk.pass_(name)
        return getattr(self._file, name)

    def __enter__(self) -> File:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._file.close()


def connection_of(disk: Disk) -> type[sqlite3.Connection]:
    class Connection(sqlite3.Connection):
        def execute(self, *rest: Any) -> Any:
            disk.pass_sql("execute")
            return super().execute(*rest)

        def executescript(self, *rest: Any) -> Any:
            disk.pass_sql("executescript")
            return super().executescript(*rest)

        def commit(self) -> None:
            disk.pass_sql("commit")
            super().commit()

    return Connection


def io_error(point: Point) -> OSError:
    full = point[0].endswith(("write", "open", "flush"))
    return OSError(errno.ENOSPC, "No space left on device") if full else OSError(errno.EIO, "Input/output error")
