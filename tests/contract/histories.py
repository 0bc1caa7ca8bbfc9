"""What can happen to a ledger, as hypothesis draws it: small worlds, where amounts, names and moments often meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from policy.model import AgentSpec, Budget, Limit, Policy, Scope
from policy.periods import PERIODS
from proxy.ledger.port import ActionFilter, Agent

AGENTS = ("a", "b", "c")
OWNERS = ("t", "u")
ROLES = ("", "r")
UPSTREAMS = ("x", "y")
PRICES = ("p", None)
HUGE = 10**18  # the most that the API and the policy take
HOUR, DAY = 3_600_000, 86_400_000

ZONES = [ZoneInfo(name) for name in ("UTC", "America/New_York", "Pacific/Apia", "Asia/Kathmandu")]

few = st.integers(0, 7)
agent_ids = st.sampled_from("aaaaaabbbc")
money = st.integers(1, 120) | st.integers(1, 40) | st.integers(1, 40) | st.sampled_from([0, 1, 150, HUGE])
amounts = st.sampled_from([100, 150, 250, 400, 1000, 10**6, 60, 1, 0])
modes = st.sampled_from(["enforce", "enforce", "enforce", "shadow"])
keys = st.none() | st.tuples(st.sampled_from("kl"), st.sampled_from(["digest", "digest", "another"]))


# -- calls and their endings -------------------------------------------------------------------------------------------
class What(NamedTuple):
    """A call. ``estimate`` None: it can't be priced."""

    agent: str
    estimate: int | None
    upstream: str
    price: str | None


class Ending(NamedTuple):
    """Of the call admitted ``which`` before the last, ended already or not; ``charge`` names one of CHARGES."""

    which: int
    charge: str
    outcome: str
    unconfirmed: bool


CHARGES: Mapping[str, Any] = {
    "reserved": lambda reserved: None,
    "nothing": lambda reserved: 0,
    "less": lambda reserved: reserved // 2,
    "same": lambda reserved: reserved,
    "more": lambda reserved: reserved + 1,
    "much more": lambda reserved: reserved + 150,
    "void": lambda reserved: 7,
}


class Record(NamedTuple):
    what: What
    outcome: str
    key: tuple[str, str] | None


class Adjust(NamedTuple):
    agent: str
    amount: int
    target: str | None
    ago: int | None
    key: tuple[str, str] | None


class Change(NamedTuple):
    agent: str
    fields: dict[str, Any]


class NewKey(NamedTuple):
    """For that agent, for so many ms (None: for good); its others end in ``retire_others_ms``."""

    agent: str
    lasts_ms: int | None
    retire_others_ms: int | None


class Revoked(NamedTuple):
    """One of that agent's keys, or none there is."""

    agent: str
    which: int


class Time(NamedTuple):
    """``forward`` or ``back`` by ms, or to the ``edge``: so many ms before the end of one of the periods that run."""

    way: str
    length: int
    place: int


class Restart(NamedTuple):
    """After a kill, or a clean end; ``lost`` is what the engine has to build anew."""

    killed: bool
    lost: set[int]


calls = st.builds(
    What, agent_ids, money | money | money | money | st.none(), st.sampled_from(UPSTREAMS), st.sampled_from(PRICES)
)
outcomes = st.sampled_from(["success", "success", "failure"])
endings = st.builds(Ending, few, st.sampled_from(list(CHARGES)), outcomes, st.booleans())
records = st.builds(Record, calls, outcomes, keys)
adjustments = st.builds(
    Adjust,
    agent_ids,
    st.integers(-150, 150) | st.just(-HUGE),
    st.none() | st.sampled_from(["x:m", "other"]),
    st.none() | st.sampled_from([-1, 0, 60_000, DAY, 40 * DAY, 60 * 365 * DAY]),
    keys,
)
times = st.one_of(
    st.builds(
        Time, st.just("forward"), st.sampled_from([1, 999, 59_999, 60_000, 3_600_000, DAY - 3_600_000]), st.just(0)
    ),
    st.builds(Time, st.just("forward"), st.sampled_from([DAY, 7 * DAY, 31 * DAY, 366 * DAY]), st.just(0)),
    st.builds(Time, st.just("edge"), st.integers(0, 1), few),
    st.builds(Time, st.just("edge"), st.integers(0, 1), few),
    st.builds(Time, st.just("back"), st.sampled_from([1, HOUR, DAY, 31 * DAY]), st.just(0)),
)
restarts = st.builds(Restart, st.booleans(), st.sets(st.integers(0, 1)))
profile: Mapping[str, st.SearchStrategy[Any]] = {
    "name": st.sampled_from(["N", "M"]),
    "role": st.sampled_from(ROLES),
    "owner_id": st.sampled_from(OWNERS),
    "monthly_budget": st.sampled_from([10**6, 1000, 400, 10**6, 400, 150, 60, 0]),
    "per_action_limit": st.sampled_from([None, None, None, 100, 50, 0]),
    "auto_resume": st.booleans(),
}
changed: Mapping[str, st.SearchStrategy[Any]] = {
    **profile,
    "status": st.sampled_from(["active", "paused"]),
    "archived": st.booleans(),
}
one_field = st.sampled_from([*changed, "monthly_budget", "auto_resume"]).flatmap(
    lambda name: st.fixed_dictionaries({name: changed[name]})
)
fields = st.just({"status": "active"}) | one_field | one_field | one_field | st.fixed_dictionaries({}, optional=changed)
changes = st.builds(Change, agent_ids, fields)
ends = st.sampled_from([None, None, 0, HOUR, DAY])
key_changes = st.builds(NewKey, agent_ids, ends, ends) | st.builds(Revoked, agent_ids, st.integers(0, 2))
several = st.lists(calls | calls | endings | endings | records | adjustments | changes, min_size=2, max_size=4)
agents = st.builds(Agent, id=agent_ids, created_at=st.just(0), **profile)


