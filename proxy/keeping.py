"""The commands that keep a ledger, beside its sidecar or without one: verify, archive, backup, restore."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path
from typing import Any

from proxy.ledger.archive import Month, archive
from proxy.ledger.backup import backup, restore
from proxy.ledger.index import path_of
from proxy.ledger.verify import verify


def add_commands(commands: Any) -> None:
    """To the subparsers of the command `agent-ledger`."""
    command = commands.add_parser("verify", help="prove that the balances equal the replay of the journal")
    command.set_defaults(run=_verify)
    _data(command)
    command.add_argument("--anchor", metavar="HASH", help="a head kept elsewhere, which the chain must contain")
    command.add_argument("--also", type=Path, metavar="FOLDER", help="where months are that archive moved away")

    command = commands.add_parser("archive", help="compress the closed months; move them away, or remove them")
    command.set_defaults(run=_archive)
    _data(command)
    command.add_argument("--before", type=_month, metavar="YYYY-MM", help="leave this month and all after it")
    away = command.add_mutually_exclusive_group()
    away.add_argument("--to", type=Path, metavar="FOLDER", help="move them to this folder, compressed")
    away.add_argument("--remove", action="store_true", help="remove them: their rows stay in the read index alone")

    command = commands.add_parser("backup", help="write a copy of the ledger, proved whole, to one file")
    command.set_defaults(run=_backup)
    command.add_argument("to", type=Path, metavar="FILE", help="such as ledger.tar.gz")
    _data(command)

    command = commands.add_parser("restore", help="make a ledger of a backup, in a folder that holds none")
    command.set_defaults(run=_restore)
    command.add_argument("copy", type=Path, metavar="FILE")
    _data(command)


def _data(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, default=Path("data"), help="the ledger's folder (default: data)")


def _month(text: str) -> str:
    if not re.fullmatch(r"\d{4}-\d\d", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is no month such as 2026-11")
    return text


def _verify(options: argparse.Namespace) -> int:
    report = verify(options.data, options.anchor, options.also)
    for problem in report.problems:
        print(problem, file=sys.stderr)
    since = f" from line {report.first} on" if report.first > 1 else ""
    print(f"{options.data}: {'ok' if report.ok else 'NOT ok'}, {report.lines} lines{since}, head {report.head}")
    return 0 if report.ok else 1


def _archive(options: argparse.Namespace) -> int:
    months, gone = 0, False
    for month in archive(
        options.data, time.time_ns() // 1_000_000, before=options.before, to=options.to, remove=options.remove
    ):
        print(_told(month, options.to is not None))
        months, gone = months + 1, gone or month.path is None or month.path.parent == options.to
    if not months:
        print(f"{options.data}: nothing to archive")
    if gone:
        print(f"in {options.data}, the rows of what is gone from it are now in {path_of(options.data).name} alone")
    return 0


def _told(month: Month, moving: bool) -> str:
    """What became of it, and what the chain goes on from."""
    lines = f"{month.month}: lines {month.first} to {month.last}, {month.size} bytes, head {month.head}"
    if month.path is None:
        return f"{lines}: removed"
    done = "moved to" if moving and not month.kept else "compressed to"
    return f"{lines}: {done} {month.path}{f' and kept there: {month.kept}' if month.kept else ''}"


def _backup(options: argparse.Namespace) -> int:
    report = backup(options.data, options.to)
    size = options.to.stat().st_size
    print(f"{options.to}: ok, {report.lines} lines, head {report.head}, {size} bytes")
    return 0


def _restore(options: argparse.Namespace) -> int:
    report = restore(options.copy, options.data)
    print(f"{options.data}: restored, {report.lines} lines, head {report.head}")
    return 0
