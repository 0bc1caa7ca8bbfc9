"""An auditor's list of agents and of the policies in force: what operators do, on the accounts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from policy.model import AgentSpec, Policy
from proxy.ledger.port import Agent, AgentUnknown, Key, LedgerError, ManagedField
from tests.contract.accounts import ENDLESS, MONTH, Accounts, terms

FILED = ("name", "role", "owner_id", "monthly_budget", "per_action_limit", "auto_resume")


def raises(answer: Any, error: type[Exception]) -> None:
    assert type(answer) is error, answer


def same(answer: Agent, agent: Agent) -> None:
    """But for the words after a pause's reason."""
    why = answer.paused_reason and answer.paused_reason.split(":")[0]
    assert replace(answer, paused_reason=why) == agent


class Roster(Accounts):
    def known(self, answer: Any, agent_id: str) -> bool:
        agent = self.agents.get(agent_id)
        if agent is None or agent.archived:
            raises(answer, AgentUnknown)
            return False
        return True

    def agent_changed(self, agent: Agent) -> Agent:
        before = self.agents.get(agent.id)
        if agent != before:
            self.agents[agent.id] = agent
            if before is not None and before.monthly_budget != agent.monthly_budget:
                self.rearm(MONTH, agent.id)
            if agent.paused_reason != "budget_exceeded":
                self.exhausted.pop(agent.id, None)
            self.commit()
        return agent

    def create_agent(self, answer: Any, agent: Agent) -> None:
        if agent.id in self.agents:
            return raises(answer, LedgerError)
        self.agent_changed(replace(agent, created_at=self.now))
        return same(answer, self.agents[agent.id])

    def change_agent(self, answer: Any, agent_id: str, changes: Mapping[str, Any]) -> None:
        agent = self.agents.get(agent_id)
        if agent is None or (agent.archived and changes.get("archived") is not False):
            return raises(answer, AgentUnknown)
        if agent.managed & ({*changes, "id"} if "archived" in changes else {*changes}):
            return raises(answer, ManagedField)
        status = changes.get("status")
        why = {"active": None, "paused": "paused by operator"}.get(status or "", agent.paused_reason)
        self.agent_changed(replace(agent, **{**changes, "paused_reason": why}))
        return same(answer, self.agents[agent_id])

    def use(self, answer: Any, policy: Policy) -> None:
        assert answer is None, answer
        was, self.policy = self.terms, policy
        hooks, self.webhooks = self.webhooks, {hook.name: hook.types for hook in policy.webhooks}
        self.terms = {each.name: terms(each) for each in (*policy.budgets, self.month())}
        if was != self.terms or hooks != self.webhooks:
            self.commit()
        self.outbox = {place: dead for place, dead in self.outbox.items() if place[1] in self.webhooks}
        for i, told in enumerate(self.alerts):
            self.alerts[i] = told._replace(webhooks=tuple(name for name in told.webhooks if name in self.webhooks))
        for name in {*was, *self.terms}:
            if was.get(name) != self.terms.get(name):
                self.rearm(name)
            if was.get(name, ())[:1] != self.terms.get(name, ())[:1]:
                self.since[name] = self.now
        for spec in policy.agents.values():
            self.agent_changed(self.specified(spec))
        for agent in self.agents.values():
            if agent.managed and agent.id not in policy.agents and not agent.archived:
                self.agent_changed(replace(agent, archived=True))

    def specified(self, spec: AgentSpec) -> Agent:
        agent, filed = self.agents.get(spec.id), {name: getattr(spec, name) for name in FILED}
        if agent is None:
            return Agent(id=spec.id, created_at=self.now, managed=spec.managed | {"id"}, **filed)
        stated = {name: value for name, value in filed.items() if name in spec.managed}
        return replace(agent, archived=False, managed=spec.managed | {"id"}, **stated)

    def add_key(
        self, answer: Any, agent_id: str, digest: str, expires_at: int | None, retire_others_ms: int | None
    ) -> None:
        if self.known(answer, agent_id):
            key, agent = Key(digest, answer.id, self.now, expires_at), self.agents[agent_id]
            until = ENDLESS if retire_others_ms is None else self.now + retire_others_ms
            self.agent_changed(replace(agent, keys=(*(ending(each, until) for each in agent.keys), key)))
            assert answer == key

    def revoke_key(self, answer: Any, agent_id: str, key_id: str) -> None:
        if self.known(answer, agent_id):
            agent = self.agents[agent_id]
            keys = {each.id: ending(each, self.now) if each.id == key_id else each for each in agent.keys}
            self.agent_changed(replace(agent, keys=tuple(keys.values())))
            assert answer == keys.get(key_id)

    def agent_by_key(self, digest: str) -> str | None:
        """Whose call it opens."""
        for agent in self.agents.values():
            if any(key.digest == digest and self.now < (key.expires_at or ENDLESS) for key in agent.keys):
                return None if agent.archived else agent.id
        return None


def ending(key: Key, at: int) -> Key:
    return replace(key, expires_at=at) if at < min(ENDLESS, key.expires_at or ENDLESS) else key
