"""An adjustment: the line that corrects what was spent, and the balances it moves."""

from __future__ import annotations

from proxy.ledger import notices
from proxy.ledger.book import Book
from proxy.ledger.entries import Entry, Idempotency, dumps
from proxy.ledger.ids import new_id
from proxy.ledger.plan import holds_of
from proxy.ledger.port import ADJUST, Action, Adjustment
from proxy.ledger.rulebook import Rulebook


def adjust_entry(
    book: Book, rules: Rulebook, adjustment: Adjustment, idempotency: Idempotency | None, now: int
) -> Entry:
    """It moves the budgets that would count such a call, where the period of its date still runs: what has ended stays
    as it was judged by, and only totals show it. A budget opened later adds up the same rows. Raises ValueError for a
    date later than now.
    """
    agent = book.agents[adjustment.agent_id]
    at = now if adjustment.at is None else adjustment.at
    if not 0 <= at <= now:
        raise ValueError("an adjustment is of now or earlier")
    upstream = "" if adjustment.target is None else adjustment.target.partition(":")[0]
    action = Action(
        id=new_id("act", now),
        agent_id=agent.id,
        action_type=ADJUST,
        target=ADJUST if adjustment.target is None else adjustment.target,
        cost=adjustment.amount,
        outcome="success",
        created_at=at,
        metadata=dumps({"reason": adjustment.reason}),
        ending="adjusted",
        upstream=upstream,
        policy_hash=rules.policy.hash,
        owner_id=agent.owner_id,
        role=agent.role,
    )
    running = holds_of(rules.standings(book, rules.match(agent, upstream, None), now))
    holds = tuple([hold for hold in running if hold[2] <= at])
    alerts = notices.of_ending(book, rules, agent, action, holds, now)
    return Entry("adjust", now, action=action, holds=holds, alerts=alerts, idempotency=idempotency)
