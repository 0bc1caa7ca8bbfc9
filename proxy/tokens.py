"""The tokens that open the API and the metrics: one from the environment for good, or those that a file now holds."""

from __future__ import annotations

import hmac
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ADMIN_TOKEN_ENV = "AGENT_LEDGER_ADMIN_TOKEN"  # noqa: S105 (a name, not a token)
METRICS_TOKEN_ENV = "AGENT_LEDGER_METRICS_TOKEN"  # noqa: S105
LOOK_S = 1.0

# The least length keeps words out; one of ours has 43 characters. No `#`: a comment must not become a token.
_TOKEN = re.compile(r"[!\"$-~][!-~]{15,}", re.ASCII)
_WANTED = "a token has 16 or more visible ASCII characters, and no # in front"

log = logging.getLogger("agent_ledger")

_Stamp = tuple[int, int, int, int]


class TokenError(Exception):
    """No token can be had from where the environment says; the message quotes none."""


class Tokens:
    """Those in force. A file holds one a line, and is looked at once a second at most, when somebody asks.

    Only what the file now holds is good: a token taken out, a file emptied, removed or unreadable opens nothing, until
    it is right again. To keep what was there before would keep a leaked token that an operator believes gone; that
    nobody is the admin for a while stops no call.
    """

    def __init__(self, fixed: str = "", file: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._held: tuple[str, ...] = (fixed,) if fixed else ()
        self._stamp: _Stamp | None = None
        self._look_at = clock()

    def held(self) -> tuple[str, ...]:
        if self._file is not None and (now := self._clock()) >= self._look_at:
            self._look_at = now + LOOK_S
            self._look(self._file)
        return self._held

    def accept(self, token: str) -> bool:
        """Whether it is one of them. The time it takes tells nothing of a token that it is not."""
        return any(hmac.compare_digest(token.encode(), held.encode()) for held in self.held())

    def _look(self, file: Path) -> None:
        stamp = _stamp(file)  # before reading: what changes in between is read again
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._held, wrong = _read(file)
        except OSError as error:
            self._held, wrong, self._stamp = (), [str(error)], None
        for problem in wrong:
            log.warning("%s: %s", file, problem)
        if self._held:
            log.info("%s: read, tokens in force: %d", file, len(self._held))
        else:
            log.error("%s holds no token: what it opens is closed until it does", file)


def admin_source(data: Path, env: Mapping[str, str]) -> tuple[str, Path | None]:
    """As `token_source`; where the environment names neither, the file DATA/admin-token, with one made on first start
    (mode 0600)."""
    token, file = token_source(env, ADMIN_TOKEN_ENV)
    if token or file:
        return token, file
    file = data / "admin-token"
    if not file.exists() or not file.read_text("ascii", "replace").strip():
        data.mkdir(parents=True, exist_ok=True)
        _write_private(file, secrets.token_urlsafe(32) + "\n")
    return "", _checked(file)


def admin_token(data: Path, env: Mapping[str, str]) -> tuple[str, str]:
    """The token for a command to send, and where it is from; "" where none is. Makes none. Raises TokenError."""
    token, named = token_source(env, ADMIN_TOKEN_ENV)
    if token:
        return token, ADMIN_TOKEN_ENV
    file = named or data / "admin-token"
    try:
        held, _ = _read(file)
    except FileNotFoundError:
        held = ()
    except OSError as error:
        raise TokenError(f"the token file can't be read: {error}") from error
    return next(iter(held), ""), str(file)


def token_source(env: Mapping[str, str], name: str) -> tuple[str, Path | None]:
    """The environment's token NAME, or the file NAME_FILE; ("", None) where neither is set. Raises TokenError."""
    token, file = env.get(name, "").strip(), env.get(f"{name}_FILE", "").strip()
    if token and file:
        raise TokenError(f"{name} and {name}_FILE are both set: set one")
    if token and not _TOKEN.fullmatch(token):
        raise TokenError(f"{name}: {_WANTED}")
    return token, _checked(Path(file)) if file else None


def _checked(file: Path) -> Path:
    """Raises TokenError where a line is no token, or none is there."""
    try:
        held, wrong = _read(file)
    except OSError as error:
        raise TokenError(f"the token file can't be read: {error}") from error
    if wrong or not held:
        raise TokenError(f"{file}: {'; '.join(wrong) or 'it holds no token'}")
    return file


def _read(file: Path) -> tuple[tuple[str, ...], list[str]]:
    """The tokens, one a line, and what is wrong with the lines that are none. Raises OSError."""
    lines = [(number, line.strip()) for number, line in enumerate(file.read_text("ascii", "replace").split("\n"), 1)]
    held = tuple(line for _, line in lines if _TOKEN.fullmatch(line))
    return held, [f"line {number} is no token: {_WANTED}" for number, line in lines if line and line not in held]


def _stamp(file: Path) -> _Stamp | None:
    """What tells one state of a file from the next, through symbolic links; None where it can't be looked at."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all: a crash must not leave an empty token behind."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
