"""`agent-ledger export`: all actions of a stretch of time, to a file that is whole or not there."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from proxy.export import FORMS as FORMATS
from proxy.export import Form
from proxy.ledger.lock import is_taken
from proxy.terminal.client import Client, NotThere, TerminalError, add_options
from proxy.terminal.folder import rows_of
from proxy.terminal.times import FORMS, moment

_TELL_S = 0.2
_MB = 1_000_000


def add_command(commands: Any) -> None:
    command = commands.add_parser("export", help="all actions of a stretch of time, oldest first, as CSV or JSON lines")
    command.set_defaults(run=_run)
    add_options(command)
    command.add_argument("--since", type=moment, metavar="WHEN", help=FORMS)
    command.add_argument("--until", type=moment, metavar="WHEN", help="up to then, and not that moment itself")
    command.add_argument("--format", choices=FORMATS, default="jsonl", help="default: jsonl")
    command.add_argument("--output", type=Path, metavar="FILE", help="replaced once all is there (default: stdout)")


def _run(options: argparse.Namespace) -> int:
    if options.since and options.until and options.since >= options.until:
        raise TerminalError("--until is not after --since: there is nothing between")
    with _target(options.output) as file:
        progress = _Progress(options.format, shown=sys.stderr.isatty() and not file.isatty())
        try:
            for chunk in progress.counted(_chunks(options)):
                file.write(chunk)
            file.flush()
        finally:
            progress.clear()
    progress.end(options.output)
    return 0


def _chunks(options: argparse.Namespace) -> Iterator[bytes]:
    """From the sidecar; or from the folder, where no sidecar serves it and none was named."""
    given = {"format": options.format, "since": options.since, "until": options.until}
    with Client(options.url, options.data) as client:
        try:
            with client.stream("/api/export", {name: value for name, value in given.items() if value}) as chunks:
                yield from chunks
            return
        except NotThere as error:
            if client.named or not (options.data / "journal").is_dir():
                raise
            if is_taken(options.data):
                raise TerminalError(f"{error}; the process that has {options.data} answers elsewhere") from error
    form: Form = options.format
    yield from rows_of(options.data, form, options.since, options.until)


@contextmanager
def _target(output: Path | None) -> Iterator[BinaryIO]:
    """Where to write. A file is there, whole, once the block ends well; else none is, or the one that was."""
    if output is None:
        yield sys.stdout.buffer
        return
    output = output.resolve()
    if output.exists() and not output.is_file():
        raise TerminalError(f"{output} is no file")
    draft = output.with_name(f"{output.name}.part")
    draft.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)


class _Progress:
    """What came so far, told to whoever watches."""

    def __init__(self, form: Form, *, shown: bool) -> None:
        self._rows = _Rows(form)
        self._shown = shown
        self._size = 0
        self._began = self._told_at = time.monotonic()

    def counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._rows.add(chunk)
            self._size += len(chunk)
            if self._shown and time.monotonic() - self._told_at >= _TELL_S:
                self._told_at = time.monotonic()
                print(f"\r{self._told()}\x1b[K", end="", file=sys.stderr, flush=True)
            yield chunk

    def clear(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def end(self, output: Path | None) -> None:
        if self._shown or output is not None:
            print(f"{output}: {self._told()}" if output else self._told(), file=sys.stderr)

    def _told(self) -> str:
        seconds = max(time.monotonic() - self._began, 0.001)
        actions = self._rows.count
        return f"{actions:,} actions, {self._size / _MB:,.1f} MB in {seconds:.0f} s, {actions / seconds:,.0f} a second"


class _Rows:
    """How many rows the chunks hold: those of CSV may have line breaks in their cells."""

    def __init__(self, form: Form) -> None:
        self._csv = form == "csv"
        self._quoted = False
        self.count = -1 if self._csv else 0  # the head is none

    def add(self, chunk: bytes) -> None:
        if not self._csv:
            self.count += chunk.count(b"\n")
            return
        parts = chunk.split(b'"')
        self.count += sum(part.count(b"\n") for part in parts[self._quoted :: 2])
        self._quoted ^= len(parts) % 2 == 0
