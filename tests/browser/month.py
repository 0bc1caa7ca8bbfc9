"""A lively month in a ledger: what agents of every condition did in the last 30 days, written through the ledger's own
port under a clock of its own. The same days always hold the same calls."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from policy.catalog import Catalog
from policy.model import Policy
from policy.pricing import charge, load_rates
from proxy.identify import digest
from proxy.ledger.embedded import EmbeddedLedger, open_embedded
from proxy.ledger.port import Adjustment, Agent, Call, Denial, Settlement
from proxy.rules import PolicyFile

POLICY = Path(__file__).parent / "policy.yaml"
MATCHER = "agt_matcher"
MATCHER_KEY = "alk_the_key_of_the_invoice_matcher"
UNUSED = "translator"  # no call of its was ever made
OPERATOR_PAUSED = "agt_nightly"
BUDGET_PAUSED = "summarizer"
NEARLY_SPENT = "triage"

_DAY_MS = 86_400_000
_MINUTE_MS = 60_000
_DAYS = 30
_USD = 1_000_000_000
_RATES: Mapping[str, Mapping[str, str]] = {
    "openai:gpt-4o": {"cache_read_mtok": "1.25", "input_mtok": "2.5", "output_mtok": "10"},
    "openai:gpt-4o-mini": {"input_mtok": "0.15", "output_mtok": "0.6"},
    "anthropic:claude-opus-5": {"input_mtok": "5", "output_mtok": "25"},
    "tools:web_search": {"request": "0.01"},
}


@dataclass(frozen=True, slots=True)
class Habit:
    """How one agent spends: about so many calls a workday, of about so many input tokens each, on these targets; none
    once its month holds ``until`` percent of its budget."""

    agent_id: str
    calls: int
    tokens: int
    targets: tuple[str, ...]
    until: int = 200


HABITS = (
    Habit("researcher", 6, 260_000, ("openai:gpt-4o", "openai:gpt-4o", "tools:web_search")),
    Habit("coder", 9, 420_000, ("anthropic:claude-opus-5", "anthropic:claude-opus-5", "openai:gpt-4o-mini")),
    Habit("summarizer", 5, 50_000, ("openai:gpt-4o",)),
    Habit("triage", 8, 240_000, ("openai:gpt-4o", "openai:gpt-4o-mini"), until=90),
    Habit(MATCHER, 3, 90_000, ("openai:gpt-4o", "tools:web_search")),
    Habit(OPERATOR_PAUSED, 2, 80_000, ("anthropic:claude-opus-5",)),
)


async def write_month(data: Path) -> None:
    """Makes the ledger in that folder, and closes it: nothing is in flight."""
    now = time.time_ns() // 1_000_000
    month = _Month(now - _DAYS * _DAY_MS)
    policy = PolicyFile(POLICY, Catalog()).rules.policy
    month.ledger = await open_embedded(data, lambda: month.at)
    try:
        await month.live(policy, now)
    finally:
        await month.ledger.close()


class _Month:
    ledger: EmbeddedLedger

    def __init__(self, start_ms: int) -> None:
        self.at = start_ms
        self._chance = random.Random(6)
        self._policy_hash = ""

    async def live(self, policy: Policy, until: int) -> None:
        self._policy_hash = policy.hash
        await self.ledger.use(policy)
        await self._register()
        for at, habit in self._planned(until - 40 * _MINUTE_MS):
            self.at = max(self.at, at)
            if at > until - 2 * _DAY_MS and habit.agent_id == OPERATOR_PAUSED:
                continue
            await self._spend(habit)
        await self._end(until)

    async def _register(self) -> None:
        made = self.at
        long_name = "Invoice-matching-of-the-accounts-payable-department <EMEA> & Ωmega 東京"
        matcher = Agent(MATCHER, long_name, "Matches invoices to orders", "finance", 80 * _USD, 2 * _USD, made)
        nightly = Agent(OPERATOR_PAUSED, "Nightly eval", "", "platform-team", 50 * _USD, None, made)
        await self.ledger.create_agent(matcher)
        await self.ledger.create_agent(nightly)
        await self.ledger.add_key(MATCHER, digest("alk_the_key_before"))
        await self.ledger.add_key(MATCHER, digest(MATCHER_KEY), retire_others_ms=_DAY_MS)

    def _planned(self, until: int) -> list[tuple[int, Habit]]:
        """Every call's moment, in order: fewer on two days of seven, and none at night."""
        calls = []
        for day in range(_DAYS + 1):
            midnight = (self.at // _DAY_MS + day) * _DAY_MS
            for habit in HABITS:
                busy = 0.3 if day % 7 in (5, 6) else self._chance.uniform(0.6, 1.4)
                for _ in range(round(habit.calls * busy)):
                    calls.append((midnight + self._chance.randrange(6 * 60, 22 * 60) * _MINUTE_MS, habit))
        return sorted((call for call in calls if self.at < call[0] < until), key=lambda call: call[0])

    async def _spend(self, habit: Habit) -> None:
        """One call, as most end; some fail, aren't answered in full, or cost more than was held for them."""
        month = self.ledger.standings(habit.agent_id)[0]
        if month.spent * 100 > month.budget.amount * habit.until:
            return
        target = self._chance.choice(habit.targets)
        usage = self._usage(target, habit.tokens)
        cost = charge(load_rates(_RATES[target]), usage)
        fate = self._chance.random()
        if fate > 0.985 and target != "tools:web_search":
            cost, usage = cost * 40, {kind: 40 * count for kind, count in usage.items()}
        admitted = await self._authorize(habit.agent_id, target, cost + cost // 3, usage)
        if admitted is None:
            return
        took = self._chance.randrange(300, 28_000)
        self.at += took
        status = 200
        if fate < 0.02:
            await self.ledger.void(admitted, Settlement(0, "failure", upstream_status=500, duration_ms=took))
            return
        if fate < 0.035:
            settled = Settlement(None, "failure", unconfirmed=True, flags=("stream_error",), duration_ms=took)
        elif fate < 0.05:
            more = {kind: 2 * count for kind, count in usage.items()}
            over = charge(load_rates(_RATES[target]), more)
            settled = Settlement(over, "success", more, upstream_status=status, duration_ms=took)
        else:
            settled = Settlement(cost, "success", usage, upstream_status=status, duration_ms=took)
        await self.ledger.settle(admitted, settled)

    def _usage(self, target: str, tokens: int) -> dict[str, int]:
        if target == "tools:web_search":
            return {"request": 1}
        given = round(tokens * self._chance.lognormvariate(0, 0.5))
        usage = {"input_tokens": given, "output_tokens": given // self._chance.randrange(8, 30)}
        if target == "openai:gpt-4o" and self._chance.random() < 0.5:
            usage["cache_read_tokens"] = given // 2
        return usage

    async def _authorize(
        self, agent_id: str, target: str, estimate: int | None, usage: Mapping[str, int]
    ) -> str | None:
        """The action's id, if it was admitted."""
        upstream, _, _ = target.partition(":")
        kind, price = ("tool_call", "web-search") if upstream == "tools" else ("llm", "models")
        rates = _RATES.get(target, {})
        call = Call(agent_id, kind, target, upstream, price, estimate, rates, self._policy_hash, estimated=usage)
        answer = await self.ledger.authorize(call)
        return None if isinstance(answer, Denial) else answer.action_id

    async def _end(self, until: int) -> None:
        """The last 40 minutes, which are of this month on every day but at its very beginning."""
        self.at = max(self.at, until - 38 * _MINUTE_MS)
        reason = "waiting for the new evaluation set; ask Dana before resuming"
        await self.ledger.change_agent(OPERATOR_PAUSED, {"status": "paused", "paused_reason": reason})
        await self._authorize(OPERATOR_PAUSED, "anthropic:claude-opus-5", _USD // 4, {})
        for _ in range(3):
            await self._authorize("researcher", "openai:o3-deep-research", None, {})
        await self._authorize("researcher", "openai:gpt-4o", 6 * _USD, {"input_tokens": 2_400_000})
        await self.ledger.adjust(
            Adjustment("coder", -1_250_000_000, "credit note CN-2026-118", "anthropic:claude-opus-5")
        )
        await self.ledger.adjust(Adjustment("researcher", 410_000_000, "invoice of last week, 0.41 above the ledger"))
        self.at += _MINUTE_MS
        await self._use_up(NEARLY_SPENT, "openai:gpt-4o", percent=96)
        await self._use_up(BUDGET_PAUSED, "openai:gpt-4o", percent=100)
        await self._authorize(BUDGET_PAUSED, "openai:gpt-4o", _USD // 20, {})
        for alert in (await self.ledger.alerts())[6:]:
            await self.ledger.acknowledge(alert.id)
        for habit in HABITS:
            self.at += 2 * _MINUTE_MS
            await self._spend(habit)
        self.at = max(self.at, until - 1000)

    async def _use_up(self, agent_id: str, target: str, *, percent: int) -> None:
        """Calls of a like size, until the agent's month holds that much (all of it: until one is denied)."""
        rates = load_rates(_RATES[target])
        while True:
            month = self.ledger.standings(agent_id)[0]
            usage = {"input_tokens": 60_000, "output_tokens": 9_000}
            cost = charge(rates, usage)
            if percent < 100 and (month.spent + cost) * 100 > month.budget.amount * percent:
                return
            admitted = await self._authorize(agent_id, target, cost, usage)
            if admitted is None:
                return
            self.at += 700
            await self.ledger.settle(admitted, Settlement(cost, "success", usage, upstream_status=200, duration_ms=700))
