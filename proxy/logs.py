"""The log: each line of stderr one JSON object, or text for people at a terminal.

Of an error it says where it came from and of what type it was, never its message: that may quote a header or a body.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import traceback
from asyncio import AbstractEventLoop
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from proxy.settings import Style

log = logging.getLogger("agent_ledger")

# A terminal obeys some, others turn the text around.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_writing = threading.Lock()


def write_stderr(lines: bytes) -> None:
    """Whole lines, from any thread: nobody else's come in between, however slowly they are taken."""
    with _writing:
        sys.stderr.flush()
        sys.stderr.buffer.write(lines)
        sys.stderr.buffer.flush()


@contextmanager
def to_stderr(style: Style) -> Iterator[None]:
    """In the block, all that is logged goes there, warnings and what ended a thread included."""
    root, handler = logging.getLogger(), _Stderr()
    handler.setFormatter(_Json() if style == "json" else _Text())
    level, of_threads, unraisable = root.level, threading.excepthook, sys.unraisablehook
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.captureWarnings(True)
    threading.excepthook = _thread_ended
    sys.unraisablehook = _unraisable
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = of_threads, unraisable
        logging.captureWarnings(False)
        root.setLevel(level)
        root.removeHandler(handler)


def loop_error(loop: AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `loop.set_exception_handler`: asyncio's own shows objects, and so what they hold."""
    log.error("%s", context["message"], exc_info=context.get("exception"))


def frames(error: BaseException) -> str:
    """Where it was raised, and its type; what it came of, before."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.insert(0, cause)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\n".join("".join(traceback.format_tb(each.__traceback__)) + type(each).__qualname__ for each in chain)


class _Stderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            write_stderr(f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))
        except Exception:
            self.handleError(record)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = f"{self.formatTime(record)} {record.levelname} {record.getMessage()}"
        if record.exc_info and record.exc_info[1] is not None:
            text += f"\n{frames(record.exc_info[1])}"
        return _CONTROLS.sub(_code, text)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = frames(record.exc_info[1])
        return json.dumps(line, separators=(",", ":"))


def _code(match: re.Match[str]) -> str:
    char = match.group()
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"


def _thread_ended(told: threading.ExceptHookArgs) -> None:
    if told.exc_type is not SystemExit:
        name = told.thread.name if told.thread is not None else "unknown"
        log.critical("the thread %s ended by an error", name, exc_info=told.exc_value)


def _unraisable(told: Any) -> None:
    log.error("%s", told.err_msg or "an error was ignored", exc_info=told.exc_value)
