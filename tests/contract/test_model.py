"""Promise 12: whatever happens in whatever order, the ledger is what a model of a few lines says it is."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from policy.model import Policy
from policy.periods import span
from proxy.ledger.port import ActionFilter, Admission, Agent, Call, Settlement
from tests.contract.policies import UTC, agent, budget, policy
from tests.contract.world import Open, World, call

T = TypeVar("T")

AGENTS = ("a", "b")
UPSTREAMS = ("x", "y")
MONTHLY = 500
money = st.integers(0, 120)


def policy_of(day: int, week: int, scoped: bool) -> Policy:
    parts = [
        budget("day", f"0.{day:09d}", each="agent"),
        budget("week", f"0.{week:09d}", "week", upstreams=("x",) if scoped else ()),
    ]
    return policy(*(agent(each, "0.000000500") for each in AGENTS), *parts)


@dataclass
class Held:
    """A reservation of the model: which call, when, for how much."""

    call: Call
    at: int
    amount: int


class Model:
    """All that ever happened, added up anew at each question."""

    def __init__(self) -> None:
        self.spent: list[tuple[Call, int, int]] = []
        self.open: dict[str, Held] = {}
        self.paused: set[str] = set()

    def standing(self, counts: Callable[[Call], bool], start: int, end: int) -> tuple[int, int]:
        spent = sum(cost for made, at, cost in self.spent if counts(made) and start <= at < end)
        held = (each for each in self.open.values() if counts(each.call) and start <= each.at < end)
        return spent, sum(each.amount for each in held)

    def expected(self, w: World, made: Call) -> str:
        """What authorize must answer: the table's order over month, day and week."""
        if made.agent_id in self.paused:
            return "agent_paused"
        reserved = False
        for standing in budgets_of(w, made):
            counts, start, end, amount, name = standing
            spent, held = self.standing(counts, start, end)
            if spent + made.estimate > amount and made.estimate:
                return f"budget_exceeded {name}"
            reserved |= spent + held + made.estimate > amount and made.estimate > 0
        return "budget_reserved" if reserved else "ok"


def budgets_of(w: World, made: Call) -> list[tuple[Callable[[Call], bool], int, int, int, str]]:
    def bounds(period: Any) -> tuple[int, int]:
        found = span(period, w.at, UTC)
        return found.start_ms, found.end_ms

    day, week = w.policy.budgets
    own = lambda other: other.agent_id == made.agent_id  # noqa: E731
    found = [
        (own, *bounds("month"), MONTHLY, "monthly_budget"),
        (own, *bounds("day"), day.amount, "day"),
    ]
    upstreams = week.scope.upstreams
    if not upstreams or made.upstream in upstreams:
        counts = lambda other: not upstreams or other.upstream in upstreams  # noqa: E731
        found.append((counts, *bounds("week"), week.amount, "week"))
    return found


