"""Putting a policy in force: the line that brings the book's agents, budgets and webhooks to what the file says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from policy.model import MONTHLY_BUDGET, AgentSpec, Policy
from policy.periods import Span
from proxy.ledger.book import Book
from proxy.ledger.entries import Entry, Hold, Notice, Opened
from proxy.ledger.journal import month_of
from proxy.ledger.notices import notice
from proxy.ledger.port import Action, Agent
from proxy.ledger.rulebook import Rulebook
from proxy.ledger.spending import Spent

_FIELDS = ("name", "role", "owner_id", "monthly_budget", "per_action_limit", "auto_resume")


def policy_entry(
    book: Book, rules: Rulebook, opens: Mapping[str, Span], spent: Mapping[Span, Iterable[Spent]], at: int
) -> Entry | None:
    """None where the book already says what the policy does.

    A budget that ``opens`` holds what the actions authorized in its running period cost (``spent``, by period), and
    calls in flight authorized in it are held against it too: what they will cost is not admitted a second time.
    """
    agents = tuple(_changed_agents(book, rules.policy, at))
    if not agents and (rules.terms, rules.webhooks) == (book.budgets, book.outbox.webhooks):
        return None
    totals: dict[Hold, int] = {}
    for span in set(opens.values()):
        for kind in spent[span]:
            for hold in _holds(rules, opens, span, kind):
                totals[hold] = totals.get(hold, 0) + kind.cost
    reheld = {}
    for action_id, reservation in book.open.items():
        action = reservation.action
        holds = [hold for span in _spans_at(opens, action) for hold in _holds(rules, opens, span, spent_by(action))]
        if holds:
            reheld[action_id] = tuple(holds)
    opened = tuple(Opened(*hold, total) for hold, total in totals.items())
    return Entry(
        "policy", at, agents=agents, budgets=rules.terms, opened=opened, reheld=reheld, webhooks=rules.webhooks
    )


def unseen(opens: Mapping[str, Span], whole_from: int, at: int) -> tuple[Notice, ...]:
    """An alert for the budgets whose running period began before what is known of it: too little counts as spent."""
    short = [name for name, span in opens.items() if span.start_ms < whole_from]
    if not short:
        return ()
    message = (
        f"{', '.join(short)}: opened with what was spent from {month_of(whole_from)} on. The months before are neither "
        "in the journal's folder nor in the read index: too little may count as spent."
    )
    return (notice(at, None, "history_missing", message),)


def spent_by(action: Action) -> Spent:
    return Spent(action.agent_id, action.owner_id, action.role, action.upstream, action.price, action.cost)


def _spans_at(opens: Mapping[str, Span], action: Action) -> set[Span]:
    return {span for span in opens.values() if span.start_ms <= action.created_at < span.end_ms}


def _holds(rules: Rulebook, opens: Mapping[str, Span], span: Span, kind: Spent) -> list[Hold]:
    """The budgets to open with that period which count such calls."""
    matched = [(MONTHLY_BUDGET, kind.agent_id)]
    matched += [(budget.name, group) for budget, group in rules.budgets_for(*kind[:5])]
    return [(name, group, span.start_ms, span.end_ms) for name, group in matched if opens.get(name) == span]


def _changed_agents(book: Book, policy: Policy, at: int) -> Iterable[Agent]:
    for spec in policy.agents.values():
        agent = _as_specified(book.agents.get(spec.id), spec, at)
        if agent != book.agents.get(spec.id):
            yield agent
    for agent in book.agents.values():
        if agent.managed and not agent.archived and agent.id not in policy.agents:
            yield replace(agent, archived=True)


def _as_specified(agent: Agent | None, spec: AgentSpec, at: int) -> Agent:
    """``id`` is among what is managed: an agent of the file is the file's to archive."""
    managed = spec.managed | {"id"}
    if agent is None:
        stated = {name: getattr(spec, name) for name in _FIELDS}
        return Agent(id=spec.id, created_at=at, managed=managed, **stated)
    stated = {name: getattr(spec, name) for name in _FIELDS if name in managed}
    return replace(agent, archived=False, managed=managed, **stated)
