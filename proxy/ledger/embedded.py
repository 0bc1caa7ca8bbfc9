"""The embedded engine: one process, one data folder. The line is here; agents, rules and reads are in its bases.

A change is decided against the book, written to the journal as one line, and applied to the book, with no await
between: so nothing comes between deciding and reserving, and the book is never ahead of the journal.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec.structs import replace

from policy.decide import TRANSIENT, Count, Decision, Standing, Verdict, decide
from proxy.ledger import notices
from proxy.ledger.administration import Administration
from proxy.ledger.entries import Entry, Hold, Idempotency, Kind, Notice
from proxy.ledger.ids import new_id
from proxy.ledger.plan import ENDLESS, holds_of, limits_of
from proxy.ledger.port import (
    Action,
    Admission,
    Agent,
    AgentUnknown,
    Call,
    Denial,
    Ending,
    LedgerUnavailable,
    NotOpen,
    Recorded,
    Settlement,
)
from proxy.ledger.repeats import kind_of
from proxy.ledger.rulebook import Rulebook
from proxy.ledger.store import Store


class _Judged(NamedTuple):
    """A call held against the book at one moment."""

    agent: Agent
    standings: list[Standing]
    counts: list[Count]
    decision: Decision
    at: int


class EmbeddedLedger(Administration):
    """The port on a journal, a TinyDB desk and a sqlite index; `open_embedded` makes one."""

    # -- the line ------------------------------------------------------------------------------------------------------
    async def authorize(self, call: Call) -> Admission | Denial:
        rules, store = self._admitting(), self._store
        agent, reserved = self._admit_again(call.agent_id, rules), call.estimate or 0
        at = store.now()
        plan = rules.plan(store.book, agent, call.upstream, call.price, at)
        room = plan.room(store.book, call.estimate)
        softened: tuple[Verdict, ...] = ()
        alerts: tuple[Notice, ...] = ()
        if room is None:  # a check fails; shadow mode may let it pass
            judged = self._judge(call, rules, agent, at)
            denied, softened = judged.decision.denied, judged.decision.softened
            if denied is not None:
                denial, seq = self._deny(call, judged, denied)
                await self._durable(seq)
                return denial
            alerts, room = self._told(judged, reserved), _room(judged.standings)
        action = _draft(call, agent, at, softened, outcome="pending", reserved=reserved)
        seq = store.commit(Entry("authorize", at, action=action, holds=plan.holds, limits=plan.limits, alerts=alerts))
        if self._strict:
            try:
                await self._durable(seq)
            except BaseException:
                # Nobody learns of this reservation, and nothing was forwarded on it.
                if store.journal.failure is None:
                    self._end(action.id, "void", "voided", 0, Settlement(0, "failure", flags=("abandoned",)))
                raise
        return Admission(action.id, reserved, at, _remaining(rules, room, reserved), softened)

    async def unrecorded(self, call: Call) -> Admission | Denial:
        store, rules = self._store, self._rules
        if rules is None:
            raise LedgerUnavailable("no policy is in force yet")
        judged = self._judge(call, rules, self._resumed(call.agent_id, rules), store.now())
        if judged.decision.denied is not None:
            return Denial(judged.decision.denied, None, self.agent(call.agent_id))
        self._unrecorded.admit(judged.at, store.journal.failure or store.disk_low or "for a moment")
        reserved = call.estimate or 0
        remaining = _remaining(rules, _room(judged.standings), reserved)
        return Admission(
            new_id("act", judged.at), reserved, judged.at, remaining, judged.decision.softened, recorded=False
        )

    async def settle(self, action_id: str, settlement: Settlement) -> Action:
        action, seq = self._end(action_id, "settle", "settled", settlement.charge, settlement)
        if self._strict:
            await self._durable(seq)
        return action

    async def void(self, action_id: str, settlement: Settlement) -> Action:
        action, seq = self._end(action_id, "void", "voided", 0, settlement)
        await self._durable(seq)
        return action

    async def record(
        self, call: Call, outcome: Literal["success", "failure"], idempotency: tuple[str, str] | None = None
    ) -> Recorded:
        if idempotency is not None:
            self._resumed(call.agent_id, self._admitting())  # an agent there is, before a key is looked up
        return await self._once(call.agent_id, idempotency, partial(self._record, call, outcome))

    async def preview(self, call: Call) -> Verdict | None:
        rules = self._admitting()
        return self._judge(call, rules, self._resumed(call.agent_id, rules), self._store.now()).decision.denied

    # -- judging -------------------------------------------------------------------------------------------------------
    def _judge(self, call: Call, rules: Rulebook, agent: Agent, at: int) -> _Judged:
        book = self._store.book
        matched = rules.match(agent, call.upstream, call.price)
        standings = rules.standings(book, matched, at)
        counts = rules.counts(book, matched, at)
        decision = decide(
            paused=agent.status == "paused",
            estimate=call.estimate,
            per_action_limit=agent.per_action_limit,
            standings=standings,
            counts=counts,
            mode=rules.policy.mode,
            now_ms=at,
        )
        return _Judged(agent, standings, counts, decision, at)

    def _resumed(self, agent_id: str, rules: Rulebook) -> Agent:
        """The agent; active again if it was paused by a month that has ended, or by a budget since raised."""
        agent = self._store.book.agents.get(agent_id)
        if agent is None or agent.archived:
            raise AgentUnknown(f"no agent {agent_id}")
        pause = self._store.book.pauses.get(agent_id) if agent.auto_resume else None
        if pause is None:
            return agent
        month = rules.span("month", rules.policy.zone, self._store.now())
        if month.start_ms > pause.start_ms or agent.monthly_budget > pause.amount:
            return dataclasses.replace(agent, status="active", paused_reason=None)
        return agent

    def _admit_again(self, agent_id: str, rules: Rulebook) -> Agent:
        """The agent as ``_resumed``, on record."""
        agent = self._resumed(agent_id, rules)
        if agent is not self._store.book.agents[agent_id]:
            self._store.commit(Entry("agent", self._store.now(), agents=(agent,)))
        return agent

    def _deny(
        self, call: Call, judged: _Judged, verdict: Verdict, idempotency: Idempotency | None = None
    ) -> tuple[Denial, int]:
        """The denial on record, and its sequence; 0 where it is only counted, with those like it."""
        store, agent, at = self._store, judged.agent, judged.at
        denied = kind_of(agent.id, call.target, verdict)
        alerts, pause = notices.of_decision(
            store.book, agent, judged.decision, judged.standings, call.estimate or 0, at
        )
        first = None if alerts else store.repeats.first(denied, at)
        if first is not None:
            return Denial(verdict, first, self.agent(agent.id)), self._repeat(first, agent, verdict, idempotency, at)
        draft = _draft(call, agent, at, judged.decision.softened, outcome="denied")
        action = replace(draft, reason=verdict.reason, budget=verdict.budget)
        seq = store.commit(
            Entry("denied", at, action=action, verdict=verdict, alerts=alerts, pause=pause, idempotency=idempotency)
        )
        store.repeats.begin(denied, action.id, at)
        return Denial(verdict, action.id, self.agent(agent.id)), seq

    def _repeat(self, first: str, agent: Agent, verdict: Verdict, idempotency: Idempotency | None, at: int) -> int:
        """Count it; what was answered under a key must be on record, whatever else is only counted."""
        if idempotency is None:
            self._store.repeats.add(first)
            return 0
        return self._store.commit(
            Entry("repeat", at, counts={first: 1}, agent_id=agent.id, verdict=verdict, idempotency=idempotency)
        )

    def _told(self, judged: _Judged, estimate: int) -> tuple[Notice, ...]:
        if not judged.decision.softened:
            return ()
        alerts, _ = notices.of_decision(
            self._store.book, judged.agent, judged.decision, judged.standings, estimate, judged.at
        )
        return alerts

    # -- ending --------------------------------------------------------------------------------------------------------
    def _end(
        self, action_id: str, kind: Kind, ending: Ending, charge: int | None, settlement: Settlement
    ) -> tuple[Action, int]:
        """End a reservation, at its own amount if ``charge`` is None, on the holds it was authorized with."""
        store = self._store
        reservation = store.book.open.get(action_id)
        if reservation is None:
            raise NotOpen(f"no open reservation {action_id}")
        draft, rates = reservation.action, settlement.rates
        changed = rates is not None and rates != draft.rates
        action = replace(
            draft,
            cost=(draft.reserved or 0) if charge is None else charge,
            outcome=settlement.outcome,
            ending=ending,
            usage=settlement.usage,
            rates=rates if changed else draft.rates,
            reserved_rates=draft.rates if changed else {},
            unconfirmed=settlement.unconfirmed,
            flags=settlement.flags,
            upstream_status=settlement.upstream_status,
            duration_ms=settlement.duration_ms,
        )
        return action, self._conclude(kind, action, reservation.holds)

    def _conclude(self, kind: Kind, action: Action, holds: Sequence[Hold]) -> int:
        store, at = self._store, self._store.now()
        agent = store.book.agents[action.agent_id]
        alerts = notices.of_ending(store.book, self._rules, agent, action, holds, at) if self._rules else ()
        return store.commit(Entry(kind, at, action=action, alerts=alerts))

    # -- self-reported actions -----------------------------------------------------------------------------------------
    def _record(
        self, call: Call, outcome: Literal["success", "failure"], idempotency: Idempotency | None
    ) -> tuple[Recorded, int]:
        """Authorize and settle at the caller's cost, as one line."""
        rules = self._admitting()
        judged = self._judge(call, rules, self._admit_again(call.agent_id, rules), self._store.now())
        denied = judged.decision.denied
        if denied is not None:
            # A denial that passes is no answer to keep for a day: the same key may try again.
            kept = None if denied.reason in TRANSIENT else idempotency
            denial, seq = self._deny(call, judged, denied, kept)
            return Recorded(None, denial), seq
        cost = call.estimate or 0
        draft = _draft(call, judged.agent, judged.at, judged.decision.softened, outcome=outcome)
        action = replace(draft, cost=cost, ending="settled")
        holds = holds_of(judged.standings)
        ended = notices.of_ending(self._store.book, rules, judged.agent, action, holds, judged.at)
        seq = self._store.commit(
            Entry(
                "record",
                judged.at,
                action=action,
                holds=holds,
                limits=limits_of(judged.counts),
                alerts=self._told(judged, cost) + ended,
                idempotency=idempotency,
            )
        )
        return Recorded(action, None), seq


