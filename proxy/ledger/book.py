"""The book: the ledger's state in memory, as the entries of the journal make it. The same code serves live and replay.

Nothing here reads a clock, a file or a policy: the same entries give the same book. What has ended is dropped as the
entries' own time passes, so that the book holds what runs and what is open, never history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from typing import Any, NamedTuple

from msgspec import Struct

from policy.model import MONTHLY_BUDGET
from proxy.ledger.entries import (
    Entry,
    Hold,
    LimitHold,
    Notice,
    Pause,
    Terms,
    action_row,
    agent_row,
    row_action,
    row_agent,
)
from proxy.ledger.outbox import Outbox, delivery_row
from proxy.ledger.port import Action, Agent, Alert, Delivery, Key

ALERTS_KEPT = 1000

# Name, group and start of the period (unix ms) of a budget or of a limit of requests.
Cell = tuple[str, str, int]


@dataclass(slots=True)
class Balance:
    """One budget and group in one period, in nano-dollars; ``holds`` reservations are open against it."""

    end_ms: int
    spent: int = 0
    reserved: int = 0
    holds: int = 0


class Open(Struct, gc=False):
    """A reservation: the draft of its action, and what it is counted against."""

    action: Action
    holds: tuple[Hold, ...]
    limits: tuple[LimitHold, ...]


class Frozen(NamedTuple):
    """The book at one moment, for a worker thread to write: flat copies, no walk through what they hold."""

    agents: list[Agent]
    alerts: list[Alert]
    balances: list[tuple[str, str, int, int, int]]
    open: list[tuple[Action, tuple[Hold, ...], tuple[LimitHold, ...]]]
    rates: list[tuple[str, str, int, int, int]]
    once: dict[str, int]
    budgets: dict[str, Terms]
    pauses: list[Pause]
    webhooks: dict[str, tuple[str, ...]]
    outbox: list[Delivery]


class Book:
    def __init__(self) -> None:
        self.agents: dict[str, Agent] = {}
        self.keys: dict[str, tuple[str, Key]] = {}  # by digest, with its agent
        self.balances: dict[Cell, Balance] = {}
        self.open: dict[str, Open] = {}
        self.rates: dict[Cell, tuple[int, int]] = {}  # a limit's count of requests, and its period's end
        self.flying: dict[tuple[str, str], int] = {}  # a limit's count of calls in flight
        self.once: dict[str, int] = {}
        self.budgets: dict[str, Terms] = {}
        self.pauses: dict[str, Pause] = {}
        self.alerts: dict[str, Alert] = {}
        self.outbox = Outbox()
        # While less than this is spent, every threshold reached was told of: worked out by `notices`, never on record.
        self.told_to: dict[Cell, int] = {}
        self._ends: list[tuple[int, int, Any]] = []

    def apply(self, entry: Entry) -> None:
        """Take one entry in. Raises KeyError or AssertionError where it does not follow from those before."""
        ends = self._ends
        if ends and ends[0][0] <= entry.at:
            self.advance(entry.at)
        _APPLY[entry.type](self, entry)
        for notice in entry.alerts:
            self._notice(notice, entry.at)
        if entry.pause is not None:
            self._pause(entry.pause)

    def advance(self, at: int) -> None:
        """Drop what ended by ``at`` and nothing holds."""
        ends = self._ends
        while ends and ends[0][0] <= at:
            _, kind, key = heappop(ends)
            if kind == 0:
                balance = self.balances.get(key)
                # An open hold drops it when it ends; a budget opened anew under the same key may end later.
                if balance is not None and balance.end_ms <= at and not balance.holds:
                    self._drop(key)
            elif kind == 1:
                if self.rates.get(key, (0, at + 1))[1] <= at:
                    del self.rates[key]
            elif self.once.get(key, at + 1) <= at:
                del self.once[key]

    def raised(self, key: str, at: int) -> bool:
        """Whether an alert under that key was raised in its period, and that still runs."""
        return self.once.get(key, at) > at

    # -- money -------------------------------------------------------------------------------------------------------
    def _authorize(self, entry: Entry) -> None:
        action = _of(entry)
        assert action.id not in self.open
        self._open(Open(action, entry.holds, entry.limits))
        for limit in entry.limits:
            self._count(limit)

    def _open(self, opened: Open) -> None:
        action = opened.action
        self.open[action.id] = opened
        amount = action.reserved or 0
        balances = self.balances
        for hold in opened.holds:
            balance = balances.get(hold[:3]) or self._balance(hold)
            balance.reserved += amount
            balance.holds += 1
        for limit in opened.limits:
            if not limit.end_ms:
                key = limit[:2]
                self.flying[key] = self.flying.get(key, 0) + 1

    def _end(self, entry: Entry) -> None:
        action = _of(entry)
        ended = self.open.pop(action.id)
        amount, charge, at, balances = ended.action.reserved or 0, action.cost, entry.at, self.balances
        for hold in ended.holds:
            cell = hold[:3]
            balance = balances[cell]
            balance.reserved -= amount
            balance.spent += charge
            balance.holds -= 1
            if balance.end_ms <= at and not balance.holds:
                self._drop(cell)
        for limit in ended.limits:
            if not limit.end_ms:
                key = limit[:2]
                self.flying[key] -= 1
                if not self.flying[key]:
                    del self.flying[key]

    def _record(self, entry: Entry) -> None:
        cost = _of(entry).cost
        for hold in entry.holds:
            self._balance(hold).spent += cost
        for limit in entry.limits:
            self._count(limit)

    def _balance(self, hold: Hold) -> Balance:
        key = hold[:3]
        balance = self.balances.get(key)
        if balance is None:
            balance = self.balances[key] = Balance(hold[3])
            heappush(self._ends, (hold[3], 0, key))
        return balance

    def _drop(self, key: Cell) -> None:
        del self.balances[key]
        self.told_to.pop(key, None)

    def _count(self, limit: LimitHold) -> None:
        if limit.end_ms:
            key = limit[:3]
            held = self.rates.get(key)
            if held is None:
                self._set_rate(key, limit.end_ms, 1)
            else:
                self.rates[key] = (held[0] + 1, limit.end_ms)

    def _set_rate(self, key: Cell, end_ms: int, count: int) -> None:
        if key not in self.rates:
            heappush(self._ends, (end_ms, 1, key))
        self.rates[key] = (count, end_ms)

    # -- agents, rules and alerts ------------------------------------------------------------------------------------
    def _agents(self, entry: Entry) -> None:
        for agent in entry.agents:
            self._put_agent(agent)

    def _put_agent(self, agent: Agent) -> None:
        before = self.agents.get(agent.id)
        if before is not None:
            for key in before.keys:
                self.keys.pop(key.digest, None)
            if before.monthly_budget != agent.monthly_budget:
                self._rearm(MONTHLY_BUDGET, agent.id)
        for key in agent.keys:
            self.keys[key.digest] = (agent.id, key)
        pause = self.pauses.get(agent.id)
        if pause is not None and pause.reason != agent.paused_reason:  # lifted, or now the operator's own
            del self.pauses[agent.id]
        self.agents[agent.id] = agent

    def _policy(self, entry: Entry) -> None:
        """New terms drop every balance and hold of that budget's name; what the entry opened takes their place."""
        terms, self.budgets = self.budgets, dict(entry.budgets)
        for name, was in terms.items():
            now = self.budgets.get(name)
            if now is None or now.signature != was.signature:
                self._forget(name)
            if now != was:
                self._rearm(name)
        self._agents(entry)
        self.outbox.use(entry.webhooks)
        for name, group, start_ms, end_ms, spent in entry.opened:
            self._balance((name, group, start_ms, end_ms)).spent = spent
        for action_id, holds in entry.reheld.items():
            reservation = self.open[action_id]
            reservation.holds += holds
            for hold in holds:
                balance = self._balance(hold)
                balance.reserved += reservation.action.reserved or 0
                balance.holds += 1

    def _forget(self, name: str) -> None:
        for key in [key for key in self.balances if key[0] == name]:
            self._drop(key)
        for reservation in self.open.values():
            reservation.holds = tuple(hold for hold in reservation.holds if hold[0] != name)

    def _rearm(self, name: str, group: str | None = None) -> None:
        prefix = threshold_key(name, group)
        for key in [key for key in self.once if key.startswith(prefix)]:
            del self.once[key]
        self.told_to.clear()

    def _notice(self, notice: Notice, at: int) -> None:
        self.alerts[notice.alert.id] = notice.alert
        self.outbox.queue(notice.alert, at)
        if len(self.alerts) > ALERTS_KEPT:
            del self.alerts[next(iter(self.alerts))]
        if notice.once is not None:
            self._set_once(notice.once, notice.until_ms)

    def _set_once(self, key: str, until_ms: int) -> None:
        self.once[key] = until_ms
        heappush(self._ends, (until_ms, 2, key))

    def _pause(self, pause: Pause) -> None:
        self.pauses[pause.agent_id] = pause
        agent = self.agents[pause.agent_id]
        self.agents[agent.id] = replace(agent, status="paused", paused_reason=pause.reason)

    def _acknowledge(self, entry: Entry) -> None:
        alert = self.alerts.get(entry.id or "")
        if alert is not None:
            self.alerts[alert.id] = replace(alert, acknowledged_at=entry.at)

    def _delivery(self, entry: Entry) -> None:
        delivery = self.outbox.find(entry.id or "")
        assert delivery is not None
        assert entry.delivery is not None
        self.outbox.note(delivery, entry.delivery, entry.at)

    def _nothing(self, entry: Entry) -> None:
        """A denial moves no money; its pause and alerts are applied as any entry's."""

    # -- whole -------------------------------------------------------------------------------------------------------
    def freeze(self) -> Frozen:
        return Frozen(
            list(self.agents.values()),
            list(self.alerts.values()),
            [(*key, balance.end_ms, balance.spent) for key, balance in self.balances.items()],
            [(each.action, each.holds, each.limits) for each in self.open.values()],
            [(*key, end_ms, count) for key, (count, end_ms) in self.rates.items()],
            self.once.copy(),
            self.budgets.copy(),
            list(self.pauses.values()),
            self.outbox.webhooks.copy(),
            self.outbox.held(),
        )

    def load(self, state: Mapping[str, Any]) -> None:
        """An empty book becomes what ``state_of`` wrote; what is reserved follows from the open reservations."""
        for row in state["agents"]:
            self._put_agent(row_agent(row))
        for name, group, start_ms, end_ms, spent in state["balances"]:
            self._balance((name, group, start_ms, end_ms)).spent = spent
        for row, holds, limits in state["open"]:
            tied = tuple((name, group, start, end) for name, group, start, end in holds)
            self._open(Open(row_action(row), tied, tuple(LimitHold(*limit) for limit in limits)))
        for name, group, start_ms, end_ms, count in state["rates"]:
            self._set_rate((name, group, start_ms), end_ms, count)
        for key, until_ms in state["once"].items():
            self._set_once(key, until_ms)
        self.budgets = {name: Terms(*terms) for name, terms in state["budgets"].items()}
        for pause in state["pauses"]:
            self.pauses[pause[0]] = Pause(*pause)
        self.outbox.load(state.get("webhooks", {}), state.get("outbox", ()))  # formats 1 and 2 had none

    def _carry(self, entry: Entry) -> None:
        """The first line of a month says the whole book: live it changes nothing, a replay may begin with it."""
        if entry.book is not None and not self.agents and not self.budgets:
            self.load(entry.book)


