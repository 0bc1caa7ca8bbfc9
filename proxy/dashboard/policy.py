"""The policy in force: what it says, since when, what is odd about it, and the button that puts its file in force."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.routing import Route

from policy.model import AgentSpec, Budget, Limit, Policy, Price, Upstream
from policy.parse import PolicyError
from policy.pricing import rates_at
from policy.words import Condition, RateWords, conditions_of, host_of, place_of, rates_of, remarks_of, scope_of
from proxy.dashboard import trying
from proxy.dashboard.frame import Pages, Shown
from proxy.ledger.port import LedgerError
from proxy.state import Sidecar

ROWS_SHOWN = 250  # of each kind: a file of ten thousand prices is read elsewhere

_COUNTED = ("upstreams", "prices", "agents", "budgets", "limits", "webhooks")
_MODES = {
    "enforce": "what doesn't fit is denied",
    "shadow": "what would have been denied is recorded, and passes",
}
_UNPRICED = {"deny": "is denied", "free": "passes, at no charge"}
_UNAVAILABLE = {
    "deny": "while nothing can be recorded, every call is denied",
    "allow": "while nothing can be recorded, calls pass: counted and alerted, not recorded",
}
_DURABILITY = {
    "normal": "what was acknowledged outlives a crash of the process",
    "strict": "what was acknowledged outlives a loss of power",
}


class UpstreamRow(NamedTuple):
    name: str
    place: str
    meter: str | None
    catalog: str | None
    headers: Sequence[str]  # their names alone
    remarks: Sequence[str]


class Dated(NamedTuple):
    """``since`` is a date, or "" for always; ``now``: these are the ones in force."""

    since: str
    rates: Sequence[RateWords]
    now: bool


class PriceRow(NamedTuple):
    """``rates`` is empty where the catalog has them."""

    name: str
    match: Sequence[Condition]
    rates: Sequence[Dated]
    remarks: Sequence[str]


class AgentRow(NamedTuple):
    """Amounts in nano-dollars."""

    id: str
    name: str
    role: str
    owner_id: str
    monthly_budget: int
    per_action_limit: int | None
    has_key: bool
    auto_resume: bool


class WebhookRow(NamedTuple):
    name: str
    host: str
    format: str
    types: Sequence[str]
    signed: bool


class Rows(NamedTuple):
    """At most ROWS_SHOWN of each; none of them holds a secret."""

    upstreams: Sequence[UpstreamRow]
    prices: Sequence[PriceRow]
    agents: Sequence[AgentRow]
    budgets: Sequence[tuple[Budget, Sequence[Condition]]]
    limits: Sequence[tuple[Limit, Sequence[Condition]]]
    webhooks: Sequence[WebhookRow]


def routes(pages: Pages) -> list[Route]:
    shows = pages.shows("policy", view)
    return [
        Route("/policy", shows, methods=["GET"]),
        Route("/policy/reload", pages.changes("policy", _reload), methods=["POST"]),
        # What came by the form's path is asked for again by it: by live.js, and by who comes back to it.
        Route("/policy/try", shows, methods=["GET"]),
        Route("/policy/try", pages.changes("policy", _try, trying.FORM_MAX_BYTES), methods=["POST"]),
    ]


async def view(sidecar: Sidecar, request: Request, at_ms: int) -> Shown:
    reloaded = request.query_params.get("reloaded") == "yes" and sidecar.policy_file.error is None
    return await _shown(sidecar, at_ms, reloaded=reloaded, form=trying.typed(request.query_params))


async def _reload(sidecar: Sidecar, request: Request, form: Mapping[str, str]) -> str:
    try:
        await sidecar.reload()
    except (PolicyError, OSError, UnicodeError, LedgerError):
        return "/ui/policy"  # every page says what is wrong, until a reload succeeds
    return "/ui/policy?reloaded=yes"


async def _try(sidecar: Sidecar, request: Request, form: Mapping[str, str]) -> Shown:
    typed = trying.typed(form)
    tried, problems = await trying.tried(sidecar, typed)
    now = time.time_ns() // 1_000_000
    return await _shown(sidecar, now, form=typed, tried=tried, problems=problems, status=422 if problems else 200)


async def _shown(
    sidecar: Sidecar,
    at_ms: int,
    *,
    form: trying.Typed,
    tried: trying.Tried | None = None,
    problems: Mapping[str, str] = MappingProxyType({}),
    reloaded: bool = False,
    status: int = 200,
) -> Shown:
    policy_file = sidecar.policy_file
    policy = policy_file.rules.policy
    values = {
        "path": str(policy_file.path),
        "hash": policy.hash,
        "loaded_at": policy_file.loaded_at,
        "failed_at": policy_file.failed_at,
        "failed": policy_file.error is not None,
        "reloaded": reloaded,
        "warnings": policy_file.rules.warnings,
        "defaults": _defaults(policy),
        "rows": await asyncio.to_thread(_rows, policy, at_ms),  # a file may be long
        "counts": {part: len(getattr(policy, part)) for part in _COUNTED},
        "thresholds": policy.thresholds,
        "form": form,
        "tried": tried,
        "problems": problems,
        "examples": trying.examples(policy),
        "upstreams": list(policy.upstreams),
        "agents": sidecar.ledger.agents()[: trying.AGENTS_OFFERED],
        "methods": trying.METHODS,
        "most": trying.MISSES_SHOWN,
    }
    return Shown("policy.html", values, status)


# -- what it says ------------------------------------------------------------------------------------------------------
def _defaults(policy: Policy) -> Sequence[tuple[str, str, str]]:
    """(key, what is in force, what it means), as the file's `defaults` have them."""
    unpriced = policy.unpriced
    stated = (
        unpriced if isinstance(unpriced, str) else " + ".join(f"{r.amount} a {r.usage}" for r in rates_of(unpriced))
    )
    return [
        ("mode", policy.mode, _MODES[policy.mode]),
        ("timezone", str(policy.zone), "days, weeks and months begin at its midnight"),
        ("unpriced", stated, f"a call that no price matches {_UNPRICED.get(stated, 'passes, at this')}"),
        ("ledger_unavailable", policy.ledger_unavailable, _UNAVAILABLE[policy.ledger_unavailable]),
        ("durability", policy.durability, _DURABILITY[policy.durability]),
    ]


