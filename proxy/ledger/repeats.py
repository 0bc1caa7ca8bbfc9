"""Identical denials within a minute are one action with a count, not a line each."""

from __future__ import annotations

from policy.decide import Verdict

_WITHIN_MS = 60_000
_KINDS_MAX = 4096

# Agent, target, reason and budget.
Denied = tuple[str, str, str, str | None]


def kind_of(agent_id: str, target: str, verdict: Verdict) -> Denied:
    return agent_id, target, verdict.reason, verdict.budget


class Repeats:
    def __init__(self) -> None:
        self._first: dict[Denied, tuple[str, int]] = {}
        self._counts: dict[str, int] = {}

    def first(self, denied: Denied, at: int) -> str | None:
        """The action that already tells of it, if within the minute."""
        found = self._first.get(denied)
        return found[0] if found is not None and at - found[1] < _WITHIN_MS else None

    def begin(self, denied: Denied, action_id: str, at: int) -> None:
        """That action tells of it from now on."""
        self._first.pop(denied, None)
        self._first[denied] = (action_id, at)
        if len(self._first) > _KINDS_MAX:
            del self._first[next(iter(self._first))]

    def add(self, action_id: str) -> None:
        self._counts[action_id] = self._counts.get(action_id, 0) + 1

    def take(self) -> dict[str, int]:
        """How often each was repeated since this was last asked."""
        counts, self._counts = self._counts, {}
        return counts
