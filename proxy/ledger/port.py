"""The ledger's port: what the line, the API and the dashboard ask of any engine. Money in nano-dollars, time in ms.

LedgerError
├── LedgerUnavailable    it can't record: nothing was done; calls are denied (503)
├── LedgerDamaged        what was synced is not there or not whole: it refuses to open, saying where
├── AgentUnknown         no such agent, or archived
├── ManagedField         the policy file says this field; the API may not
├── TooManyKeys          the agent has as many keys in force as it may
├── IdempotencyConflict  the key was used with another body (422), or its first call is still in flight (409)
└── NotOpen              the reservation has already ended; each ends exactly once
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol

from msgspec import Struct

from policy.decide import Standing, Verdict
from policy.model import Budget, Policy
from proxy.ledger.delivery import Deliveries
from proxy.ledger.delivery import Delivery as Delivery  # a record of the port like those here

Outcome = Literal["success", "failure", "denied", "pending"]
POLICY_KEY = "policy"  # the id of the policy file's own key

Ending = Literal["settled", "voided", "expired", "adjusted"]

ADJUST = "adjust"  # the action_type of adjustments, and of nothing else


class LedgerError(Exception):
    """Base of what an engine raises; the message is fit to show an operator."""


class LedgerUnavailable(LedgerError):
    pass


class LedgerDamaged(LedgerError):
    pass


class AgentUnknown(LedgerError):
    pass


class ManagedField(LedgerError):
    pass


class TooManyKeys(LedgerError):
    pass


class IdempotencyConflict(LedgerError):
    def __init__(self, message: str, *, in_flight: bool) -> None:
        super().__init__(message)
        self.in_flight = in_flight


class NotOpen(LedgerError):
    pass


@dataclass(frozen=True, slots=True)
class Key:
    """One key of an agent. ``digest`` is its sha256 (hex), told to nobody; ``id`` names it.

    From ``expires_at`` (unix ms; None: never) on it is refused: one that was revoked expired then.
    """

    digest: str = field(repr=False)
    id: str = ""
    created_at: int = 0
    expires_at: int | None = None

    def in_force(self, at: int) -> bool:
        return self.expires_at is None or at < self.expires_at


@dataclass(frozen=True, slots=True)
class Agent:
    """The identity that spends. ``monthly_budget`` may be lowered below what is spent.

    ``keys`` are those in force, those that ended lately, and the policy file's; an agent that was ever given one by
    ``create_agent`` or ``add_key`` has at least one here.
    """

    id: str
    name: str
    role: str
    owner_id: str
    monthly_budget: int
    per_action_limit: int | None
    created_at: int
    status: Literal["active", "paused"] = "active"
    paused_reason: str | None = None
    auto_resume: bool = False
    archived: bool = False
    keys: tuple[Key, ...] = ()
    managed: frozenset[str] = frozenset()


# gc=False, here and where records of open calls are: they are in no cycle, and thousands of them need not be walked.
class Call(Struct, frozen=True, gc=False):
    """One attempted call, priced. ``estimate`` None: no price matches and the policy denies that.

    ``target`` is upstream:model, :tool or :price. ``rates`` are those fixed for its charge, as
    {"input_mtok": "2.5"}, and ``estimated`` the usage that the estimate takes it for: kept with the action, so that its
    arithmetic can be shown. ``output_cap`` is the output ceiling that its request is held to.
    """

    agent_id: str
    action_type: str
    target: str
    upstream: str
    price: str | None
    estimate: int | None
    rates: Mapping[str, Any] = {}
    policy_hash: str = ""
    metadata: str | None = None
    estimated: Mapping[str, int | Decimal] = {}
    output_cap: int | None = None


class Admission(Struct, frozen=True, gc=False):
    """The call may go; ``reserved`` is held against every budget that matches it until it ends.

    ``remaining`` is the least room left in any enforced budget after this reservation (None: no budget binds). Not
    ``recorded``: nothing is held, and there is nothing to settle.
    """

    action_id: str
    reserved: int
    at: int
    remaining: int | None
    softened: tuple[Verdict, ...] = ()
    recorded: bool = True


@dataclass(frozen=True, slots=True)
class Denial:
    """The call may not go. ``action_id`` is the row it was journaled as (None where it is only counted)."""

    verdict: Verdict
    action_id: str | None
    agent: Agent | None = None


class Settlement(Struct, frozen=True, gc=False):
    """How a forwarded call ended. ``charge`` None: at its reservation. ``usage`` by the vocabulary of usage.

    ``rates`` are those that the answer's own terms led to (a service tier, a cost it states); None: as authorized.
    """

    charge: int | None
    outcome: Literal["success", "failure"]
    usage: Mapping[str, int | Decimal] = {}
    unconfirmed: bool = False
    flags: tuple[str, ...] = ()
    upstream_status: int | None = None
    duration_ms: int | None = None
    rates: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A correction of what an agent spent, as an invoice shows it: ``amount`` nano-dollars, negative for a credit.

    ``at`` is when it was spent (unix ms; None: now), ``target`` on what, as a call's (None: not told).
    """

    agent_id: str
    amount: int
    reason: str
    target: str | None = None
    at: int | None = None


