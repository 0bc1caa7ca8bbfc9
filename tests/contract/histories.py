"""What can happen to a ledger, as hypothesis draws it: small worlds, where amounts, names and moments often meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from policy.model import AgentSpec, Budget, Limit, Policy, Scope, Webhook
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

T = TypeVar("T")


def often(*weighted: tuple[int, st.SearchStrategy[T]]) -> st.SearchStrategy[T]:
    """One of them, each so many times as often as its number says (`|` takes the same one twice for one)."""
    chosen = [strategy for times, strategy in weighted for _ in range(times)]
    return st.integers(0, len(chosen) - 1).flatmap(chosen.__getitem__)


def one_of_the(fields: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """A new value for one of them."""
    return st.sampled_from(sorted(fields)).flatmap(lambda name: st.fixed_dictionaries({name: fields[name]}))


few = st.integers(0, 7)
agent_ids = st.sampled_from("aaaaaabbbc")
money = often((5, st.integers(1, 40)), (3, st.integers(1, 120)), (2, st.sampled_from([0, 1, 150, HUGE])))
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


estimates = often((15, money), (1, st.none()))
calls = st.builds(What, agent_ids, estimates, st.sampled_from(UPSTREAMS), st.sampled_from(PRICES))
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
steps = st.sampled_from([1, 999, 59_999, 60_000, HOUR, DAY - HOUR])
leaps = st.sampled_from([DAY, 7 * DAY, 31 * DAY, 366 * DAY])
passing = often(
    (2, st.builds(Time, st.just("forward"), steps, st.just(0))),
    (2, st.builds(Time, st.just("forward"), leaps, st.just(0))),
    (3, st.builds(Time, st.just("edge"), st.integers(0, 1), few)),
    (1, st.builds(Time, st.just("back"), st.sampled_from([1, HOUR, DAY, 31 * DAY]), st.just(0))),
    (3, st.builds(Restart, st.booleans(), st.sets(st.integers(0, 1)))),
)
profile: Mapping[str, st.SearchStrategy[Any]] = {
    "name": st.sampled_from(["N", "M"]),
    "role": st.sampled_from(ROLES),
    "owner_id": st.sampled_from(OWNERS),
    "monthly_budget": st.sampled_from([10**6, 1000, 400, 10**6, 400, 150, 60, 0]),
    "per_action_limit": st.sampled_from([None, None, None, None, None, None, 100, 0]),
    "auto_resume": st.booleans(),
}
changed: Mapping[str, st.SearchStrategy[Any]] = {
    **profile,
    "status": st.sampled_from(["active", "paused"]),
    "archived": st.booleans(),
}
one_field = one_of_the(changed)
fields = often((2, st.just({"status": "active"})), (5, one_field), (1, st.fixed_dictionaries({}, optional=changed)))
changes = st.builds(Change, agent_ids, fields)
ends = st.sampled_from([None, None, 0, HOUR, DAY])
key_changes = st.builds(NewKey, agent_ids, ends, ends) | st.builds(Revoked, agent_ids, st.integers(0, 2))
agents = st.builds(Agent, id=st.sampled_from("cccab"), created_at=st.just(0), **profile)
sent = st.sampled_from(["delivered", "give_up", "redeliver", "tried"])
operations = often((5, changes), (1, agents), (2, key_changes))
reports = often((2, records), (1, adjustments))
several = st.lists(often((3, calls), (3, endings), (3, reports), (1, changes)), min_size=2, max_size=4)


# -- policies ----------------------------------------------------------------------------------------------------------
def _some(values: Sequence[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Any of them most of the time, which an empty tuple means."""
    one = st.sampled_from([(value,) for value in values])
    return often((6, st.just(())), (1, one), (1, st.just(tuple(values))))


scope: Mapping[str, st.SearchStrategy[Any]] = {
    "agents": _some(AGENTS[:2]),
    "owner_ids": _some(OWNERS),
    "roles": _some(ROLES),
    "upstreams": _some(UPSTREAMS),
    "prices": _some(("p", "q")),
    "each": st.sampled_from([None, None, "agent", "owner_id", "role", "upstream", "price"]),
}
scopes = st.builds(Scope, **scope)
names, periods, zones = st.sampled_from(["b0", "b1", "b2"]), st.sampled_from(PERIODS), st.sampled_from(ZONES)
budgets = st.builds(Budget, names, amounts, periods, zones, scopes, modes)
# A limit's name goes with its period: what another period under the same name counts is nowhere said.
limits = st.one_of(
    st.builds(Limit, st.just("flying"), concurrent=st.integers(1, 2), scope=scopes, mode=modes),
    st.sampled_from(["minute", "hour", "day"]).flatmap(
        lambda period: st.builds(
            Limit, st.just(period), requests=st.integers(1, 3), period=st.just(period), scope=scopes, mode=modes
        )
    ),
)
managed = st.sets(st.sampled_from(list(profile)), max_size=4).map(frozenset)
specs = st.builds(AgentSpec, id=agent_ids, managed=managed, **profile)
thresholds = st.sampled_from([(5, 50, 100), (50,), (1, 80), ()])
kinds = st.sampled_from([(), (), ("budget_threshold",), ("overrun", "action_failed"), ("failed_open",)])
webhooks = st.builds(Webhook, st.just("http://h"), types=kinds, name=st.sampled_from(["h", "i", "j"]))


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
    limits=st.lists(limits, max_size=2).map(_by_name),
    thresholds=thresholds,
    webhooks=st.lists(webhooks, max_size=2).map(_by_name),
)


class Edit(NamedTuple):
    """A change to the policy file: ``what`` of it, the place among those there are, and the new value or fields."""

    what: str
    place: int
    value: Any


edits = often(
    (3, st.builds(Edit, st.just("budget"), few, one_of_the({"amount": amounts, "period": periods, "mode": modes}))),
    (2, st.builds(Edit, st.just("scope"), few, one_of_the(scope))),
    (4, st.builds(Edit, st.sampled_from(["budget gone", "budget gone", "agent gone", "limit gone"]), few, st.none())),
    (3, st.builds(Edit, st.just("put"), few, budgets | limits | specs)),
    (1, st.builds(Edit, st.just("zone"), few, zones)),
    (2, st.builds(Edit, st.just("webhooks"), few, st.lists(webhooks, max_size=2).map(_by_name))),
    (1, st.builds(Edit, st.just("thresholds"), few, thresholds)),
    (1, st.builds(Edit, st.just("policy's mode"), few, modes)),
    (2, st.builds(Edit, st.just("as it was"), few, st.none())),
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
    if what == "webhooks":
        return replace(policy, webhooks=value)
    if what == "policy's mode":
        return replace(policy, mode=value)
    if isinstance(value, AgentSpec):
        return replace(policy, agents={**policy.agents, value.id: value})
    if isinstance(value, Limit):
        return replace(policy, limits=_by_name((*policy.limits, value)))
    if isinstance(value, Budget):
        return replace(policy, budgets=_by_name((*policy.budgets, value)))
    parts: list[Any] = list({"agent gone": policy.agents, "limit gone": policy.limits}.get(what, policy.budgets))
    part = parts.pop(place % len(parts)) if parts else None
    if what == "agent gone":
        return replace(policy, agents={name: policy.agents[name] for name in parts})
    if what == "limit gone":
        return replace(policy, limits=tuple(parts))
    if part is not None and what == "budget":
        parts.append(replace(part, **value))
    elif part is not None and what == "scope":
        parts.append(replace(part, scope=replace(part.scope, **value)))
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
