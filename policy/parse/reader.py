"""Typed getters over positioned nodes. A getter that meets a problem notes it and answers a stand-in of the right type:
a policy with any error is never used, and the next problem is still found."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import TypeVar
from zoneinfo import ZoneInfo, available_timezones

from policy.model import Mode
from policy.money import MoneyError, parse_usd
from policy.problems import Code, Report
from policy.source import NUMBER, ListNode, MapNode, Node, ScalarNode

Choice = TypeVar("Choice", bound=str)

MODES: tuple[Mode, ...] = ("enforce", "shadow")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_TEXT_MAX = 256
_COUNT_MAX = 1_000_000_000
_UTC = ZoneInfo("UTC")
_KINDS = {"text": "text", "number": "a number", "boolean": "true or false", "nothing": "empty"}


class Reader:
    def __init__(self, report: Report) -> None:
        self.report = report

    def note(self, node: Node, code: Code, message: str) -> None:
        self.report.note(node.start, code, message)

    # -- structure -----------------------------------------------------------------------------------------------
    def fields(
        self, node: Node, what: str, known: Collection[str], required: Collection[str] = ()
    ) -> Mapping[str, Node]:
        """The values of a mapping with a fixed vocabulary of keys; empty where it is no mapping."""
        values = {key.value: value for key, value in self.entries(node, what)}
        for key in [key for key in values if key not in known]:
            assert isinstance(node, MapNode)
            hint = self.report.hint(key, known)
            self.note(node.keys[key], "unknown-key", f"unknown key {node.keys[key].quoted} in {what}{hint}")
            del values[key]
        if isinstance(node, MapNode):
            for key in required:
                if key not in node.values:
                    self.note(node, "missing-key", f"{what} needs '{key}'")
        return values

    def entries(self, node: Node, what: str) -> Iterator[tuple[ScalarNode, Node]]:
        """The keys and values of a mapping with keys of the author's own."""
        if not isinstance(node, MapNode):
            self._wrong(node, f"a mapping: {what}")
            return
        node.shown = True
        for key, value in node.values.items():
            node.keys[key].shown = True
            yield node.keys[key], value

    def items(self, node: Node | None, what: str) -> list[Node]:
        if node is None:
            return []
        if not isinstance(node, ListNode):
            self._wrong(node, f"a list of {what}")
            return []
        node.shown = True
        return node.items

    def one_or_many(self, node: Node | None, what: str) -> list[Node]:
        """One, or a list of at least one: an empty list would match nothing, or anything."""
        if not isinstance(node, ListNode):
            return [] if node is None else [node]
        node.shown = True
        if not node.items:
            self.note(node, "wrong-type", f"expected {what}, or a list of at least one")
        return node.items

    # -- scalars -------------------------------------------------------------------------------------------------
    def scalar(self, node: Node | None, expected: str, kinds: Collection[str]) -> ScalarNode | None:
        """The node, if it is a scalar of one of these kinds that no problem is noted of."""
        if not isinstance(node, ScalarNode):
            if node is not None:
                self._wrong(node, expected)
            return None
        node.shown = True
        if node.broken:
            return None
        # What a substitution put there is text wherever text will do: a header's value may happen to be "true".
        if node.kind in kinds or ("text" in kinds and node.value != node.raw):
            return node
        self._wrong(node, expected)
        return None

    def secret(self, node: Node | None, expected: str) -> ScalarNode | None:
        """As `scalar`, but no problem will ever show its value."""
        found = self.scalar(node, expected, ("text", "number"))
        if isinstance(node, ScalarNode):
            node.shown = False
        return found

    def text(self, node: Node | None, default: str = "") -> str:
        """Printable text of at most 256 characters. A plain number is the text it is written as."""
        found = self.scalar(node, "text", ("text", "number"))
        if found is None:
            return default
        if len(found.value) > _TEXT_MAX or not found.value.isprintable():
            self.note(found, "text", f"expected printable text of at most {_TEXT_MAX} characters")
            return default
        return found.value

    def name(self, node: Node | None) -> str:
        found = self.scalar(node, "a name", ("text", "number", "boolean", "nothing"))
        if found is None:
            return ""
        if not _NAME.fullmatch(found.value):
            message = "a name has letters, digits, '_', '.' and '-', begins with a letter or digit, and ends within 64"
            self.note(found, "name", f"{found.quoted} is no name: {message}")
        return found.value

    def unique(self, names: dict[str, ScalarNode], node: Node | None, what: str) -> str:
        """A name that nothing else of its kind has; it is added to ``names``."""
        name = self.name(node)
        if isinstance(node, ScalarNode) and not node.broken:
            if name in names:
                first = self.report.line_col(names[name].start)
                self.note(node, "duplicate-name", f"another {what} is named {node.quoted}, at {first}")
            else:
                names[name] = node
        return name

    def references(self, node: Node | None, names: Mapping[str, ScalarNode], what: str) -> tuple[str, ...]:
        """Names, one or a list, of what the file has elsewhere."""
        found: list[str] = []
        for item in self.one_or_many(node, f"the name of an {what}" if what[0] in "au" else f"the name of a {what}"):
            name = self.scalar(item, "a name", ("text", "number", "boolean", "nothing"))
            if name is None:
                continue
            if name.value not in names:
                hint = self.report.hint(name.raw, (known.raw for known in names.values()), listed=len(names) <= 10)
                self.note(item, "unknown-name", f"there is no {what} named {name.quoted}{hint}")
            found.append(name.value)
        return tuple(found)

    def choice(self, node: Node | None, options: tuple[Choice, ...], default: Choice) -> Choice:
        found = self.scalar(node, f"one of {', '.join(options)}", ("text", "number", "boolean", "nothing"))
        if found is None:
            return default
        for option in options:
            if found.value == option:
                return option
        self.note(found, "unknown-value", f"{found.quoted} is not known here{self.report.hint(found.raw, options)}")
        return default

    def flag(self, node: Node | None, default: bool = False) -> bool:
        found = self.scalar(node, "true or false", ("boolean",))
        return found.value == "true" if found else default

    def usd(self, node: Node | None) -> int:
        """An amount of USD as nano-dollars."""
        found = self.scalar(node, "an amount of USD, such as 25.00", ("text", "number"))
        try:
            return parse_usd(found.value) if found else 0
        except MoneyError as error:
            assert found is not None
            self.note(found, "amount", str(error))
            return 0

    def number(self, node: Node | None, expected: str) -> Decimal:
        """A finite number of zero or more, exactly as written."""
        found = self.scalar(node, expected, ("text", "number"))
        if found is None:
            return Decimal(0)
        # The length and the exponent are bounded before any arithmetic: 1e999999 must cost nothing to refuse.
        value = Decimal(found.value) if NUMBER.fullmatch(found.value) and len(found.value) <= 40 else Decimal(-1)
        if value.is_signed() or abs(value.adjusted()) > 30:
            self.note(found, "number", f"expected {expected}")
            return Decimal(0)
        return value

    def count(self, node: Node | None) -> int:
        found = self.scalar(node, "a whole number of at least 1", ("text", "number"))
        if found is None:
            return 1
        value = int(found.value) if re.fullmatch(r"\d{1,10}", found.value, re.ASCII) else 0
        if not 1 <= value <= _COUNT_MAX:
            self.note(found, "number", f"expected a whole number from 1 to {_COUNT_MAX}")
        return value

    def zone(self, node: Node | None, default: ZoneInfo = _UTC) -> ZoneInfo:
        found = self.scalar(node, "an IANA timezone, such as Europe/Berlin", ("text",))
        if found is None:
            return default
        try:
            return ZoneInfo(found.value)
        except (KeyError, ValueError, OSError):  # unknown; outside the zones' folder; the name of a folder
            hint = self.report.hint(found.raw, sorted(available_timezones()), listed=False)
            self.note(found, "timezone", f"{found.quoted} is no IANA timezone such as Europe/Berlin{hint}")
            return default

    def _wrong(self, node: Node, expected: str) -> None:
        if isinstance(node, ScalarNode):
            if node.broken:
                return
            self.note(node, "wrong-type", f"expected {expected}; this is {_KINDS[node.kind]}")
        else:
            kind = "a list" if isinstance(node, ListNode) else "a mapping"
            self.note(node, "wrong-type", f"expected {expected}; this is {kind}")