class Action(Struct, frozen=True, omit_defaults=True, gc=False):
    """The row of the ledger. ``count`` > 1: identical denials within a minute, told once.

    ``owner_id`` and ``role`` are the agent's when it was authorized. ``reserved_rates`` are those of its reservation,
    where it was settled at others.
    """

    id: str
    agent_id: str
    action_type: str
    target: str
    cost: int
    outcome: Outcome
    created_at: int
    metadata: str | None = None
    count: int = 1
    reason: str | None = None
    budget: str | None = None
    ending: Ending | None = None
    reserved: int | None = None
    usage: Mapping[str, int | Decimal] = {}
    rates: Mapping[str, Any] = {}
    upstream: str = ""
    price: str | None = None
    policy_hash: str = ""
    upstream_status: int | None = None
    duration_ms: int | None = None
    unconfirmed: bool = False
    flags: tuple[str, ...] = ()
    softened: tuple[str, ...] = ()
    owner_id: str = ""
    role: str = ""
    estimated: Mapping[str, int | Decimal] = {}
    output_cap: int | None = None
    reserved_rates: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Recorded:
    """The answer to what was reported: the action, or the denial; ``replayed`` from an Idempotency-Key."""

    action: Action | None
    denial: Denial | None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Alert:
    id: str
    agent_id: str | None
    type: str
    message: str
    created_at: int
    acknowledged_at: int | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    action_id: str
    agent_id: str
    target: str
    reserved: int
    created_at: int


@dataclass(frozen=True, slots=True)
class ActionFilter:
    """Which actions; ``since`` ≤ created_at < ``until`` (unix ms). ``cursor`` is what the last page answered."""

    agent_id: str | None = None
    outcome: str | None = None
    since: int | None = None
    until: int | None = None
    limit: int = 100
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    items: Sequence[Action]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Health:
    """``ok`` is False when nothing can be recorded; ``detail`` says why. ``head`` is the journal's latest hash.

    ``unsynced`` entries are not known to be on disk, the oldest for ``unsynced_ms``; the reads lack ``unindexed``, and
    catch up when asked. ``checkpoint_ok`` is False while the last one could not be written.
    """

    ok: bool
    detail: str
    sequence: int
    head: str
    warnings: tuple[str, ...] = ()
    unsynced: int = 0
    unsynced_ms: int = 0
    unindexed: int = 0
    checkpoint_ok: bool = True


