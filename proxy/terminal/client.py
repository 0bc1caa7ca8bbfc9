"""A running sidecar's API, for a command: exact numbers, and errors that say what to do."""

from __future__ import annotations

import argparse
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from msgspec import DecodeError, Raw
from msgspec.json import decode

from proxy.jsontext import JsonError, loads
from proxy.tokens import ADMIN_TOKEN_ENV, admin_token
from proxy.visible import visible

URL_ENV = "AGENT_LEDGER_URL"
URL = "http://127.0.0.1:8080"

# What `Missing` answers for a path that a sidecar does not have.
NOTHING_HERE = "There is nothing at this path."

_TIMEOUT = httpx.Timeout(60, connect=5)
_STREAM_TIMEOUT = httpx.Timeout(600, connect=5)  # before the first row an index may have to be made
_PASSING = frozenset({502, 503, 504})

T = TypeVar("T")
Row = dict[str, Any]  # an object of the API, as `jsontext.loads` has it


class TerminalError(Exception):
    """What a command ends with; the message is for its user, and holds nothing that can't be seen."""


class NotAnswering(TerminalError):
    """Nobody is there, or it can't answer now: it may in a moment."""


class NotThere(NotAnswering):
    """Nothing listens at the URL."""


class Refusal(TerminalError):
    """The API's refusal. ``field`` is the first parameter or member that it names."""

    def __init__(self, message: str, status: int, field: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.field = field


class Unsupported(TerminalError):
    """The sidecar is of a version that has no such thing."""


def add_options(command: argparse.ArgumentParser, *, suppress: bool = False) -> None:
    """How to reach the sidecar. ``suppress``: for a command under one that has them, whose values stay unless given."""
    default = argparse.SUPPRESS if suppress else None
    command.add_argument("--url", default=default, help=f"the sidecar's (default: ${URL_ENV}, else {URL})")
    command.add_argument(
        "--data",
        type=Path,
        default=default or Path("data"),
        help=f"the folder with its admin-token, where ${ADMIN_TOKEN_ENV} is not set (default: data)",
    )


class Client:
    """``url`` None: the environment's, else the default one. Raises TerminalError, TokenError; so does each call."""

    def __init__(self, url: str | None, data: Path) -> None:
        self.named = url or os.environ.get(URL_ENV) or None
        self.url = (self.named or URL).rstrip("/")
        self._data = data
        self._token, self._source = admin_token(data, os.environ)
        try:
            parts = httpx.URL(self.url)
        except httpx.InvalidURL:
            parts = httpx.URL()
        if parts.scheme not in ("http", "https") or not parts.host:
            raise TerminalError(f"{visible(self.url)} is no URL such as {URL}")
        # No proxy of the environment's: the token is for the sidecar alone.
        trusted = ssl.create_default_context()
        self._http = httpx.Client(base_url=parts, timeout=_TIMEOUT, trust_env=False, verify=trusted)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def rows(self, path: str, params: Mapping[str, Any] | None = None, *, method: str = "GET") -> list[Raw]:
        """The objects of an array, as they were sent."""
        return self.read(self.call(method, path, params=params), list[Raw])

    def call(self, method: str, path: str, *, params: Mapping[str, Any] | None = None, body: Any = None) -> bytes:
        """The answer's body. A 404 of a fixed path is Unsupported; of one with an id it is a Refusal."""
        answer = self._send(method, path, params, body)
        if answer.status_code == 401 and self._token_renewed():
            answer = self._send(method, path, params, body)
        if not answer.is_success:
            raise self._refused(answer)
        return answer.content

    @contextmanager
    def stream(self, path: str, params: Mapping[str, Any]) -> Iterator[Iterator[bytes]]:
        """The answer's body as it comes. An answer that breaks off raises TerminalError."""
        try:
            with self._http.stream(
                "GET", path, params=params, headers=self._headers(), timeout=_STREAM_TIMEOUT
            ) as answer:
                if not answer.is_success:
                    answer.read()
                    raise self._refused(answer)
                yield answer.iter_raw()
        except httpx.ConnectError as error:
            raise self._not_there() from error
        except httpx.RemoteProtocolError as error:
            raise TerminalError("the sidecar's answer broke off: what came is not all of it") from error
        except httpx.HTTPError as error:
            why = visible(str(error)) or "it came no further"
            raise TerminalError(f"the sidecar's answer broke off: {why}") from error

    def read(self, body: bytes, shape: type[T]) -> T:
        try:
            return decode(body, type=shape)
        except DecodeError as error:
            raise self._foreign("its answer is not what was asked for") from error

    def _send(self, method: str, path: str, params: Mapping[str, Any] | None, body: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, params=params, json=body, headers=self._headers())
        except httpx.ConnectError as error:
            raise self._not_there() from error
        except httpx.HTTPError as error:
            why = "it took too long" if isinstance(error, httpx.TimeoutException) else visible(str(error))
            raise NotAnswering(f"the sidecar at {self.url} did not answer: {why}") from error

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token}"} if self._token else {}

    def _token_renewed(self) -> bool:
        """Whether another token is in its file than was sent."""
        sent = self._token
        self._token, self._source = admin_token(self._data, os.environ)
        return self._token != sent

    def unsupported(self) -> Unsupported:
        return Unsupported(f"the sidecar at {self.url} can't do this: it is of another version")

    # -- what is wrong -------------------------------------------------------------------------------------------------
    def _not_there(self) -> NotThere:
        return NotThere(f"no sidecar answers at {self.url}; --url or {URL_ENV} names another")

    def _foreign(self, why: str) -> TerminalError:
        return TerminalError(f"what answers at {self.url} is no Agent Ledger: {why}")

    def _refused(self, answer: httpx.Response) -> TerminalError:
        status = answer.status_code
        try:
            error = loads(answer.content)["error"]
            code, message = str(error["code"]), visible(str(error["message"]))
            field = next((str(each["field"]) for each in error.get("fields", ())), "")
        except (JsonError, LookupError, TypeError):
            return self._foreign(f"it answered {status}")
        if status == 401:
            return TerminalError(self._unauthenticated())
        if code == "foreign_host":
            host = visible(answer.request.url.host)
            return TerminalError(f"the sidecar does not answer for the host {host}: serve --allow-host {host}")
        if status == 405 or (status == 404 and message == NOTHING_HERE):
            return self.unsupported()
        if status in _PASSING:
            return NotAnswering(f"the sidecar at {self.url} can't answer now: {message}")
        return Refusal(message, status, field)

    def _unauthenticated(self) -> str:
        if not self._token:
            return f"the sidecar wants an admin token: set {ADMIN_TOKEN_ENV}, or --data (there is no {self._source})"
        return f"the sidecar at {self.url} refuses the admin token of {self._source}"


def row_of(raw: Raw | bytes) -> Row:
    found: Row = loads(bytes(raw))
    return found


def segment(text: str) -> str:
    """One segment of a path: no slash in it divides."""
    return quote(text, safe="")
