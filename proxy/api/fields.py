"""Reading what a client sent. Problems are collected, and `done` tells all of them at once: 422, naming each field.

A reader notes what is missing or wrong and answers a stand-in; nothing read may be used before `done`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from starlette.datastructures import QueryParams

from policy.money import MoneyError, parse_usd
from policy.names import NAME_MAX, line_problem, text_problem
from proxy.denials import Refused
from proxy.jsontext import JsonError, dumps, loads

PROBLEMS_MAX = 100  # a body of a million unknown members is not answered with as many problems

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_Option = TypeVar("_Option", bound=str)


class Problems:
    def __init__(self, names: Iterable[str]) -> None:
        self._unread = dict.fromkeys(names)
        self._problems: list[dict[str, str]] = []

    def note(self, name: str, message: str) -> None:
        self._problems.append({"field": name, "message": message})

    def done(self) -> None:
        """Raises Refused (422) with the problems, those of members that nobody read included."""
        for name in self._unread:
            self.note(_shown(name), "unknown")
        if self._problems:
            told = "; ".join(f"{problem['field']}: {problem['message']}" for problem in self._problems[:10])
            raise Refused(422, "invalid", told, fields=self._problems[:PROBLEMS_MAX])


class Fields(Problems):
    """The members of a JSON object."""

    def __init__(self, body: bytes) -> None:
        """Raises Refused: 400 for what is not JSON, 422 for what is not an object."""
        try:
            members = loads(body)
        except JsonError as error:
            raise Refused(400, "invalid_json", f"The body is not JSON: {error}.") from error
        if not isinstance(members, dict):
            raise Refused(422, "invalid", "The body must be a JSON object.")
        self._members: Mapping[str, Any] = members
        super().__init__(members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def text(self, name: str, most: int = NAME_MAX) -> str:
        """1 to ``most`` characters, with no NUL and no lone surrogate."""
        value = self._take(name)
        if value is _MISSING:
            return ""
        if not isinstance(value, str):
            self.note(name, "must be a string")
        elif problem := text_problem(value, most):
            self.note(name, problem)
        else:
            return value
        return ""

    def line(self, name: str) -> str:
        """Text that may stand in an id or a target: no control characters at all."""
        value = self.text(name)
        if value and (problem := line_problem(value)):
            self.note(name, problem)
        return value

    def choice(self, name: str, options: tuple[_Option, ...]) -> _Option:
        value = self._take(name)
        for option in options:
            if value == option:
                return option
        if value is not _MISSING:
            self.note(name, f"must be one of {', '.join(options)}")
        return options[0]

    def flag(self, name: str) -> bool:
        value = self._take(name)
        if value is not _MISSING and not isinstance(value, bool):
            self.note(name, "must be true or false")
        return value is True

    def whole(self, name: str, most: int) -> int:
        """0 to ``most``."""
        value = self._take(name)
        if type(value) is int and 0 <= value <= most:
            return value
        if value is not _MISSING:
            self.note(name, f"must be a whole number from 0 to {most}")
        return 0

    def money(self, name: str) -> int:
        """USD as nano-dollars."""
        value = self._number(name)
        return 0 if value is None else self._usd(name, value)

    def signed_money(self, name: str) -> int:
        """USD as nano-dollars, below 0 too; never 0."""
        value = self._number(name)
        if value is None:
            return 0
        if not value:
            self.note(name, "must not be 0")
            return 0
        nano = self._usd(name, abs(value) if isinstance(value, int) else value.copy_abs())  # exact, where `-` rounds
        return -nano if value < 0 else nano

    def _number(self, name: str) -> int | Decimal | None:
        value = self._take(name)
        if value is _MISSING:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
            self.note(name, "must be a number of USD")
            return None
        return value

    def _usd(self, name: str, value: int | Decimal) -> int:
        try:
            return parse_usd(value)
        except MoneyError as error:
            self.note(name, str(error))
            return 0

    def time(self, name: str) -> int | None:
        """As ISO 8601 has it; unix ms."""
        value = self.text(name)
        return _moment(self, name, value) if value else None

    def money_or_null(self, name: str) -> int | None:
        if self._members.get(name, _MISSING) is None:
            self._take(name)
            return None
        return self.money(name)

    def json_text(self, name: str, most: int) -> str | None:
        """A string as it is, an object as its JSON, of at most so many bytes; None where it is null or left out."""
        if self._members.get(name) is None:
            self._unread.pop(name, None)
            return None
        value = self._take(name)
        if not isinstance(value, (str, dict)):
            self.note(name, "must be a string or an object")
            return None
        try:
            text = value if isinstance(value, str) else dumps(value)
        except RecursionError:
            self.note(name, "is nested too deep")
            return None
        problem = text_problem(text, most) if text else None
        if problem is None and len(text.encode()) > most:
            problem = f"must have at most {most} bytes"
        if problem:
            self.note(name, problem)
            return None
        return text

    def _take(self, name: str) -> Any:
        if name not in self._members:
            self.note(name, "missing")
            return _MISSING
        del self._unread[name]
        return self._members[name]


class Query(Problems):
    """The parameters of a query; each may be left out, and none may stand twice."""

    def __init__(self, params: QueryParams) -> None:
        super().__init__(params)
        self._params = params

    def text(self, name: str, most: int = NAME_MAX) -> str | None:
        values = self._params.getlist(name)
        if not values:
            return None
        del self._unread[name]
        problem = "stands twice" if len(values) > 1 else text_problem(values[0], most)
        if problem:
            self.note(name, problem)
            return None
        return values[0]

    def choice(self, name: str, options: tuple[_Option, ...]) -> _Option | None:
        value = self.text(name)
        for option in options:
            if value == option:
                return option
        if value is not None:
            self.note(name, f"must be one of {', '.join(options)}")
        return None

    def choices(self, name: str, options: Collection[str]) -> list[str]:
        """Several of the options, between commas."""
        value = self.text(name)
        chosen = value.split(",") if value else []
        if not set(chosen) <= set(options) or len(set(chosen)) != len(chosen):
            self.note(name, f"must be some of {', '.join(options)}, each once, between commas")
            return []
        return chosen

    def count(self, name: str, default: int, most: int) -> int:
        value = self.text(name)
        if value is None:
            return default
        if value.isascii() and value.isdigit() and len(value) < 10 and 1 <= int(value) <= most:
            return int(value)
        self.note(name, f"must be a whole number from 1 to {most}")
        return default

    def time(self, name: str) -> int | None:
        """ISO 8601, a moment or a date (its first moment), of UTC unless it says its offset; as unix ms."""
        value = self.text(name)
        return None if value is None else _moment(self, name, value)


_MISSING: Any = object()


def _moment(problems: Problems, name: str, value: str) -> int | None:
    """Unix ms of a moment, or of a date's first one; of UTC unless it says its offset."""
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        problems.note(name, "must be a date or a moment in ISO 8601, as 2026-11-22 or 2026-11-22T19:30:00Z")
        return None
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // timedelta(milliseconds=1)


def _shown(name: str) -> str:
    """An unknown member's name, which may be anything, as it can be told."""
    return name[:NAME_MAX].encode("ascii", "backslashreplace").decode()