# -- policies ----------------------------------------------------------------------------------------------------------
def _some(values: Sequence[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Any of them most of the time, which an empty tuple means."""
    return st.just(()) | st.just(()) | st.sampled_from([(value,) for value in values]) | st.just(tuple(values))


scopes = st.builds(
    Scope,
    agents=_some(AGENTS[:2]),
    owner_ids=_some(OWNERS),
    roles=_some(ROLES),
    upstreams=_some(UPSTREAMS),
    prices=_some(("p", "q")),
    each=st.sampled_from([None, None, "agent", "owner_id", "role", "upstream", "price"]),
)
names, periods, zones = st.sampled_from(["b0", "b1", "b2"]), st.sampled_from(PERIODS), st.sampled_from(ZONES)
budgets = st.builds(Budget, names, amounts, periods, zones, scopes, modes)
# A limit's name goes with its period: what another period under the same name counts is nowhere said.
limits = st.one_of(
    st.builds(Limit, st.just("flying"), concurrent=st.integers(1, 2), scope=scopes, mode=modes),
    st.sampled_from(["minute", "hour", "day"]).flatmap(
        lambda period: st.builds(
            Limit, st.just(period), requests=st.integers(1, 4), period=st.just(period), scope=scopes, mode=modes
        )
    ),
)
managed = st.sets(st.sampled_from(list(profile)), max_size=4).map(frozenset)
specs = st.builds(AgentSpec, id=agent_ids, managed=managed, **profile)
thresholds = st.sampled_from([(), (50,), (50, 80, 100)])


def _by_name(parts: Sequence[Any]) -> tuple[Any, ...]:
    return tuple({part.name: part for part in parts}.values())


policies = st.builds(
    Policy,
    hash=st.just("version 0"),
    mode=modes,
    zone=zones,
    durability=st.sampled_from(["normal", "normal", "normal", "strict"]),
    agents=st.tuples(specs, specs).map(lambda two: {"a": replace(two[0], id="a"), "b": replace(two[1], id="b")}),
    budgets=st.lists(budgets, min_size=1, max_size=3).map(_by_name),
    limits=st.lists(limits, max_size=2).map(_by_name) | limits.map(lambda one: (one,)),
    thresholds=thresholds,
)


class Edit(NamedTuple):
    """A change to the policy file: ``what`` of it, the place among those there are, and the new value."""

    what: str
    place: int
    value: Any


edits = st.one_of(
    st.builds(Edit, st.just("amount"), few, amounts),
    st.builds(Edit, st.just("amount"), few, amounts),
    st.builds(Edit, st.just("period"), few, periods),
    st.builds(Edit, st.just("mode"), few, modes),
    st.builds(Edit, st.just("budget gone"), few, st.none()),
    st.builds(Edit, st.just("put"), few, budgets | limits | specs),
    st.builds(Edit, st.just("gone"), few, limits | specs),
    st.builds(Edit, st.just("zone"), few, zones),
    st.builds(Edit, st.just("thresholds"), few, thresholds),
    st.builds(Edit, st.just("policy's mode"), few, modes),
    st.builds(Edit, st.just("as it was"), few, st.none()),
    st.builds(Edit, st.just("as it was"), few, st.none()),
)


def edited(policy: Policy, edit: Edit, earlier: Sequence[Policy]) -> Policy:
    """``earlier``: those that were in force."""
    what, place, value = edit
    if what == "as it was":
        return earlier[-1 - place % len(earlier)]
    if what == "zone":
        return replace(policy, zone=value)
    if what == "thresholds":
        return replace(policy, thresholds=value)
    if what == "policy's mode":
        return replace(policy, mode=value)
    if isinstance(value, AgentSpec):
        filed = {spec.id: spec for spec in policy.agents.values() if spec.id != value.id}
        return replace(policy, agents={**filed, value.id: value} if what == "put" else filed)
    if isinstance(value, Limit):
        kept = [limit for limit in policy.limits if limit.name != value.name]
        return replace(policy, limits=(*kept, value) if what == "put" else tuple(kept))
    parts = list(policy.budgets)
    if what == "put":
        parts = [budget for budget in parts if budget.name != value.name]
        parts.insert(place % (len(parts) + 1), value)
    elif parts:
        budget = parts.pop(place % len(parts))
        if what != "budget gone":
            parts.append(replace(budget, **{what: value}))
    return replace(policy, budgets=tuple(parts))


# -- reads -------------------------------------------------------------------------------------------------------------
filters = st.builds(
    ActionFilter,
    agent_id=st.none() | agent_ids,
    outcome=st.none() | st.sampled_from(["success", "failure", "denied"]),
    limit=st.integers(2, 7),
)
groups = st.lists(
    st.sampled_from(["agent", "owner_id", "role", "upstream", "price", "target", "outcome", "hour", "day", "month"]),
    max_size=3,
    unique=True,
)
