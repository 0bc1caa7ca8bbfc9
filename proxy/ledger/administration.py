"""Agents, and the policy in force, on the embedded engine."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from policy.decide import TRANSIENT, Standing
from policy.model import Budget, Policy
from policy.periods import Span
from proxy.ledger import queries, spending
from proxy.ledger.adjusting import adjust_entry
from proxy.ledger.answers import Answers
from proxy.ledger.delivering import Delivering
from proxy.ledger.entries import Entry, Idempotency
from proxy.ledger.ids import new_id
from proxy.ledger.keys import with_key, without_key
from proxy.ledger.opening import policy_entry, spent_by, unseen
from proxy.ledger.port import (
    ADJUST,
    POLICY_KEY,
    Action,
    Adjustment,
    Agent,
    AgentUnknown,
    Alert,
    Health,
    Key,
    LedgerError,
    LedgerUnavailable,
    ManagedField,
    Recorded,
)
from proxy.ledger.rulebook import Rulebook
from proxy.ledger.spending import Spent
from proxy.ledger.store import Store

log = logging.getLogger("agent_ledger.ledger")

_CHANGEABLE = frozenset(Agent.__dataclass_fields__) - {"id", "created_at", "managed", "keys"}


class Administration(Delivering):
    """``_rules`` is the snapshot in force: None until a policy is used, and then nothing can be authorized."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._rules: Rulebook | None = None
        # The policy file's keys, hashed, and whose they are: in memory only.
        self._file_keys: dict[str, str] = {}
        self._file_key_of: dict[str, Key] = {}
        self._views: dict[str, tuple[Agent, Agent]] = {}
        self._using = asyncio.Lock()
        self._answers = Answers(store)

    async def use(self, policy: Policy) -> None:
        async with self._using:
            store, rules = self._store, Rulebook(policy)
            opens, spent = await self._spent(rules)
            entry = policy_entry(store.book, rules, opens, spent, store.now())
            if entry is not None:
                entry.alerts = unseen(opens, store.index.whole_from, entry.at)
            dropped = store.book.outbox.held_for_others(rules.webhooks)
            seq = store.commit(entry) if entry is not None else 0
            store.index.sum_by(policy.zone)
            for name, count in dropped.items():
                log.warning("webhook %s left the policy: %d alerts that waited for it are not sent", name, count)
            self._rules, self._strict = rules, policy.durability == "strict"
            store.book.told_to.clear()  # perhaps other thresholds
            keyed = [(spec.id, spec.key) for spec in policy.agents.values() if spec.key is not None]
            self._file_key_of = {agent_id: Key(_digest(key), POLICY_KEY) for agent_id, key in keyed}
            self._views.clear()
            self._file_keys = {key.digest: agent_id for agent_id, key in self._file_key_of.items()}
            await self._durable(seq)

    async def _spent(self, rules: Rulebook) -> tuple[dict[str, Span], dict[Span, list[Spent]]]:
        """The budgets to open, and what was spent in their periods, as of this moment of the loop.

        The index is asked in a thread while calls go on being settled: those it had not seen are on the tape.
        """
        store = self._store
        while True:
            opens = rules.opens(store.book, store.now())
            spent: dict[Span, list[Spent]] = {}
            seen: dict[Span, int] = {}
            tape: list[tuple[int, Action]] = []
            store.tape = tape
            try:
                for span in set(opens.values()):
                    await store.index.reach(store.journal.tip)
                    zone = store.index.zone
                    query = partial(spending.spent, since=span.start_ms, until=span.end_ms, zone=zone)
                    seen[span], spent[span] = await store.index.read(query)
            finally:
                store.tape = None
            if opens != rules.opens(store.book, store.now()):
                continue  # a period ended while we asked
            for span, rows in spent.items():
                rows += [
                    spent_by(action)
                    for seq, action in tape
                    if seq > seen[span] and span.start_ms <= action.created_at < span.end_ms
                ]
            return opens, spent

    # -- agents --------------------------------------------------------------------------------------------------------
    def agent(self, agent_id: str) -> Agent | None:
        agent = self._store.book.agents.get(agent_id)
        return agent and self._view(agent)

    def agent_by_key(self, digest: str) -> Agent | None:
        agent_id = self._file_keys.get(digest)
        if agent_id is None and (held := self._store.book.keys.get(digest)) is not None:
            agent_id, key = held
            if key.expires_at is not None and not key.in_force(self._store.now()):
                return None
        agent = self.agent(agent_id) if agent_id is not None else None
        return None if agent is None or agent.archived else agent

    def agents(self) -> Sequence[Agent]:
        held = (agent for agent in self._store.book.agents.values() if not agent.archived)
        return [self._view(agent) for agent in sorted(held, key=lambda agent: agent.created_at)]

    def _view(self, agent: Agent) -> Agent:
        """The agent with the policy file's key among its own; made once for each state of it."""
        key = self._file_key_of.get(agent.id)
        if key is None:
            return agent
        seen = self._views.get(agent.id)
        if seen is None or seen[0] is not agent:
            seen = self._views[agent.id] = (agent, replace(agent, keys=(*agent.keys, key)))
        return seen[1]

    async def create_agent(self, agent: Agent) -> Agent:
        store = self._store
        at = store.now()
        keys = tuple(
            replace(key, id=key.id or new_id("key", at), created_at=key.created_at or at) for key in agent.keys
        )
        made = replace(agent, id=agent.id or new_id("agt", at), created_at=agent.created_at or at, keys=keys)
        if made.id in store.book.agents:
            raise LedgerError(f"there is already an agent {made.id}")
        seq = store.commit(Entry("agent", at, agents=(made,)))
        await self._durable(seq)
        return self._view(made)

    async def change_agent(self, agent_id: str, changes: Mapping[str, Any]) -> Agent:
        agent = self._held(agent_id, archived=changes.get("archived") is False)
        changed = replace(agent, **self._checked(agent, changes))
        await self._put(agent, changed)
        return self._view(changed)

    def _held(self, agent_id: str, *, archived: bool = False) -> Agent:
        """Without the policy file's key. Raises AgentUnknown, also for an archived one unless that is allowed."""
        agent = self._store.book.agents.get(agent_id)
        if agent is None or (agent.archived and not archived):
            raise AgentUnknown(f"no agent {agent_id}")
        return agent

    async def _put(self, agent: Agent, changed: Agent) -> None:
        told = changed != agent
        await self._durable(self._store.commit(Entry("agent", self._store.now(), agents=(changed,))) if told else 0)

    def _checked(self, agent: Agent, changes: Mapping[str, Any]) -> dict[str, Any]:
        unknown = changes.keys() - _CHANGEABLE
        if unknown:
            raise LedgerError(f"not a field of an agent that can change: {', '.join(sorted(unknown))}")
        managed = sorted(name for name in changes if name in agent.managed or (name == "archived" and agent.managed))
        if managed:
            raise ManagedField(f"the policy file manages {', '.join(managed)} of agent {agent.id}")
        checked = dict(changes)
        if checked.get("status") == "active":
            checked["paused_reason"] = None
        elif checked.get("status") == "paused":
            checked.setdefault("paused_reason", "paused by operator")
        return checked

    async def add_key(
        self, agent_id: str, digest: str, expires_at: int | None = None, retire_others_ms: int | None = None
    ) -> Key:
        agent, at = self._held(agent_id), self._store.now()
        key = Key(digest, new_id("key", at), at, expires_at)
        retire_others_at = None if retire_others_ms is None else at + retire_others_ms
        await self._put(agent, with_key(agent, key, retire_others_at, at))
        return key

    async def revoke_key(self, agent_id: str, key_id: str) -> Key | None:
        if key_id == POLICY_KEY and agent_id in self._file_key_of:
            raise ManagedField(f"the policy file states this key of agent {agent_id}")
        agent = self._held(agent_id)
        changed = without_key(agent, key_id, self._store.now())
        await self._put(agent, changed)
        return next((key for key in changed.keys if key.id == key_id), None)

    def standings(self, agent_id: str) -> Sequence[Standing]:
        agent = self._store.book.agents.get(agent_id)
        if agent is None or self._rules is None:
            return ()
        return self._rules.standings_of(self._store.book, agent, self._store.now())

    def standing(self, budget: Budget, group: str) -> Standing:
        store = self._store
        if self._rules is None:
            raise LedgerUnavailable("no policy is in force yet")
        return self._rules.standing(store.book, budget, group, store.now())

    # -- adjusting -----------------------------------------------------------------------------------------------------
    async def adjust(self, adjustment: Adjustment, idempotency: tuple[str, str] | None = None) -> Recorded:
        if adjustment.agent_id not in self._store.book.agents:
            raise AgentUnknown(f"no agent {adjustment.agent_id}")
        if idempotency is not None:
            # Apart from the agent's own keys, which have no space: it can't take one before the admin does.
            idempotency = (f"{ADJUST} {idempotency[0]}", idempotency[1])
        return await self._once(adjustment.agent_id, idempotency, partial(self._adjust, adjustment))

    def _adjust(self, adjustment: Adjustment, idempotency: Idempotency | None) -> tuple[Recorded, int]:
        store, rules = self._store, self._admitting()
        entry = adjust_entry(store.book, rules, adjustment, idempotency, store.now())
        return Recorded(entry.action, None), store.commit(entry)

    async def _once(
        self,
        agent_id: str,
        idempotency: tuple[str, str] | None,
        record: Callable[[Idempotency | None], tuple[Recorded, int]],
    ) -> Recorded:
        """What ``record`` makes, with its sequence; or, where the key was already answered, that again."""
        if idempotency is None:
            recorded, seq = record(None)
            await self._durable(seq)
            return recorded
        key, digest = (agent_id, idempotency[0]), idempotency[1]
        with self._answers.giving(key):
            held = await self._answers.given(key, digest)
            if held is not None:
                await self._durable()
                return replace(held, denial=held.denial and replace(held.denial, agent=self.agent(agent_id)))
            recorded, seq = record(Idempotency(*idempotency))
            if recorded.denial is None or recorded.denial.verdict.reason not in TRANSIENT:
                self._answers.keep(key, digest, seq, recorded)
            await self._durable(seq)
            return recorded

    # -- the rest ------------------------------------------------------------------------------------------------------
    async def acknowledge(self, alert_id: str) -> Alert | None:
        store = self._store
        alert = store.book.alerts.get(alert_id)
        if alert is None:
            await store.caught_up()
            alert = await store.index.read(partial(queries.alert, alert_id=alert_id))
        if alert is None or alert.acknowledged_at is not None:
            await self._durable()
            return alert
        at = store.now()
        await self._durable(store.commit(Entry("acknowledge", at, id=alert_id)))
        return replace(alert, acknowledged_at=at)

    def health(self) -> Health:
        store = self._store
        why = store.journal.failure or store.disk_low or ("" if self._rules else "no policy is in force yet")
        passed = self._unrecorded.warning()
        warnings = store.warnings() if passed is None else (*store.warnings(), passed)
        journal, tip = store.journal, store.journal.tip
        since = journal.waiting_since
        return Health(
            not why,
            why,
            tip.seq,
            tip.head,
            warnings,
            unsynced=tip.seq - journal.synced.seq,
            unsynced_ms=0 if since is None else store.now() - since,
            unindexed=tip.seq - store.index.applied,
            checkpoint_ok=store.checkpoint_ok,
        )

    def _admitting(self) -> Rulebook:
        """The rules to admit by. Raises LedgerUnavailable."""
        why = self._store.journal.failure or self._store.disk_low
        if why is not None:
            raise LedgerUnavailable(why)
        if self._rules is None:
            raise LedgerUnavailable("no policy is in force yet")
        return self._rules

    async def close(self) -> None:
        await self._store.close()


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