def _rows(policy: Policy, at_ms: int) -> Rows:
    most = slice(ROWS_SHOWN)
    return Rows(
        upstreams=[_upstream(upstream) for upstream in list(policy.upstreams.values())[most]],
        prices=[_price(price, at_ms, policy.zone) for price in policy.prices[most]],
        agents=[_agent(agent) for agent in list(policy.agents.values())[most]],
        budgets=[(budget, scope_of(budget.scope)) for budget in policy.budgets[most]],
        limits=[(limit, scope_of(limit.scope)) for limit in policy.limits[most]],
        webhooks=[
            WebhookRow(hook.name, host_of(hook), hook.format, hook.types, hook.secret is not None)
            for hook in policy.webhooks[most]
        ],
    )


def _upstream(upstream: Upstream) -> UpstreamRow:
    """``remarks`` are what it says otherwise than most do."""
    usual = Upstream("", "")
    remarks = {
        f"timeout {upstream.timeout_s:g} s": upstream.timeout_s != usual.timeout_s,
        f"at most {upstream.max_in_flight} in flight": upstream.max_in_flight != usual.max_in_flight,
        "charges errors": upstream.charge_errors,
        "never asked for usage": not upstream.ask_usage,
        "no circuit breaker": not upstream.circuit_breaker,
    }
    return UpstreamRow(
        name=upstream.name,
        place=place_of(upstream),
        meter=upstream.meter,
        catalog=upstream.catalog,
        headers=[name for name, _ in upstream.set_headers],
        remarks=[remark for remark, says in remarks.items() if says],
    )


def _price(price: Price, at_ms: int, zone: ZoneInfo) -> PriceRow:
    dated: list[Dated] = []
    if price.rates != "catalog":
        now = rates_at(price.rates, at_ms)
        dated = [Dated(_date(each.from_ms, zone), rates_of(each.rates), each.rates is now) for each in price.rates]
    return PriceRow(price.name, conditions_of(price.match), dated, remarks_of(price))


def _date(from_ms: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(from_ms / 1000, zone).date().isoformat() if from_ms else ""


def _agent(agent: AgentSpec) -> AgentRow:
    return AgentRow(
        id=agent.id,
        name=agent.name,
        role=agent.role,
        owner_id=agent.owner_id,
        monthly_budget=agent.monthly_budget,
        per_action_limit=agent.per_action_limit,
        has_key=agent.key is not None,
        auto_resume=agent.auto_resume,
    )