def state_of(frozen: Frozen) -> dict[str, Any]:
    """A frozen book as JSON values, but for its alerts (they are history); ``Book.load`` takes it back."""
    return {
        "agents": [agent_row(agent) for agent in frozen.agents],
        "balances": frozen.balances,
        "open": [(action_row(action), holds, limits) for action, holds, limits in frozen.open],
        "rates": frozen.rates,
        "once": frozen.once,
        "budgets": frozen.budgets,
        "pauses": frozen.pauses,
        "webhooks": frozen.webhooks,
        "outbox": [delivery_row(each) for each in frozen.outbox],
    }


def threshold_key(name: str, group: str | None = None, start_ms: int | None = None, percent: int | None = None) -> str:
    """The key under which a threshold is raised once; leave out the later parts for the prefix of many."""
    parts = [name] if group is None else [name, group] if start_ms is None else [name, group, str(start_ms)]
    return "|".join(["budget_threshold", *parts, "" if percent is None else str(percent)])


def _of(entry: Entry) -> Action:
    assert entry.action is not None
    return entry.action


_APPLY: dict[str, Callable[[Book, Entry], None]] = {
    "carry": Book._carry,
    "authorize": Book._authorize,
    "settle": Book._end,
    "void": Book._end,
    "expire": Book._end,
    "record": Book._record,
    "adjust": Book._record,
    "denied": Book._nothing,
    "repeat": Book._nothing,
    "agent": Book._agents,
    "policy": Book._policy,
    "acknowledge": Book._acknowledge,
    "alert": Book._nothing,
    "delivery": Book._delivery,
}