class Machine(RuleBasedStateMachine):
    engine: Open
    calls = Bundle("calls")

    @initialize(day=st.integers(100, 400), week=st.integers(200, 900))
    def begin(self, day: int, week: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.model = Model()
        self.keys: dict[tuple[str, str], tuple[int, Any]] = {}
        self.world = World(self.engine, self.folder, {"first": policy_of(day, week, False)})
        self.do(self.world.start())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.do(self.world.stop())
            self.loop.close()
            shutil.rmtree(self.folder)

    @rule(target=calls, agent_id=st.sampled_from(AGENTS), upstream=st.sampled_from(UPSTREAMS), estimate=money)
    def authorize(self, agent_id: str, upstream: str, estimate: int) -> str:
        made = call(agent_id, estimate, upstream=upstream)
        expected = self.model.expected(self.world, made)
        answer = self.do(self.world.ledger.authorize(made))
        if isinstance(answer, Admission):
            assert expected == "ok"
            self.model.open[answer.action_id] = Held(made, self.world.at, estimate)
            return answer.action_id
        self.denied(made, expected, answer.verdict)
        return ""

    def denied(self, made: Call, expected: str, verdict: Any) -> None:
        reason = verdict.reason if verdict.reason != "budget_exceeded" else f"budget_exceeded {verdict.budget}"
        assert reason == expected
        if expected == "budget_exceeded monthly_budget":
            self.model.paused.add(made.agent_id)

    @rule(action_id=consumes(calls), charge=st.none() | money)
    def settle(self, action_id: str, charge: int | None) -> None:
        held = self.model.open.pop(action_id, None)
        if held is not None:
            cost = held.amount if charge is None else charge
            self.do(self.world.ledger.settle(action_id, Settlement(charge, "success")))
            self.model.spent.append((held.call, held.at, cost))

    @rule(action_id=consumes(calls))
    def void(self, action_id: str) -> None:
        if self.model.open.pop(action_id, None) is not None:
            self.do(self.world.ledger.void(action_id, Settlement(None, "failure")))

    @rule(agent_id=st.sampled_from(AGENTS), cost=money, key=st.none() | st.sampled_from("kl"))
    def record(self, agent_id: str, cost: int, key: str | None) -> None:
        made = call(agent_id, cost, upstream="y")
        known = self.keys.get((agent_id, key)) if key else None
        if known is not None and self.world.at - known[0] < 86_400_000:
            again = self.do(self.world.ledger.record(known[1][0], "success", (key, "digest")))
            assert again == replace(known[1][1], replayed=True)
            return
        expected = self.model.expected(self.world, made)
        recorded = self.do(self.world.ledger.record(made, "success", (key, "digest") if key else None))
        if recorded.denial is None:
            assert expected == "ok"
            self.model.spent.append((made, self.world.at, cost))
            if key:
                self.keys[agent_id, key] = (self.world.at, (made, recorded))
        else:
            self.denied(made, expected, recorded.denial.verdict)
            if key and expected != "budget_reserved":
                # The replay shows the agent as it then is: only what was answered is compared.
                self.keys.pop((agent_id, key), None)
                self.world.at += 86_400_000

    @rule(agent_id=st.sampled_from(AGENTS))
    def resume(self, agent_id: str) -> None:
        assert isinstance(self.do(self.world.ledger.change_agent(agent_id, {"status": "active"})), Agent)
        self.model.paused.discard(agent_id)

    @rule(day=st.integers(50, 400), week=st.integers(100, 900), scoped=st.booleans())
    def reload(self, day: int, week: int, scoped: bool) -> None:
        self.world.policies = {"new": policy_of(day, week, scoped)}
        self.do(self.world.do_use("new"))

    @precondition(lambda self: len(self.model.open) < 4)
    @rule()
    def restart(self) -> None:
        """What is in flight is expired: charged at its reservation."""
        self.do(self.world.restart())
        self.model.spent += [(held.call, held.at, held.amount) for held in self.model.open.values()]
        self.model.open.clear()

    @rule(hours=st.sampled_from([1, 11, 24, 24 * 9, 24 * 31]))
    def forward(self, hours: int) -> None:
        self.world.at += hours * 3_600_000

    @invariant()
    def balances_are_the_models(self) -> None:
        for agent_id in AGENTS:
            month, day, week = self.world.ledger.standings(agent_id)
            for held, (counts, start, end, amount, name) in zip(
                (month, day, week), budgets_of(self.world, call(agent_id, upstream="x")), strict=True
            ):
                assert (held.budget.name, held.budget.amount) == (name, amount)
                assert (held.spent, held.reserved) == self.model.standing(counts, start, end)
            assert (self.world.ledger.agent(agent_id).status == "paused") == (agent_id in self.model.paused)

    @precondition(lambda self: len(self.model.spent) % 7 == 3)
    @invariant()
    def rows_are_the_models(self) -> None:
        rows = self.do(self.world.ledger.actions(ActionFilter(limit=1000, outcome="success"))).items
        told = self.do(self.world.ledger.spend([], None, None))[0]["cost"]
        assert told == sum(cost for _, _, cost in self.model.spent)
        assert len(rows) <= len(self.model.spent)


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
def test_promise_12_any_history_is_the_models(engine: Open) -> None:
    machine = type("Machine", (Machine,), {"engine": staticmethod(engine)})
    run_machine(
        machine,
        settings=settings(
            max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
