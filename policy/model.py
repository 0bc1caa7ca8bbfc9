"""What a policy says, once parsed: immutable, complete, in integers. `policy.parse` makes it, all else reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Literal
from zoneinfo import ZoneInfo

from policy.periods import PeriodName

Mode = Literal["enforce", "shadow"]
Scalar = str | int | Decimal | bool | None
GroupKey = Literal["agent", "owner_id", "role", "upstream", "price"]

# The name of the budget that every agent has by its `monthly_budget`; no budget of the policy may take it.
MONTHLY_BUDGET = "monthly_budget"


@dataclass(frozen=True, slots=True)
class Rate:
    """``nano`` nano-dollars for every ``per`` units of ``usage`` (``input_tokens``, ``request``, ``seconds``…).

    ``key`` is the name in the file (``input_mtok``) and ``tiers`` are (above this many input_tokens, nano) in
    ascending order: the highest one passed prices the whole quantity.
    """

    key: str
    usage: str
    nano: int
    per: int = 1
    tiers: tuple[tuple[int, int], ...] = ()


Rates = tuple[Rate, ...]


@dataclass(frozen=True, slots=True)
class DatedRates:
    """Rates in force from a moment (unix ms; 0 for always) until the next entry's."""

    from_ms: int
    rates: Rates


SourceKind = Literal["header", "response", "request", "measured"]


@dataclass(frozen=True, slots=True)
class UsageSource:
    """Where a quantity of a rule's own unit comes from: the name of a response header, a path into a JSON body (as
    `policy.pointer` has it), or what the sidecar measures itself: ``seconds``, ``request_bytes``, ``response_bytes``.
    """

    unit: str
    kind: SourceKind
    path: str


@dataclass(frozen=True, slots=True)
class Match:
    """What a price matches; an empty tuple matches anything. ``body`` pairs are (dotted path, glob or scalar)."""

    upstreams: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    body: tuple[tuple[str, tuple[Scalar, ...]], ...] = ()
    websocket: bool = False


@dataclass(frozen=True, slots=True)
class Price:
    """One pricing rule. ``rates`` in ascending order of date, or ``catalog``: by model, from genai-prices."""

    name: str
    match: Match
    rates: tuple[DatedRates, ...] | Literal["catalog"]
    usage: tuple[UsageSource, ...] = ()
    estimate: Mapping[str, Fraction] = field(default_factory=dict)
    cap_output: bool = False
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Upstream:
    """A host that calls are forwarded to. ``url`` has no trailing slash; ``builtin:demo`` is the stand-in.

    ``meter`` is the wire format of the answers (None: told by the request's path), ``catalog`` the genai-prices
    provider whose list prices its models (None: the meter's own). ``max_in_flight`` counts calls;
    ``circuit_breaker`` is whether none is sent for a while after several in a row got no answer.
    """

    name: str
    url: str
    meter: str | None = None
    catalog: str | None = None
    set_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # credentials: never shown
    timeout_s: float = 600.0
    ask_usage: bool = True
    charge_errors: bool = False
    max_in_flight: int = 1024
    circuit_breaker: bool = True


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """An agent that the policy file manages. Amounts in nano-dollars; ``managed`` are the fields the file states."""

    id: str
    name: str
    role: str = ""
    owner_id: str = ""
    monthly_budget: int = 0
    per_action_limit: int | None = None
    auto_resume: bool = False
    key: str | None = field(default=None, repr=False)
    managed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Scope:
    """Which calls a budget or limit concerns (empty: any), and by what it is counted apart (`each`)."""

    agents: tuple[str, ...] = ()
    owner_ids: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    upstreams: tuple[str, ...] = ()
    prices: tuple[str, ...] = ()
    each: GroupKey | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """Money per period. ``amount`` in nano-dollars."""

    name: str
    amount: int
    period: PeriodName
    zone: ZoneInfo
    scope: Scope = Scope()
    mode: Mode = "enforce"


@dataclass(frozen=True, slots=True)
class Limit:
    """A count: calls admitted per period (``requests``), or calls in flight (``concurrent``); exactly one is set."""

    name: str
    requests: int | None = None
    concurrent: int | None = None
    period: PeriodName = "minute"
    scope: Scope = Scope()
    mode: Mode = "enforce"


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where alerts are sent: of these ``types``, or all. ``name`` names it in the ledger and to operators.

    ``secret`` signs what is sent.
    """

    url: str = field(repr=False)  # may carry a secret in its path
    format: Literal["json", "slack"] = "json"
    types: tuple[str, ...] = ()
    name: str = ""
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy file, whole. ``hash`` is of the file's text before substitution: it names a version, not a secret."""

    hash: str
    unpriced: Literal["deny", "free"] | Rates = "deny"
    mode: Mode = "enforce"
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    durability: Literal["normal", "strict"] = "normal"
    ledger_unavailable: Literal["deny", "allow"] = "deny"
    upstreams: Mapping[str, Upstream] = field(default_factory=dict)
    agents: Mapping[str, AgentSpec] = field(default_factory=dict)
    prices: tuple[Price, ...] = ()
    budgets: tuple[Budget, ...] = ()
    limits: tuple[Limit, ...] = ()
    thresholds: tuple[int, ...] = ()  # percent, ascending
    webhooks: tuple[Webhook, ...] = ()
