"""Any history: what callers, operators, clocks and crashes may do to a ledger, each step held against the model."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from policy.model import Policy
from proxy.ledger.port import (
    Action,
    ActionFilter,
    Adjustment,
    Admission,
    Agent,
    Alert,
    LedgerError,
    Settlement,
)
from tests.contract import histories as some
from tests.contract.accounts import DAY, period
from tests.contract.engines import Engine
from tests.contract.model import Model
from tests.contract.seen import Seen, group_of, matches, see, shows
from tests.contract.world import World, call, ms

T = TypeVar("T")

STARTS = (
    "2026-10-30T22:58:00Z",  # before a month ends, and New York's clocks go back
    "2027-03-13T23:30:00Z",  # before they go forward
    "2011-12-29T09:30:00Z",  # before Apia's day without a 30th
    "2027-12-31T17:00:00Z",
)


class Op(NamedTuple):
    """A method of the ledger, and of the model."""

    name: str
    arguments: tuple[Any, ...]


class Machine(RuleBasedStateMachine):
    engine: Engine

    @initialize(start=st.sampled_from(STARTS), policy=some.policies)
    def begin(self, start: str, policy: Policy) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.world = World(self.engine, self.folder / "data", {"first": policy})
        self.world.at = ms(start)
        self.model = Model()
        self.model.now = self.world.at
        self.policies = [policy]
        self.ids: list[str] = []
        self.keys = 0
        self.alerts: list[Alert] = []
        self.quiet = False
        self.do(self.world.start())
        self.model.use(None, policy)
        self.sound = True

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            if self.sound:
                self.read(ActionFilter(), ["agent", "outcome"])
            self.do(self.world.stop())
            if self.sound:
                assert self.engine.problems(self.world.data) == ()
        finally:
            self.loop.close()
            shutil.rmtree(self.folder)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    # -- callers -------------------------------------------------------------------------------------------------------
    @rule(
        whats=st.lists(some.calls, min_size=2, max_size=4),
        before=st.sampled_from(["preview", "unrecorded"]),
        resumed=st.booleans(),
        quiet=st.booleans(),
    )
    def authorize(self, whats: list[some.What], before: str, resumed: bool, quiet: bool) -> None:
        for what in whats:
            if resumed:
                self.step(self.meant(some.Change(what.agent, {"status": "active"})))
            op = self.meant(what)
            self.step(Op(before, op.arguments))
            self.step(op)
        self.quiet = quiet

    @precondition(lambda self: self.model.open)
    @rule(whats=st.lists(some.endings, min_size=1, max_size=3))
    def end(self, whats: list[some.Ending]) -> None:
        for what in whats:
            self.step(self.meant(what))

    @rule(things=some.several)
    def one_by_one(self, things: list[Any]) -> None:
        for thing in things:
            self.step(self.meant(thing))

    @rule(things=some.several, edits=st.none() | st.lists(some.edits, min_size=1, max_size=2))
    def together(self, things: list[Any], edits: list[some.Edit] | None) -> None:
        ops = [self.meant(thing) for thing in things]
        if edits is not None:
            ops.insert(1, self.reloading(edits))
        self.step(*ops)

    # -- operators -----------------------------------------------------------------------------------------------------
    @rule(what=some.operations)
    def change(self, what: Any) -> None:
        self.step(self.meant(what))

    @rule(edits=st.lists(some.edits, max_size=3), rolled_back=st.booleans())
    def reload(self, edits: list[some.Edit], rolled_back: bool) -> None:
        self.step(self.reloading(edits))
        if rolled_back:
            self.agrees()
            self.step(self.reloading([some.Edit("as it was", 1, None)]))

    # -- webhooks ------------------------------------------------------------------------------------------------------
    @precondition(lambda self: self.quiet or self.model.outbox)
    @rule(which=some.few, how=some.sent)
    def deliver(self, which: int, how: str) -> None:
        self.quiet = False
        self.agrees()
        ledger, outbox, held = self.world.ledger, self.model.outbox, self.world.ledger.deliveries()
        if not held:
            return
        self.sound, self.model.now, each = False, self.now(), held[which % len(held)]
        place = (each.alert.id, each.webhook)
        if how == "tried":
            ledger.tried(each.id, "status 500", self.now() + 1000)
            return
        if how == "redeliver":
            again = self.do(ledger.redeliver(each.id))
            assert (again is not None) == outbox[place]
            outbox[place] = False
            if again is not None:
                self.model.commit()
            return
        self.do(ledger.delivered(each.id) if how == "delivered" else ledger.give_up(each.id, "status 410"))
        outbox.pop(place)
        if how == "give_up":
            outbox[place] = True
        self.model.commit()

    # -- time and crashes ----------------------------------------------------------------------------------------------
    @rule(what=some.passing)
    def pass_or_restart(self, what: some.Time | some.Restart) -> None:
        match what:
            case some.Restart(killed, lost):
                self.restart(killed, lost)
            case some.Time("forward", length):
                self.world.at = self.now() + length
            case some.Time("edge", before, place):
                budgets = (self.model.month(), *self.model.policy.budgets)
                budget = budgets[place % len(budgets)]
                end = period(budget.period, budget.zone, self.now())[1] - before
                self.world.at = end if end < self.now() + 400 * DAY else self.now()
            case some.Time("back", length):
                if self.model.counted:
                    on_record = Adjustment(next(iter(self.model.agents)), 0, "so that now is on record")
                    self.step(Op("adjust", (on_record, None)))
                self.world.at -= length

    def restart(self, killed: bool, lost: set[int]) -> None:
        """What was in flight expires; denials of the last second are perhaps not counted, where it was killed."""
        if killed:
            self.agrees()
        waiting = [each for name in ("h", "i", "j") for each in self.world.ledger.waiting(name)]
        data = self.engine.killed(self.world.data) if killed else self.world.data
        self.do(self.world.stop())
        self.world.data = data
        for which in sorted(lost):
            self.engine.lose(data, self.engine.rebuilt[which % len(self.engine.rebuilt)])
        self.do(self.world.start())
        held = [each for name in ("h", "i", "j") for each in self.world.ledger.waiting(name)]
        assert held == [replace(each, attempts=0, last_error=None, next_at=each.since) for each in waiting]
        self.model.now = self.now()
        self.model.expire()

    # -- one step ------------------------------------------------------------------------------------------------------
    def now(self) -> int:
        return max(self.world.at, self.model.recorded_at)

    def meant(self, what: Any) -> Op:
        """What is drawn, as of this moment."""
        match what:
            case some.What(agent, estimate, upstream, price):
                return Op("authorize", (call(agent, estimate, upstream=upstream, price=price),))
            case some.Record(of, outcome, key):
                return Op("record", (*self.meant(of).arguments, outcome, key))
            case some.Ending(which, charge, outcome, unconfirmed):
                ids = list(self.model.open) if which < 6 else self.ids
                action_id = ids[-1 - which % len(ids)] if ids else "act_there_is_none"
                draft = self.model.open[action_id].draft if action_id in self.model.open else None
                cost = some.CHARGES[charge](draft.reserved if draft else 1)
                settlement = Settlement(cost, outcome, {"units": 2}, unconfirmed)
                return Op("void" if charge == "void" else "settle", (action_id, settlement))
            case some.Adjust(agent, amount, target, ago, key):
                at = None if ago is None else self.now() - ago
                return Op("adjust", (Adjustment(agent, amount, "so", target, at), key))
            case some.Change(agent, fields):
                return Op("change_agent", (agent, fields))
            case Agent():
                return Op("create_agent", (what,))
            case some.NewKey(agent, lasts_ms, retire_others_ms):
                self.keys += 1
                expires_at = None if lasts_ms is None else self.now() + lasts_ms
                return Op("add_key", (agent, f"digest {self.keys}", expires_at, retire_others_ms))
            case some.Revoked(agent, which):
                held = self.model.agents[agent].keys if agent in self.model.agents else ()
                return Op("revoke_key", (agent, held[which].id if which < len(held) else "key_there_is_none"))
        raise AssertionError(what)

    def reloading(self, edits: list[some.Edit]) -> Op:
        policy = self.world.policy
        for edit in edits:
            policy = some.edited(policy, edit, self.policies)
        self.world.policy = replace(policy, hash=f"version {len(self.policies)}")
        self.policies.append(self.world.policy)
        return Op("use", (self.world.policy,))

    def step(self, *ops: Op) -> None:
        """Do them at once: what is answered, and what then shows, is the model's in some order."""
        self.sound = False
        self.model.now = self.now()
        self.model.at_once = Counter(_slot(op) for op in ops)
        done = self.do(self.done(ops))
        if len(ops) == 1:
            self.take(self.model, done)
        else:
            self.model = self.explained(done, self.do(see(self.world.ledger, self.alerts)))
        self.ids += [
            answer.action_id for op, answer in done if op.name == "authorize" and isinstance(answer, Admission)
        ]

    async def done(self, ops: Sequence[Op]) -> list[tuple[Op, Any]]:
        """Each with its answer, in the order in which they came."""
        answers: list[tuple[Op, Any]] = []

        async def ask(op: Op) -> None:
            try:
                answer = await getattr(self.world.ledger, op.name)(*op.arguments)
            except (LedgerError, ValueError) as error:
                answer = error
            answers.append((op, answer))

        await asyncio.gather(*map(ask, ops))
        return answers

    def explained(self, done: list[tuple[Op, Any]], seen: Seen) -> Model:
        """The model after them, in the first order that explains what was seen."""
        errors = []
        for order in permutations(done):
            model = deepcopy(self.model)
            try:
                self.take(model, order)
                shows(model, seen)
            except (AssertionError, AttributeError) as error:
                errors.append(error)
            else:
                return model
        raise AssertionError(f"no order explains {done}") from errors[0]

    def take(self, model: Model, done: Iterable[tuple[Op, Any]]) -> None:
        for op, answer in done:
            getattr(model, op.name)(answer, *op.arguments)

    @invariant()
    def agrees(self) -> None:
        if not self.quiet:
            self.model.now = self.now()
            seen = self.do(see(self.world.ledger, self.alerts))
            shows(self.model, seen)
            self.alerts += seen.alerts
            self.model.outbox |= seen.outbox
            self.model.alerts.clear()
            if self.model.counted:
                self.model.commit()
        self.quiet, self.sound = False, True

    # -- reads ---------------------------------------------------------------------------------------------------------
    @rule(query=some.filters, groups=some.groups, between=st.none() | st.tuples(some.few, some.few), alert=some.few)
    def read(self, query: ActionFilter, groups: list[str], between: Any = None, alert: int | None = None) -> None:
        """Every list, look-up and total, each row once whatever the page; an alert is marked as read."""
        if alert is not None and alert < len(self.alerts):
            self.acknowledge(-1 - alert)
        rows = self.model.listed()
        if between and rows:
            since, until = (rows[place % len(rows)].created_at for place in between)
            query = replace(query, since=since, until=until)
        expected = [row for row in rows if matches(query, row)]
        found: list[Action] = []
        more = True
        while more:
            page = self.do(self.world.ledger.actions(query))
            found += page.items
            query = replace(query, cursor=page.next_cursor)
            more = page.next_cursor is not None
        assert found == expected
        assert self.do(self.exported(query)) == expected[::-1]
        for row in rows[:3]:
            assert self.do(self.world.ledger.action(row.id)) == row
        within = [row for row in rows if matches(ActionFilter(since=query.since, until=query.until), row)]
        totals, counts = Counter({(): 0} if not groups else {}), Counter({(): 0} if not groups else {})
        of_agent = query.agent_id if query.limit % 2 else None
        for row in within:
            if of_agent in (None, row.agent_id):
                by = group_of(row, groups, self.model.policy.zone)
                totals[by] += row.cost
                counts[by] += row.count
        spend = self.do(self.world.ledger.spend(groups, query.since, query.until, of_agent))
        told = {tuple(each[group] for group in groups): (each["cost"], each["actions"]) for each in spend}
        assert told == {key: (totals[key], counts[key]) for key in counts}
        self.model.now = self.now()
        if self.model.counted:
            self.model.commit()

    def acknowledge(self, place: int) -> None:
        alert = self.alerts[place]
        if alert.acknowledged_at is None:
            alert = self.alerts[place] = replace(alert, acknowledged_at=self.now())
            self.model.now = self.now()
            self.model.commit()
        assert self.do(self.world.ledger.acknowledge(alert.id)) == alert

    async def exported(self, query: ActionFilter) -> list[Action]:
        return [action async for action in self.world.ledger.export(query)]


def _slot(op: Op) -> tuple[str, str]:
    """Whose Idempotency-Key it comes with, and which."""
    of, *_, key = op.arguments if op.name in ("record", "adjust") else (None, None)
    if key is None or of is None:
        return "", ""
    return of.agent_id, f"adjust {key[0]}" if op.name == "adjust" else key[0]
