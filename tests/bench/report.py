"""What the bench prints: aligned text, or Markdown to paste; progress goes to stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence


class Report:
    def __init__(self, markdown: bool = False) -> None:
        self._markdown = markdown
        self._after_table = False  # a line right behind it would be one of its rows

    def heading(self, text: str) -> None:
        self._after_table = False
        print(f"\n### {text}\n" if self._markdown else f"\n{text}\n{'-' * len(text)}", flush=True)

    def facts(self, facts: Sequence[tuple[str, str]]) -> None:
        for name, value in facts:
            print(f"- {name}: {value}" if self._markdown else f"{name}: {value}")
        sys.stdout.flush()

    def line(self, text: str) -> None:
        print(f"\n{text}" if self._after_table else text, flush=True)
        self._after_table = False

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """The first column is text, the others are figures."""
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        left, between, right = ("| ", " | ", " |") if self._markdown else ("", "  ", "")

        def cells(row: Sequence[str]) -> str:
            first, *rest = (
                cell.rjust(width) if number else cell.ljust(width)
                for number, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            return left + between.join([first, *rest]) + right

        print(cells(head))
        if self._markdown:
            print(f"|{'-' * (widths[0] + 2)}|" + "".join(f"{'-' * (width + 1)}:|" for width in widths[1:]))
        for row in rows:
            print(cells(row))
        self._after_table = self._markdown
        sys.stdout.flush()


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def ratio(value: float | None) -> str:
    if value is None:
        return ""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else 4
    return f"{value:.{digits}f}"


def figure(value: float, digits: int = 1) -> str:
    return f"{value:,.{digits}f}"