def _draft(
    call: Call,
    agent: Agent,
    at: int,
    softened: Sequence[Verdict],
    *,
    outcome: Literal["success", "failure", "denied", "pending"],
    reserved: int | None = None,
) -> Action:
    return Action(
        # By place, and nothing that is a default: a Struct looks each keyword up, which is most of what this costs.
        new_id("act", at), agent.id, call.action_type, call.target, 0, outcome, at,
        metadata=call.metadata,
        reserved=reserved,
        rates=call.rates,
        upstream=call.upstream,
        price=call.price,
        policy_hash=call.policy_hash,
        softened=tuple([verdict.reason for verdict in softened]) if softened else (),
        owner_id=agent.owner_id,
        role=agent.role,
        estimated=call.estimated,
        output_cap=call.output_cap,
    )  # fmt: skip


def _room(standings: Sequence[Standing]) -> int:
    """The least room in any enforced budget."""
    rooms = [each.budget.amount - each.spent - each.reserved for each in standings if each.budget.mode == "enforce"]
    return min(rooms, default=ENDLESS)


def _remaining(rules: Rulebook, room: int, reserved: int) -> int | None:
    """What is left of it to tell the caller, once that is reserved."""
    if room == ENDLESS or rules.policy.mode == "shadow":
        return None
    return max(0, room - reserved)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


async def open_embedded(data: Path, clock: Callable[[], int] = _wall_ms) -> EmbeddedLedger:
    """Open the ledger in that folder, for this process alone; a policy must be put in force before it admits.

    Calls left in flight by a process before are expired: charged at their reservation, unconfirmed. Raises
    LedgerDamaged, or LedgerError where the folder is in use or can't be used.
    """
    return EmbeddedLedger(await Store.open(data.absolute(), clock))
