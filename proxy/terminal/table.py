"""Tables for a terminal: they fit its width, numbers stand under each other, and nothing in them can command it."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from proxy.visible import visible

_GAP = "  "
_BOLD, _RED, _YELLOW, _GREEN = "1", "31", "33", "32"
# The words that are painted, wherever they fill a cell.
_PAINT: Mapping[str, str] = {
    "active": _GREEN, "paused": _YELLOW, "denied": _YELLOW, "failure": _RED, "open": _YELLOW, "yes": _GREEN, "no": _RED,
}  # fmt: skip

Kind = Literal["text", "number", "money"]


@dataclass(frozen=True, slots=True)
class Column:
    """``least``: its text may be cut to so many columns (0: never). ``spare``: where a terminal is too narrow still,
    columns are left out from the least of these on (0: never).
    """

    title: str
    kind: Kind = "text"
    least: int = 0
    spare: int = 0


@dataclass(slots=True)
class Table:
    """``fit`` it to some rows, then draw ``line``s. ``width`` None: as wide as it comes."""

    columns: Sequence[Column]
    width: int | None = field(default_factory=lambda: terminal_width())
    color: bool = field(default_factory=lambda: colored())
    _widths: list[int] = field(default_factory=list)
    _fractions: list[int] = field(default_factory=list)
    _kept: list[int] = field(default_factory=list)

    def fit(self, rows: Sequence[Sequence[str]]) -> None:
        shown = [[visible(cell) for cell in row] for row in rows]
        self._fractions = [
            max((len(_split(row[at])[1]) for row in shown), default=0) if column.kind == "money" else 0
            for at, column in enumerate(self.columns)
        ]
        natural = [
            max(len(column.title), *(_wide(self._aligned(at, row[at])) for row in shown), 0)
            for at, column in enumerate(self.columns)
        ]
        self._kept = list(range(len(self.columns)))
        while not self._fits(natural):
            left_out = min((at for at in self._kept if self.columns[at].spare), key=self._spare, default=None)
            if left_out is None:
                return
            self._kept.remove(left_out)

    def _spare(self, at: int) -> int:
        return self.columns[at].spare

    def _fits(self, natural: Sequence[int]) -> bool:
        """Whether those kept do, cut as far as they may be; the widest are cut first."""
        self._widths = list(natural)
        room = 10**9 if self.width is None else self.width - len(_GAP) * (len(self._kept) - 1)
        while (over := sum(self._widths[at] for at in self._kept) - room) > 0:
            cuttable = [at for at in self._kept if 0 < self.columns[at].least < self._widths[at]]
            if not cuttable:
                return False
            widest = max(cuttable, key=self._widths.__getitem__)
            self._widths[widest] = max(self.columns[widest].least, self._widths[widest] - over)
        return True

    def head(self) -> str:
        cells = [self._padded(at, self.columns[at].title) for at in self._kept]
        return self._paint(_GAP.join(cells).rstrip(), _BOLD)

    def line(self, row: Sequence[str], *, bold: bool = False) -> str:
        cells = [self._cell(at, visible(row[at])) for at in self._kept]
        return self._paint(_GAP.join(cells).rstrip(), _BOLD if bold else "")

    def lines(self, rows: Sequence[Sequence[str]]) -> Iterator[str]:
        """Head and rows, fitted to them."""
        self.fit(rows)
        yield self.head()
        for row in rows:
            yield self.line(row)

    def _cell(self, at: int, text: str) -> str:
        width, shown = self._widths[at], self._aligned(at, text)
        if self.columns[at].least:
            shown = _cut(shown, width)
        padded = self._padded(at, shown)
        return padded.replace(text, self._paint(text, _PAINT[text]), 1) if text in _PAINT else padded

    def _padded(self, at: int, text: str) -> str:
        pad = " " * (self._widths[at] - _wide(text))
        return text + pad if self.columns[at].kind == "text" else pad + text

    def _aligned(self, at: int, text: str) -> str:
        """An amount with as many columns behind its point as the others have."""
        if self.columns[at].kind != "money":
            return text
        return text + " " * (self._fractions[at] - len(_split(text)[1]))

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and code else text


def terminal_width() -> int | None:
    """What is read by a program is not cut, unless COLUMNS says so."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or os.environ.get("COLUMNS") else None


def colored() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _split(text: str) -> tuple[str, str]:
    """Before the point, and from it on."""
    whole, point, fraction = text.partition(".")
    return whole, point + fraction


def _cut(text: str, width: int) -> str:
    if _wide(text) <= width:
        return text
    kept = ""
    for char in text:
        if _wide(kept + char) > width - 1:
            break
        kept += char
    return f"{kept}…"


def _wide(text: str) -> int:
    """How many columns a terminal gives it."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
