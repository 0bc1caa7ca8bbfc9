"""What is wrong with a policy file, told with its place: `file:line:col: message [code]`, the source line, a caret.

A shown line never holds a secret: the parser says which spans of the text may, and they are starred out.
"""

from __future__ import annotations

import difflib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Code = Literal[
    # the text, before it is YAML
    "too-large",
    "bom",
    "control-character",
    "tab",
    "syntax",
    "empty",
    "documents",
    "tag",
    "anchor",
    "alias",
    "too-deep",
    "key-type",
    "duplicate-key",
    # what it may say
    "substitution",
    "missing-env",
    "unreadable-file",
    "wrong-type",
    "unknown-key",
    "missing-key",
    "unknown-value",
    "version",
    "text",
    "name",
    "reserved-name",
    "duplicate-name",
    "unknown-name",
    "amount",
    "number",
    "timezone",
    "duration",
    "url",
    "header",
    "agent-key",
    "shared-agent-key",
    "webhook-secret",
    "path",
    "field",
    "rate",
    "duplicate-rate",
    "date",
    "date-order",
    "unknown-unit",
    "usage-source",
    "limit-kind",
    "percent",
    # warnings: it will load, but not do what was meant
    "unreachable",
    "percent-above-100",
    "limit-above-budget",
    "no-such-agent",
    "no-meter",
    "no-price",
    "unmeasured",
    "free-input",
    "not-yet",
]
Severity = Literal["error", "warning"]

SHOWN_MAX = 100
_EXCERPT_MAX = 160
_QUOTED_MAX = 60
_SUGGEST_MAX = 50  # past so many problems a did-you-mean is no help, and difflib's time adds up
_WORD_MAX = 64
_MASK = "***"
_AGENT_KEY = re.compile(r"alk_[^\s\"'{}\[\],]+")


@dataclass(frozen=True, slots=True)
class Problem:
    """``line`` and ``col`` count from 1. ``excerpt`` is the source line without secrets, ``caret`` its offset there."""

    line: int
    col: int
    code: Code
    message: str
    severity: Severity = "error"
    excerpt: str = ""
    caret: int = 0

    def line_text(self, name: str) -> str:
        """``policy.yaml:3:5: unknown key 'mathc'; did you mean 'match'? [unknown-key]``, in one line."""
        warning = "warning: " if self.severity == "warning" else ""
        return f"{name}:{self.line}:{self.col}: {warning}{self.message} [{self.code}]"


def render(problems: Sequence[Problem], name: str) -> str:
    """All of them, for a terminal or a log; past 100 only how many more."""
    blocks = [
        f"{problem.line_text(name)}\n{problem.line:>5} | {problem.excerpt}\n".rstrip(" ")
        + f"      | {' ' * problem.caret}^"
        for problem in problems[:SHOWN_MAX]
    ]
    if len(problems) > SHOWN_MAX:
        blocks.append(f"and {len(problems) - SHOWN_MAX} more problems")
    return "\n".join(blocks)


def quote(text: str) -> str:
    """As messages show what the file says: short, printable, an agent key starred out."""
    text = _AGENT_KEY.sub(f"alk_{_MASK}", text[: 2 * _QUOTED_MAX])
    return f"'{_printable(text if len(text) <= _QUOTED_MAX else text[:_QUOTED_MAX] + '…')}'"


class Report:
    """Collects the problems of one text. Places are offsets into it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._problems: list[Problem] = []
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]

    @property
    def failed(self) -> bool:
        return any(problem.severity == "error" for problem in self._problems)

    def note(self, at: int, code: Code, message: str, severity: Severity = "error") -> None:
        line = bisect_right(self._starts, at)
        self._problems.append(Problem(line, at - self._starts[line - 1] + 1, code, message, severity))

    def hint(self, word: str, options: Iterable[str], *, listed: bool = True) -> str:
        """``; did you mean 'x'?``, or where nothing is near (and ``listed``) ``; expected one of …``, or nothing."""
        choices = {option.lower(): option for option in options}
        if len(self._problems) < _SUGGEST_MAX and len(word) <= _WORD_MAX:
            near = difflib.get_close_matches(word.lower(), choices, n=1)
            if near:
                return f"; did you mean '{choices[near[0]]}'?"
        return f"; expected one of {', '.join(choices.values())}" if listed and choices else ""

    def line_col(self, at: int) -> str:
        line = bisect_right(self._starts, at)
        return f"{line}:{at - self._starts[line - 1] + 1}"

    def finish(self, hidden: Iterable[tuple[int, int]]) -> tuple[Problem, ...]:
        """The problems in the order of their places, each with its source line; ``hidden`` spans are not shown."""
        spans = _merged([*hidden, *(found.span() for found in _AGENT_KEY.finditer(self.text))])
        ordered = sorted(self._problems, key=lambda problem: (problem.line, problem.col))
        return tuple(self._excerpted(problem, spans) for problem in dict.fromkeys(ordered))

    def _excerpted(self, problem: Problem, spans: list[tuple[int, int]]) -> Problem:
        start = self._starts[problem.line - 1]
        end = self._starts[problem.line] - 1 if problem.line < len(self._starts) else len(self.text)
        at = min(start + problem.col - 1, end)
        # A line may be a megabyte long: only what is near the caret is looked at.
        first, last = max(start, at - _EXCERPT_MAX // 2), min(end, at + _EXCERPT_MAX // 2)
        if end - start <= _EXCERPT_MAX:
            first, last = start, end
        within = bisect_right(spans, (at, 0)) - 1
        if within >= 0 and spans[within][1] > at:
            at = max(first, spans[within][0])  # the caret stands under the first star
        before = ("…" if first > start else "") + self._masked(first, at, spans)
        after = self._masked(at, last, spans) + ("…" if last < end else "")
        return replace(problem, excerpt=_printable((before + after).rstrip()), caret=len(before))

    def _masked(self, start: int, end: int, spans: list[tuple[int, int]]) -> str:
        shown = ""
        near = slice(max(0, bisect_left(spans, (start, 0)) - 1), bisect_left(spans, (end, 0)))
        for hidden_start, hidden_end in spans[near]:
            if start < min(hidden_end, end):
                shown += self.text[start : max(start, hidden_start)] + _MASK
                start = min(hidden_end, end)
        return shown + self.text[start:end]


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif start < end:
            merged.append((start, end))
    return merged


def _printable(text: str) -> str:
    """Without what would move a terminal's cursor or turn its text around."""
    return "".join(char if char.isprintable() else "·" for char in text)
