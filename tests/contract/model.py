"""The ledger, as its port describes it, on an auditor's accounts.

A method here is called as the ledger's own of that name, with the ledger's answer before the arguments: it asserts that
the answer is right, and takes in what happened.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

from msgspec import structs

from policy.decide import Verdict
from proxy.ledger.port import (
    Action,
    Adjustment,
    Admission,
    Agent,
    AgentUnknown,
    Call,
    Denial,
    IdempotencyConflict,
    NotOpen,
    Recorded,
    Settlement,
)
from tests.contract.accounts import (
    DAY,
    ENDLESS,
    HOUR,
    MINUTE,
    MONTH,
    Charge,
    Held,
    Kind,
    kind_of,
    named,
    period,
)
from tests.contract.roster import Roster, raises, same


class Model(Roster):
    def __init__(self) -> None:
        super().__init__()
        self.at_once: Counter[tuple[str, str]] = Counter()  # the Idempotency-Keys of calls made together
        self.answers: dict[tuple[str, str], tuple[str, int, Recorded]] = {}
        self.failed_open = 0  # the hour in which this process told that it fails open

    # -- the line ------------------------------------------------------------------------------------------------------
    def preview(self, answer: Any, call: Call) -> None:
        if self.known(answer, call.agent_id):
            assert answer == self.judge(self.resumed(self.agents[call.agent_id]), call)[0]

    def unrecorded(self, answer: Any, call: Call) -> None:
        if not self.known(answer, call.agent_id):
            return
        agent = self.agents[call.agent_id]
        denied, softened = self.judge(self.resumed(agent), call)
        if denied is not None:
            assert answer == Denial(denied, None, answer.agent)
            same(answer.agent, agent)
            return
        self.admitted_as(answer, agent, call, softened, recorded=False)
        if self.failed_open != self.now // HOUR:
            self.failed_open = self.now // HOUR
            self.alert("failed_open", None, "The ledger can't record")
            self.commit()

    def admitted_as(self, answer: Any, agent: Agent, call: Call, softened: list[Verdict], *, recorded: bool) -> int:
        cost = call.estimate or 0
        rooms = [
            max(0, budget.amount - sum(self.balance(budget, group, self.now)) - cost)
            for budget, group in self.budgets(kind_of(agent, call))
            if budget.mode == "enforce" and self.policy.mode == "enforce"
        ]
        left = min(rooms, default=None)
        assert answer == Admission(answer.action_id, cost, self.now, left, tuple(softened), recorded)
        return cost

    def authorize(self, answer: Any, call: Call) -> None:
        if not self.known(answer, call.agent_id):
            return None
        agent = self.agent_changed(self.resumed(self.agents[call.agent_id]))
        denied, softened = self.judge(agent, call)
        if denied is not None:
            return self.deny(answer, agent, call, denied, softened)
        self.shadow(agent, softened)
        kind, cost = kind_of(agent, call), self.admitted_as(answer, agent, call, softened, recorded=True)
        draft = structs.replace(self.draft(answer.action_id, agent, call, softened), outcome="pending", reserved=cost)
        self.open[self.new(answer.action_id)] = Held(draft, kind, self.count(kind))
        self.commit()
        return None

    def record(self, answer: Any, call: Call, outcome: Any, key: tuple[str, str] | None = None) -> None:
        slot = (call.agent_id, key[0] if key else "")
        if not self.known(answer, call.agent_id) or (key and self.replays(answer, slot, key[1])):
            return
        agent = self.agent_changed(self.resumed(self.agents[call.agent_id]))
        denied, softened = self.judge(agent, call)
        if denied is not None:
            assert answer == Recorded(None, answer.denial)
            kept = key if denied.reason not in ("budget_reserved", "rate_limited") else None
            self.deny(answer.denial, agent, call, denied, softened, kept)
        else:
            kept, kind, cost = key, kind_of(agent, call), call.estimate or 0
            self.shadow(agent, softened)
            self.count(kind)
            draft = self.draft(answer.action.id, agent, call, softened)
            action = structs.replace(draft, cost=cost, outcome=outcome, ending="settled")
            self.new(action.id)
            assert answer == Recorded(action, None)
            self.charge(action, kind)
        if kept:
            self.answers[slot] = (kept[1], self.now, replace(answer, replayed=True))

    def replays(self, answer: Any, slot: tuple[str, str], digest: str) -> bool:
        """Whether the key was used, and so nothing happens."""
        if type(answer) is IdempotencyConflict and answer.in_flight:
            assert self.at_once[slot] > 1
            return True
        held, at, first = self.answers.get(slot, ("", -DAY, None))
        if self.now - at >= DAY:
            return False
        if held != digest:
            raises(answer, IdempotencyConflict)
        elif first is not None and first.denial is not None:
            now = replace(first, denial=replace(first.denial, agent=answer.denial.agent))
            assert answer == now
            same(answer.denial.agent, self.agents[slot[0]])
        else:
            assert answer == first
        return True

    def deny(
        self,
        answer: Any,
        agent: Agent,
        call: Call,
        verdict: Verdict,
        softened: list[Verdict],
        key: tuple[str, str] | None = None,
    ) -> None:
        told = verdict.reason == "budget_exceeded" and self.exceeded(agent, verdict)
        like = (agent.id, call.target, verdict.reason, verdict.budget)
        first, at = self.denials.get(like, ("", -MINUTE))
        if told or self.now - at >= MINUTE:
            first = self.new(answer.action_id)
            self.denials[like] = (first, self.now)
            draft = self.draft(first, agent, call, softened)
            self.rows.append(structs.replace(draft, outcome="denied", reason=verdict.reason, budget=verdict.budget))
            self.commit()
        else:
            self.rows = [structs.replace(row, count=row.count + 1) if row.id == first else row for row in self.rows]
            self.counted = True
            if key:
                self.commit()
        assert answer == Denial(verdict, first, answer.agent)
        same(answer.agent, self.agents[agent.id])

    def exceeded(self, agent: Agent, verdict: Verdict) -> bool:
        """Whether it is told of: a pause always, any other budget once in its period."""
        if verdict.budget == MONTH:
            self.exhausted[agent.id] = (period("month", self.policy.zone, self.now)[0], agent.monthly_budget)
            self.agents[agent.id] = replace(agent, status="paused", paused_reason="budget_exceeded")
            self.alert("budget_exceeded", agent.id, f"{named(MONTH, agent.id)} exceeded")
            return True
        return self.tell_exceeded(agent, verdict, "enforce", "exceeded")

    def shadow(self, agent: Agent, softened: list[Verdict]) -> None:
        for verdict in softened:
            if verdict.reason == "budget_exceeded":
                self.tell_exceeded(agent, verdict, "shadow", "would have been exceeded (shadow)")

    def tell_exceeded(self, agent: Agent, verdict: Verdict, mode: str, words: str) -> bool:
        (budget,) = (each for each in (*self.policy.budgets, self.month()) if each.name == verdict.budget)
        key = (mode, budget.name, verdict.group, budget.period, verdict.resets_at_ms)
        text = f"{named(verdict.budget, verdict.group)} {words}"
        return self.tell(key, verdict.resets_at_ms or ENDLESS, "budget_exceeded", agent.id, text)

    # -- endings -------------------------------------------------------------------------------------------------------
    def settle(self, answer: Any, action_id: str, how: Settlement) -> None:
        self.end(answer, action_id, how, "settled", how.charge)

    def void(self, answer: Any, action_id: str, how: Settlement) -> None:
        self.end(answer, action_id, how, "voided", 0)

    def end(self, answer: Any, action_id: str, how: Settlement, ending: Any, charge: int | None) -> None:
        held = self.open.pop(action_id, None)
        if held is None:
            return raises(answer, NotOpen)
        action = structs.replace(
            held.draft,
            cost=held.draft.reserved or 0 if charge is None else charge,
            outcome=how.outcome,
            ending=ending,
            unconfirmed=how.unconfirmed,
            usage=how.usage,
            upstream_status=how.upstream_status,
        )
        assert answer == action
        return self.charge(action, held.kind)

    def charge(self, action: Action, kind: Kind, *, late: bool = False) -> None:
        """Post it, and tell what that leads to; ``late``: only to periods that still run."""
        self.rows.append(action)
        self.charges.append(Charge(kind, action.created_at, action.cost))
        self.commit()
        for budget, group in self.budgets(kind):
            start, end = period(budget.period, budget.zone, action.created_at)
            if action.cost <= 0 or end <= (self.now if late else self.since[budget.name]):
                continue  # or it took force when that period was over
            spent, _ = self.balance(budget, group, action.created_at)
            for percent in self.policy.thresholds:
                if spent > 0 and 100 * spent >= percent * budget.amount:
                    text = f"{named(budget.name, group)} reached {percent}%:"
                    key = ("threshold", budget.name, group, start, percent)
                    self.tell(key, end + DAY, "budget_threshold", kind.agent, text)
        about = f"{kind.agent}: {action.target}"
        if action.reserved is not None and action.cost > action.reserved:
            tomorrow = self.now - self.now % DAY + DAY
            self.tell(("overrun", kind.agent, action.target), tomorrow, "overrun", kind.agent, f"{about} cost")
        if action.outcome == "failure":
            next_hour = self.now - self.now % HOUR + HOUR
            self.tell(("failed", kind.agent, action.target), next_hour, "action_failed", kind.agent, f"{about} failed")

    def expire(self) -> None:
        """A process ended, and another began: what was in flight is charged at its reservation."""
        for held in self.open.values():
            self.rows.append(
                structs.replace(
                    held.draft,
                    cost=held.draft.reserved or 0,
                    outcome="failure",
                    ending="expired",
                    unconfirmed=True,
                    flags=("expired",),
                )
            )
            self.charges.append(Charge(held.kind, held.draft.created_at, held.draft.reserved or 0))
            self.commit()
        self.open.clear()
        self.denials.clear()
        self.failed_open = 0

    def adjust(self, answer: Any, adjustment: Adjustment, key: tuple[str, str] | None = None) -> None:
        agent = self.agents.get(adjustment.agent_id)
        slot = (adjustment.agent_id, f"adjust {key[0]}" if key else "")
        if agent is None:
            return raises(answer, AgentUnknown)
        if key and self.replays(answer, slot, key[1]):
            return None
        at = self.now if adjustment.at is None else adjustment.at
        if not 0 <= at <= self.now:
            return raises(answer, ValueError)
        upstream = (adjustment.target or "").split(":")[0]
        action = Action(
            self.new(answer.action.id),
            agent.id,
            "adjust",
            adjustment.target or "adjust",
            adjustment.amount,
            "success",
            at,
            json.dumps({"reason": adjustment.reason}, separators=(",", ":")),
            ending="adjusted",
            upstream=upstream,
            policy_hash=self.policy.hash,
            owner_id=agent.owner_id,
            role=agent.role,
        )
        assert answer == Recorded(action, None)
        if key:
            self.answers[slot] = (key[1], self.now, replace(answer, replayed=True))
        return self.charge(action, Kind(agent.id, agent.owner_id, agent.role, upstream, ""), late=True)

    # -- rows ----------------------------------------------------------------------------------------------------------
    def new(self, action_id: str) -> str:
        assert action_id not in self.open
        assert all(row.id != action_id for row in self.rows)
        return action_id

    def draft(self, action_id: str, agent: Agent, call: Call, softened: list[Verdict]) -> Action:
        return Action(
            action_id,
            agent.id,
            call.action_type,
            call.target,
            0,
            "success",
            self.now,
            rates=call.rates,
            upstream=call.upstream,
            price=call.price,
            policy_hash=call.policy_hash,
            softened=tuple(verdict.reason for verdict in softened),
            owner_id=agent.owner_id,
            role=agent.role,
        )