class Ledger(Deliveries, Protocol):
    """Every method may raise LedgerUnavailable; what it then was asked to do has not happened."""

    # -- the line ------------------------------------------------------------------------------------------------
    async def authorize(self, call: Call) -> Admission | Denial:
        """Decide and, if allowed, reserve, in one atomic step; recorded when it returns.

        A budget_exceeded on the agent's own month pauses it and raises one alert, in the same step. Raises
        AgentUnknown.
        """

    async def unrecorded(self, call: Call) -> Admission | Denial:
        """Judge a call that authorize could not record, by what was last recorded, for a policy that fails open.

        Nothing is reserved, journaled or paused; an admission is counted and alerted. Raises AgentUnknown.
        """

    async def settle(self, action_id: str, settlement: Settlement) -> Action:
        """Post the charge against every budget the reservation holds; what is left returns. Raises NotOpen."""

    async def void(self, action_id: str, settlement: Settlement) -> Action:
        """Cancel the reservation: the call certainly cost nothing; ``settlement.charge`` is ignored. Raises NotOpen."""

    async def record(
        self, call: Call, outcome: Literal["success", "failure"], idempotency: tuple[str, str] | None = None
    ) -> Recorded:
        """A self-reported action: authorize and settle at the caller's cost, as one entry.

        ``idempotency`` is (key, digest of the body), scoped to the agent; the first answer is replayed for 24 h.
        Raises AgentUnknown, IdempotencyConflict.
        """

    async def adjust(self, adjustment: Adjustment, idempotency: tuple[str, str] | None = None) -> Recorded:
        """Correct what was spent: a row of its own, added to the budgets whose period holds its date and still runs.

        Judged by no budget or pause, also for an archived agent (invoices come late); it raises thresholds, and pauses
        nobody. ``idempotency`` as `record` has it, in keys of its own. Raises AgentUnknown, IdempotencyConflict,
        ValueError for a date later than now.
        """

    # -- agents and rules ----------------------------------------------------------------------------------------
    async def use(self, policy: Policy) -> None:
        """Put a policy in force: its agents, and new or changed budgets holding what their period already spent.

        Calls in flight keep the holds they were authorized with.
        """

    def agent(self, agent_id: str) -> Agent | None:
        """The agent, archived or not; None if there never was one."""

    def agent_by_key(self, digest: str) -> Agent | None:
        """The agent whose key in force has that sha256 (hex), unless archived."""

    def agents(self) -> Sequence[Agent]:
        """Those not archived, in order of creation."""

    async def create_agent(self, agent: Agent) -> Agent:
        """Adds it; an empty ``id`` is made (``agt_…``), a ``created_at`` of 0 is now; so for its keys (``key_…``).

        LedgerError: the id is taken.
        """

    async def change_agent(self, agent_id: str, changes: Mapping[str, Any]) -> Agent:
        """Change fields of Agent, but for its keys, by their names here. Raises AgentUnknown, ManagedField."""

    async def add_key(
        self, agent_id: str, digest: str, expires_at: int | None = None, retire_others_ms: int | None = None
    ) -> Key:
        """A key more; those there were, but the policy file's, expire ``retire_others_ms`` from now at the latest.

        Raises AgentUnknown, TooManyKeys.
        """

    async def revoke_key(self, agent_id: str, key_id: str) -> Key | None:
        """It is refused from now on; None if the agent has none of that id. Raises AgentUnknown; ManagedField for the
        policy file's."""

    async def acknowledge(self, alert_id: str) -> Alert | None:
        """Marks it read, once; None if there is no such alert."""

    # -- reading -------------------------------------------------------------------------------------------------
    def standings(self, agent_id: str) -> Sequence[Standing]:
        """Every budget that counts this agent's calls, its own month first, with what is spent and reserved."""

    def standing(self, budget: Budget, group: str) -> Standing:
        """That budget of the policy, or agents' own month, in its running period; nothing spent where it has no such
        group.
        """

    def reservations(self) -> Sequence[Reservation]:
        """Those open, oldest first."""

    async def preview(self, call: Call) -> Verdict | None:
        """What authorize would deny it for, changing nothing. Raises AgentUnknown."""

    async def action(self, action_id: str) -> Action | None:
        """A resolved action, or one in flight (outcome ``pending``)."""

    async def actions(self, query: ActionFilter) -> Page:
        """Newest first, those resolved or denied. Sees everything recorded before the call."""

    async def recorded(self, query: ActionFilter, after: str | None) -> Page:
        """The next ``limit`` that match, in the order in which they were recorded; its ``next_cursor`` is the place to
        go on ``after``, and is always told.

        ``after`` None: none, and the place behind all that was recorded before the call. ``cursor`` is ignored. Of
        repeated denials the first is there. Raises ValueError for a place that this ledger has not come to.
        """

    def export(self, query: ActionFilter) -> AsyncIterator[Action]:
        """All that match, oldest first, in bounded memory; ``limit`` and ``cursor`` are ignored."""

    async def alerts(
        self, agent_id: str | None = None, limit: int = 1000, *, open_only: bool = False
    ) -> Sequence[Alert]:
        """Newest first; ``open_only``: those not acknowledged."""

    def open_alerts(self) -> int:
        """How many are not acknowledged, of the latest thousand."""

    async def spend(
        self, group_by: Sequence[str], since: int | None, until: int | None, agent_id: str | None = None
    ) -> Sequence[Mapping[str, Any]]:
        """Totals: each row has the groups' values, ``cost`` (nano-dollars) and ``actions``.

        Groups: agent, owner_id, role, upstream, price, target, outcome, and hour, day, month of the policy's zone, as
        ``2026-11-22T14:00+05:45`` (``…Z`` at UTC), ``2026-11-22``, ``2026-11``. An action is of when it was authorized.
        ``agent_id``: that agent's alone. Quick for any span, but by hour, which adds up each action.
        """

    def health(self) -> Health: ...

    async def close(self) -> None:
        """Sync, write a last checkpoint, let the data folder go."""
