"""What a journal's lines come to, by a reader of its own: plain JSON and integers, nothing of the engine's.

It follows the files as they grow, life by life: what it has read must stay as it was, and be the prefix of what comes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

HOUR_MS = 3_600_000

# The budgets of the campaign's policies: whose calls each counts, and the period it runs for.
BUDGETS = {"monthly_budget": ("agent", "month"), "hourly": ("agent", "hour"), "all": ("", "day"), "ever": ("poor", "")}


class Wrong(AssertionError):
    """The ledger broke its word."""


def check(holds: bool, *what: object) -> None:
    if not holds:
        raise Wrong(" ".join(map(str, what)))


def months(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.jsonl"))


class Audit:
    """Balances, rows, agents and alerts, as the lines make them, each checked as it is read. Nano-dollars."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path: Path | None = None
        self.offset = self.seq = self.at = 0
        self.head = "0" * 64
        self.agents: dict[str, dict] = {}
        self.paused: set[str] = set()
        self.amounts: dict[str, int] = {}
        self.spent: Counter[tuple] = Counter()
        self.reserved: Counter[tuple] = Counter()
        self.open: dict[str, dict] = {}
        self.rows: dict[str, dict] = {}
        self.authorized: dict[str, str] = {}
        self.keys: dict[str, tuple[int, str]] = {}
        self.alerts: dict[str, int | None] = {}
        self.kinds: Counter[str] = Counter()

    def read(self, limit: tuple[Path, int] | None = None) -> None:
        """Take in the whole lines that were added, before that byte of that file. Raises Wrong."""
        for path in months(self.folder):
            if self.path is not None and path < self.path:
                continue
            if limit is not None and path > limit[0]:
                return
            at, size = self.offset if path == self.path else 0, path.stat().st_size
            check(size >= at, path.name, "lost what it held at byte", at)
            end = limit[1] if limit is not None and path == limit[0] else size
            with path.open("rb") as file:
                file.seek(at)
                for line in file:
                    if not line.endswith(b"\n") or at + len(line) > end:
                        break
                    self.path, self.offset = path, at  # a month without a whole line may yet be gone again
                    self._take(line, first=at == 0)
                    self.offset = at = at + len(line)

    def _take(self, line: bytes, *, first: bool) -> None:
        entry = json.loads(line)
        place = f"{self.path and self.path.name}, byte {self.offset}:"
        check(entry["prev"] == self.head, place, "does not follow from the line before")
        check(entry["seq"] == self.seq + 1, place, "sequence", entry["seq"], "after", self.seq)
        check(entry["at"] >= self.at, place, "time goes back")
        check(first == (entry["type"] == "carry"), place, entry["type"])
        month = datetime.fromtimestamp(entry["at"] // 1000, UTC).strftime("%Y-%m")
        check(self.path is not None and self.path.stem == month, place, "of another month")
        self.head, self.seq, self.at = hashlib.sha256(line).hexdigest(), entry["seq"], entry["at"]
        self.kinds[entry["type"]] += 1
        try:
            getattr(self, f"_{entry['type']}", self._same)(entry)
        except Wrong as wrong:
            raise Wrong(f"{place} {wrong}") from wrong
        for alert in entry.get("alerts", ()):
            check(alert["id"] not in self.alerts, "alert", alert["id"], "twice")
            self.alerts[alert["id"]] = None
        for agent in entry.get("agents", ()):
            self.agents[agent["id"]] = agent
            (self.paused.add if agent.get("status") == "paused" else self.paused.discard)(agent["id"])
        if "pause" in entry:
            self.paused.add(entry["pause"][0])
        if "idempotency" in entry:
            self._key(entry)

    def _same(self, entry: dict) -> None:
        """Nothing that is counted here."""

    def _policy(self, entry: dict) -> None:
        self.amounts = {name: amount for name, (_, amount) in entry["budgets"].items()}

    def _acknowledge(self, entry: dict) -> None:
        check(self.alerts[entry["id"]] is None, "acknowledged twice")
        self.alerts[entry["id"]] = entry["at"]

    def _authorize(self, entry: dict) -> None:
        draft = entry["action"]
        check(draft["id"] not in self.open and draft["id"] not in self.rows, draft["id"], "authorized twice")
        self._admitted(entry, draft["reserved"])
        for balance in balances(draft):
            self.reserved[balance] += draft["reserved"]
        self.open[draft["id"]] = draft
        check(draft["target"] not in self.authorized, draft["target"], "authorized twice")
        self.authorized[draft["target"]] = draft["id"]

    def _record(self, entry: dict) -> None:
        action = entry["action"]
        self._admitted(entry, action.get("cost", 0))
        self._row(action)

    def _admitted(self, entry: dict, amount: int) -> None:
        """Promise 1, by sums of the rows and of the open reservations alone."""
        action = entry["action"]
        agent_id = action["agent_id"]
        check(agent_id not in self.paused, "admitted agent", agent_id, "while it was paused")
        counted = [key for key in balances(action) if key[0] in self.amounts]
        held = sorted((name, group) for name, group, *_ in entry["holds"])
        check(held == sorted(key[:2] for key in counted), "held against", held, "but counted in", counted)
        for key in counted:
            limit = self.agents[agent_id]["monthly_budget"] if key[0] == "monthly_budget" else self.amounts[key[0]]
            taken = self.spent[key] + self.reserved[key] + amount
            check(taken <= limit or not amount, "admitted", taken, "nano-dollars in", key, "of", limit)

    def _end(self, entry: dict) -> None:
        action = entry["action"]
        draft = self.open.pop(action["id"], None)
        check(draft is not None, action["id"], "ended, but was not open")
        assert draft is not None
        check((draft["target"], draft["created_at"]) == (action["target"], action["created_at"]), "another call's end")
        for balance in balances(draft):
            self.reserved[balance] -= draft["reserved"]
        if entry["type"] == "expire":
            check(action["cost"] == draft["reserved"] and action["unconfirmed"], "expired at another amount")
        self._row(action)

    _settle = _void = _expire = _end

    def _denied(self, entry: dict) -> None:
        check(not entry["action"].get("cost"), "a denial that costs")
        self._row(entry["action"])

    def _row(self, action: dict) -> None:
        check(action["id"] not in self.rows, action["id"], "has two rows")
        self.rows[action["id"]] = action
        for balance in balances(action):
            self.spent[balance] += action.get("cost", 0)

    def _key(self, entry: dict) -> None:
        key = entry["idempotency"][0]
        first = self.keys.get(key)
        check(first is None or entry["at"] - first[0] >= 24 * HOUR_MS, "Idempotency-Key", key, "acted on twice")
        self.keys[key] = entry["at"], entry["action"]["id"] if "action" in entry else ""

    def month_spent(self, agent_id: str) -> int:
        """By the agent in the month of the last line."""
        return self.spent["monthly_budget", agent_id, period("month", self.at)]


def balances(action: dict) -> list[tuple]:
    """(budget, group, period) that count an action of that agent and time."""
    agent_id, at = action["agent_id"], action["created_at"]
    return [
        (name, agent_id if whose == "agent" else "", period(kind, at))
        for name, (whose, kind) in BUDGETS.items()
        if whose in ("agent", "", agent_id)
    ]


def period(kind: str, at: int) -> object:
    if kind == "month":
        return datetime.fromtimestamp(at // 1000, UTC).strftime("%Y-%m")
    return at // {"hour": HOUR_MS, "day": 24 * HOUR_MS}[kind] if kind else 0
