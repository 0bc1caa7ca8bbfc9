"""Who may touch a data folder: one ledger at a time, and beside it one command at a time that moves its files."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxy.ledger.port import LedgerError


def take(data: Path) -> int:
    """The data folder's lock; held until it is closed, or the process ends in any way. Raises LedgerError."""
    lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise LedgerError(f"the data folder {data} is in use by another process") from error
    return lock


def is_taken(data: Path) -> bool:
    """Whether some process holds the data folder's lock."""
    try:
        lock = os.open(data / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


@contextmanager
def moving_files(folder: Path) -> Iterator[None]:
    """Alone among the commands that read or move that folder's closed files. Raises LedgerError where one is at it."""
    with _flocked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
        yield


@contextmanager
def reading_files(folder: Path) -> Iterator[None]:
    """No command moves that folder's closed files meanwhile; waits for one that does."""
    with _flocked(folder, fcntl.LOCK_SH):
        yield


@contextmanager
def _flocked(folder: Path, how: int) -> Iterator[None]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, how)
    except OSError as error:
        os.close(fd)
        raise LedgerError(f"another command is at work on {folder}") from error
    try:
        yield
    finally:
        os.close(fd)
