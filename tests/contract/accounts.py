"""What an auditor keeps: lists of all that ever happened, added up anew at each question, in integers.

Of the ledger it takes the shapes of its rows, and no arithmetic: not the decision, not the book, not the calendar.
"""

from __future__ import annotations

from calendar import timegm
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from policy.decide import Verdict
from policy.model import Budget, Limit, Policy, Scope
from proxy.ledger.port import Action, Agent, Call

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
ENDLESS = 10**15
MONTH = "monthly_budget"


@lru_cache(maxsize=10_000)
def midnight(day: date, zone: ZoneInfo) -> int:
    """The first quarter of an hour in which the zone's calendar shows that day, or a later one."""
    first = timegm(day.timetuple()) - 14 * 3600
    return 1000 * next(at for at in range(first, first + 99_999, 900) if datetime.fromtimestamp(at, zone).date() >= day)


def period(name: str, zone: ZoneInfo, at: int) -> tuple[int, int]:
    """When the period of that name around ``at`` begins and ends."""
    if name == "total":
        return 0, ENDLESS
    if name in ("minute", "hour"):
        length = MINUTE if name == "minute" else HOUR
        return at - at % length, at - at % length + length
    day = datetime.fromtimestamp(at // 1000, zone).date()
    if name == "day":
        first, after = day, day + timedelta(1)
    elif name == "week":
        first = day - timedelta(day.weekday())
        after = first + timedelta(7)
    elif name == "month":
        first, after = date(day.year, day.month, 1), date(day.year + day.month // 12, day.month % 12 + 1, 1)
    else:
        first, after = date(day.year, 1, 1), date(day.year + 1, 1, 1)
    return midnight(first, zone), midnight(after, zone)


class Kind(NamedTuple):
    """All of a call that scopes look at."""

    agent: str
    owner_id: str
    role: str
    upstream: str
    price: str

    def group(self, scope: Scope) -> str | None:
        """What it is counted under; None where the scope leaves it out."""
        wanted = zip((scope.agents, scope.owner_ids, scope.roles, scope.upstreams, scope.prices), self, strict=True)
        if any(values and value not in values for values, value in wanted):
            return None
        return getattr(self, scope.each) if scope.each else ""


class Charge(NamedTuple):
    kind: Kind
    at: int
    cost: int


@dataclass
class Held:
    """A reservation: the draft of its row, and the limits of calls in flight that it counts against."""

    draft: Action
    kind: Kind
    flying: list[tuple[str, str]]


class Told(NamedTuple):
    """An alert, but for its id and the rest of its words, and the webhooks it waits for."""

    type: str
    agent_id: str | None
    begins: str
    at: int
    webhooks: tuple[str, ...]


def kind_of(agent: Agent, call: Call) -> Kind:
    return Kind(agent.id, agent.owner_id, agent.role, call.upstream, call.price or "")


def terms(budget: Budget) -> tuple[Any, ...]:
    """What decides which charges it adds up, and the amount."""
    return (budget.period, budget.zone, budget.scope), budget.amount


def named(budget: str | None, group: str) -> str:
    return f"budget {budget} ({group})" if group else f"budget {budget}"


class Accounts:
    """``now`` is the ledger's time, unix ms."""

    def __init__(self) -> None:
        self.now = 0
        self.recorded_at = 0  # the ledger's time never goes before it
        self.counted = False  # denials that may not be on record yet
        self.policy = Policy("none", zone=None)  # type: ignore[arg-type]
        self.terms: dict[str, tuple[Any, ...]] = {}  # of the budgets in force
        self.webhooks: dict[str, tuple[str, ...]] = {}  # in force, with the types they are sent
        self.since: dict[str, int] = {}  # by budget, when its present terms took force
        self.agents: dict[str, Agent] = {}
        self.exhausted: dict[str, tuple[int, int]] = {}  # the month and the amount that an agent is paused by
        self.charges: list[Charge] = []
        self.open: dict[str, Held] = {}
        self.admitted: list[tuple[str, str, int]] = []  # limit, group, start of its period
        self.rows: list[Action] = []
        self.denials: dict[tuple[str | None, ...], tuple[str, int]] = {}  # what was said, and of which row, when
        self.once: dict[tuple[Any, ...], int] = {}  # what an alert told, and until when that is enough
        self.alerts: list[Told] = []
        self.outbox: dict[tuple[str, str], bool] = {}  # by alert and webhook, of those told before: whether given up

    # -- sums ----------------------------------------------------------------------------------------------------------
    def month(self, amount: int = 0) -> Budget:
        return Budget(MONTH, amount, "month", self.policy.zone, Scope(each="agent"))

    def budgets(self, kind: Kind) -> Iterator[tuple[Budget, str]]:
        """Those that count such calls, each with the group."""
        for budget in (self.month(self.agents[kind.agent].monthly_budget), *self.policy.budgets):
            group = kind.group(budget.scope)
            if group is not None:
                yield budget, group

    def balance(self, budget: Budget, group: str, at: int) -> tuple[int, int]:
        """Spent and reserved in the period around ``at``."""
        start, end = period(budget.period, budget.zone, at)
        held = [Charge(each.kind, each.draft.created_at, each.draft.reserved or 0) for each in self.open.values()]
        spent, reserved = (
            sum(each.cost for each in among if start <= each.at < end and each.kind.group(budget.scope) == group)
            for among in (self.charges, held)
        )
        return spent, reserved

    def standings(self, agent: Agent) -> dict[tuple[str, str], tuple[int, int, int, int, int]]:
        """By budget and group: start, end, amount, spent, reserved. Of groups by call, those that hold something."""
        own = Kind(agent.id, agent.owner_id, agent.role, "", "")
        kinds = [*(each.kind for each in self.charges), *(each.kind for each in self.open.values())]
        found = {}
        for budget in (self.month(agent.monthly_budget), *self.policy.budgets):
            by_call = budget.scope.each in ("upstream", "price")
            anyone = replace(budget.scope, upstreams=(), prices=())
            if own.group(anyone) is None:
                continue
            for group in {kind.group(budget.scope) for kind in kinds} if by_call else {own.group(anyone)}:
                sums = self.balance(budget, group, self.now) if group is not None else (0, 0)
                if not by_call or any(sums):
                    start, end = period(budget.period, budget.zone, self.now)
                    found[budget.name, group or ""] = (start, end, budget.amount, *sums)
        return found

    # -- the decision --------------------------------------------------------------------------------------------------
    def failing(self, agent: Agent, call: Call) -> Iterator[tuple[Verdict, str]]:
        """Each check that fails, in the table's order, with its mode."""
        mode, cost, cap = self.policy.mode, call.estimate or 0, agent.per_action_limit
        if agent.status == "paused":
            yield Verdict("agent_paused"), "enforce"
        if call.estimate is None:
            yield Verdict("unpriced"), mode
        if cap is not None and cost > cap:
            yield Verdict("per_action_limit_exceeded", available=cap), mode
        later = []
        for budget, group in self.budgets(kind_of(agent, call)):
            spent, reserved = self.balance(budget, group, self.now)
            room, end = max(0, budget.amount - spent - reserved), period(budget.period, budget.zone, self.now)[1]
            softer = "shadow" if mode == "shadow" else budget.mode
            if cost and spent + cost > budget.amount:
                resets_at = end if budget.period != "total" else None
                yield Verdict("budget_exceeded", budget.name, group, room, resets_at), softer
            elif cost and cost > room:
                later.append((Verdict("budget_reserved", budget.name, group, room, None, 1), softer))
        yield from later
        for limit, group in self.limits(kind_of(agent, call)):
            softer = "shadow" if mode == "shadow" else limit.mode
            if limit.requests is None:
                flying = sum(held.flying.count((limit.name, group)) for held in self.open.values())
                if flying >= (limit.concurrent or 0):
                    yield Verdict("rate_limited", limit.name, group, retry_after_s=1), softer
            else:
                start, end = period(limit.period, self.policy.zone, self.now)
                if self.admitted.count((limit.name, group, start)) >= limit.requests:
                    wait_s = min(60, max(1, (end - self.now + 999) // 1000))
                    yield Verdict("rate_limited", limit.name, group, None, end, wait_s), softer

    def judge(self, agent: Agent, call: Call) -> tuple[Verdict | None, list[Verdict]]:
        """The first that is enforced, and those passed over before it."""
        softened: list[Verdict] = []
        for verdict, mode in self.failing(agent, call):
            if mode == "enforce":
                return verdict, softened
            softened.append(verdict)
        return None, softened

    def limits(self, kind: Kind) -> Iterator[tuple[Limit, str]]:
        for limit in self.policy.limits:
            group = kind.group(limit.scope)
            if group is not None:
                yield limit, group

    def resumed(self, agent: Agent) -> Agent:
        """Neither a new month nor a raised budget lifts a pause, but auto_resume that of a budget."""
        if agent.id in self.exhausted and agent.auto_resume:
            month, amount = self.exhausted[agent.id]
            if period("month", self.policy.zone, self.now)[0] > month or agent.monthly_budget > amount:
                return replace(agent, status="active", paused_reason=None)
        return agent

    # -- what is told once ---------------------------------------------------------------------------------------------
    def tell(self, key: tuple[Any, ...], until: int, kind: str, agent_id: str, text: str) -> bool:
        if self.once.get(key, 0) > self.now:
            return False
        self.once[key] = until
        self.alert(kind, agent_id, text)
        return True

    def alert(self, kind: str, agent_id: str | None, text: str) -> None:
        hooks = sorted(hook.name for hook in self.policy.webhooks if not hook.types or kind in hook.types)
        self.alerts.append(Told(kind, agent_id, text, self.now, tuple(hooks)))

    def rearm(self, name: str, group: str | None = None) -> None:
        """Thresholds count anew when the amount changes."""
        for key in [key for key in self.once if key[:2] == ("threshold", name) and group in (None, key[2])]:
            del self.once[key]

    # -- what happened -------------------------------------------------------------------------------------------------
    def listed(self) -> list[Action]:
        """Newest first."""
        numbered = sorted(enumerate(self.rows), key=lambda each: (each[1].created_at, each[0]), reverse=True)
        return [row for _, row in numbered]

    def commit(self) -> None:
        self.recorded_at, self.counted = self.now, False

    def count(self, kind: Kind) -> list[tuple[str, str]]:
        """Count an admission against each limit of requests; those of calls in flight."""
        flying = []
        for limit, group in self.limits(kind):
            if limit.requests is None:
                flying.append((limit.name, group))
            else:
                self.admitted.append((limit.name, group, period(limit.period, self.policy.zone, self.now)[0]))
        return flying
