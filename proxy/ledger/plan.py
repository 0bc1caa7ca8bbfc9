"""One kind of call's way through the rules: what it is counted against, worked out once while the periods run."""

from __future__ import annotations

from typing import NamedTuple

from policy.decide import Count, Standing
from proxy.ledger.book import Book, Cell
from proxy.ledger.entries import Hold, LimitHold
from proxy.ledger.port import Agent

# The room there is where no budget binds.
ENDLESS = 1 << 100


class Plan(NamedTuple):
    """Of the calls of ``agent``, as it then was, to one upstream at one price, while ``start_ms`` ≤ at < ``end_ms``.

    ``budgets`` each with its amount and whether it is enforced; ``requests`` and ``flights`` with the most of them.
    """

    agent: Agent
    start_ms: int
    end_ms: int
    holds: tuple[Hold, ...]
    limits: tuple[LimitHold, ...]
    budgets: tuple[tuple[Cell, int, bool], ...]
    requests: tuple[tuple[Cell, int], ...]
    flights: tuple[tuple[tuple[str, str], int], ...]

    def room(self, book: Book, estimate: int | None) -> int | None:
        """The least that an enforced budget has available before the call, if no check of the table would fail; None
        where one would: `decide` says which, and what follows.
        """
        agent = self.agent
        if estimate is None or agent.status == "paused":
            return None
        if agent.per_action_limit is not None and estimate > agent.per_action_limit:
            return None
        least, balances = ENDLESS, book.balances
        for cell, available, enforced in self.budgets:
            balance = balances.get(cell)
            if balance is not None:
                available -= balance.spent + balance.reserved
            if available < estimate and estimate:
                return None
            if enforced and available < least:
                least = available
        for key, most in self.flights:
            if book.flying.get(key, 0) >= most:
                return None
        for cell, most in self.requests:
            if book.rates.get(cell, _NONE)[0] >= most:
                return None
        return least


_NONE = (0, 0)


def plan_of(agent: Agent, standings: list[Standing], counts: list[Count]) -> Plan:
    """It holds while every period of them runs."""
    spans = [each.span for each in standings] + [each.span for each in counts if each.span is not None]
    limits = limits_of(counts)
    most = [each.limit.concurrent if each.limit.requests is None else each.limit.requests for each in counts]
    bound = [(limit, number) for limit, number in zip(limits, most, strict=True) if number is not None]
    return Plan(
        agent,
        max(span.start_ms for span in spans),
        min(span.end_ms for span in spans),
        holds_of(standings),
        limits,
        tuple([(hold[:3], each.budget.amount, each.budget.mode == "enforce") for hold, each in _held(standings)]),
        tuple([(limit[:3], number) for limit, number in bound if limit.end_ms]),
        tuple([(limit[:2], number) for limit, number in bound if not limit.end_ms]),
    )


def _held(standings: list[Standing]) -> list[tuple[Hold, Standing]]:
    return list(zip(holds_of(standings), standings, strict=True))


def holds_of(standings: list[Standing]) -> tuple[Hold, ...]:
    return tuple([(each.budget.name, each.group, each.span.start_ms, each.span.end_ms) for each in standings])


def limits_of(counts: list[Count]) -> tuple[LimitHold, ...]:
    return tuple(
        [
            LimitHold(each.limit.name, each.group, each.span.start_ms, each.span.end_ms)
            if each.span
            else LimitHold(each.limit.name, each.group, 0, 0)
            for each in counts
        ]
    )
