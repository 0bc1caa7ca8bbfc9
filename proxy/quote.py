"""Match a price and estimate: what a call may cost, before it is forwarded. Used by the line and by explain."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from policy.cap import Capped, cap_output_at, rewritten
from policy.catalog import Tariff
from policy.estimate import Estimate, estimate_at
from policy.input import Reading, RequestFacts
from policy.model import Match, Price, Rates
from policy.paths import bills_tokens, deferred
from policy.ratecard import RateCard, as_card
from policy.terms import asked_terms
from policy.units import DIMENSIONS, make_rate
from proxy.ledger.port import Call
from proxy.metering.base import Metered
from proxy.request import ProxyRequest, content_of
from proxy.rewriting import Write
from proxy.rules import Rules
from proxy.tariffs import model_of, provider_of, tariffs_of

TARGET_MAX = 128
COST = "cost"  # the usage by which an upstream states a call's cost itself, in USD (OpenRouter)
COST_RATES: Rates = RateCard((make_rate(COST, Decimal(1)),))

_UNSHOWN = re.compile(r"[^\x21-\x7e]+")
_UNPRICED = Price("unpriced", Match(), ())
_FREE = Tariff(RateCard())

_Terms = tuple[Tariff, Rates]


class Quote(Struct, frozen=True):
    """``estimate`` in nano-dollars; None: no price matches, or its model is unknown, or it is ``unmetered`` work
    (a batch), and the policy denies that.

    ``price`` None with an estimate: passed by the policy's `unpriced`. ``usage`` is the estimate's, at ``rates``: those
    of the terms that the request asks for, or the standard ones of ``tariff`` where they are dearer. ``body`` is the
    parsed JSON or form, if it was read; with ``writes`` made in it, ``output_cap`` is the ceiling of each answer.
    """

    price: Price | None
    target: str
    model: str | None
    estimate: int | None
    usage: Mapping[str, int | Decimal] = {}
    rates: Rates = ()
    body: Any = None
    tariff: Tariff = _FREE
    output_cap: int | None = None
    writes: tuple[Write, ...] = ()
    unmetered: str | None = None

    @property
    def by_model(self) -> bool:
        """Whether the catalog prices it: then its usage is recorded, even where the model is free."""
        return self.price is not None and self.price.rates == "catalog"

    def calls_tool(self, wire: str | None) -> bool:
        """Whether it is an MCP tool call, whose answer says whether it failed."""
        return wire == "mcp" and isinstance(self.body, dict) and self.body.get("method") == "tools/call"

    def charged(self, metered: Metered) -> Rates:
        """The rates of what was metered: the cost itself where the answer states it, else by the terms that served, as
        the answer tells them, or the request asked for them.
        """
        if self.by_model and COST in (metered.usage or {}):
            return COST_RATES
        if not self.tariff.variants:
            return self.rates
        return self.tariff.rates({**asked_terms(self.body), **metered.terms})

    def call(self, agent_id: str, policy_hash: str) -> Call:
        """What the ledger is asked to authorize."""
        return Call(
            agent_id=agent_id,
            action_type="api_call",
            target=self.target,
            upstream=self.target.partition(":")[0],
            price=self.price.name if self.price else None,
            estimate=self.estimate,
            rates=as_card(self.rates).dumped,
            policy_hash=policy_hash,
            estimated=self.usage,
            output_cap=self.output_cap,
        )


def quote(
    rules: Rules, request: ProxyRequest, candidates: tuple[Price, ...], at_ms: int, limit: int | None = None
) -> Quote:
    """The first candidate that matches, its rates at that moment, and the estimate they give. ``limit`` is the agent's
    for one action, in nano-dollars: what `cap_output` holds the output to.

    Raises Refused (400) for a body that the prices have to read and can't.
    """
    content = content_of(request, candidates)
    price = rules.prices.first(candidates, content.body)
    model, tariffs = _tariffs(rules, request, price, content.body, at_ms)
    unmetered = deferred(request.path, content.body)
    if unmetered is not None and not _by_model(tariffs):
        unmetered = None
    if unmetered is not None or not tariffs:
        price, tariffs = None, _unpriced(rules)
    target = _target(request, content.body, price, model)
    if not tariffs:
        return Quote(None, target, model, None, body=content.body, unmetered=unmetered)
    text_bytes = len(request.body or b"") - content.file_bytes
    facts = RequestFacts(request.path, content.body, text_bytes, content.file_bytes)
    terms = _terms(tariffs, content.body)
    capped = None
    if price is not None and price.cap_output and content.is_json:
        capped = _cap(price, terms, facts, provider_of(request.upstream, request.path), limit)
    if capped is not None:
        (tariff, rates), held = capped
        return Quote(
            price, target, model, held.estimate.nano, held.estimate.usage, rates, content.body, tariff,
            output_cap=held.tokens, writes=held.writes,
        )  # fmt: skip
    (tariff, rates), found = _dearest(price or _UNPRICED, terms, facts)
    return Quote(price, target, model, found.nano, found.usage, rates, content.body, tariff)


def _tariffs(
    rules: Rules, request: ProxyRequest, price: Price | None, body: Any, at_ms: int
) -> tuple[str | None, tuple[Tariff, ...]]:
    """The model, and the tariffs that may apply; of tokens nothing where a call can't cost any."""
    if price is None:
        return model_of(request.path, body), ()
    model, tariffs = tariffs_of(rules, request.upstream, request.path, price, body, at_ms)
    if not bills_tokens(request.method, request.path):
        own = (RateCard(rate for rate in tariff.standard if rate.usage not in DIMENSIONS) for tariff in tariffs)
        tariffs = tuple(map(Tariff, own))
    return model, tariffs


def _by_model(tariffs: tuple[Tariff, ...]) -> bool:
    return any(as_card(tariff.standard).by_model for tariff in tariffs)


def _terms(tariffs: tuple[Tariff, ...], body: Any) -> list[_Terms]:
    """Of each model that may serve, the standard rates and those asked for: the upstream may take either."""
    terms: list[_Terms] = []
    for tariff in tariffs:
        terms.append((tariff, tariff.standard))
        asked = asked_terms(body) if tariff.variants else {}
        if asked and (rates := tariff.rates(asked)) is not tariff.standard:
            terms.append((tariff, rates))
    return terms


def _dearest(price: Price, terms: list[_Terms], facts: RequestFacts) -> tuple[_Terms, Estimate]:
    read = Reading(price, facts)
    dearest, most = terms[0], estimate_at(price, terms[0][1], read)
    for each in terms[1:]:
        found = estimate_at(price, each[1], read)
        if found.nano > most.nano:
            dearest, most = each, found
    return dearest, most


def _cap(
    price: Price, terms: list[_Terms], facts: RequestFacts, provider: str | None, limit: int | None
) -> tuple[_Terms, Capped] | None:
    """The ceiling that the limit affords at any of the rates, and the dearest estimate under it; None where none can be
    written.
    """
    read = Reading(price, facts)
    held = [(each, capped) for each in terms if (capped := cap_output_at(price, each[1], read, provider, limit))]
    least = min(held, key=lambda each: each[1].tokens, default=None)
    if least is None or len(terms) == 1:
        return least
    capped = least[1]
    under = replace(facts, body=rewritten(facts.body, capped.writes))
    dearest, found = _dearest(price, terms, under)
    return dearest, capped._replace(estimate=found)


def _unpriced(rules: Rules) -> tuple[Tariff, ...]:
    stated = rules.policy.unpriced
    if stated == "deny":
        return ()
    return (_FREE,) if stated == "free" else (Tariff(stated),)


def _target(request: ProxyRequest, body: Any, price: Price | None, model: str | None) -> str:
    """upstream:model, :tool or :price; printable, at most 128 characters, never a path or a query."""
    what = model
    if what is None and isinstance(body, dict) and body.get("method") == "tools/call":
        params = body.get("params")
        name = params.get("name") if isinstance(params, dict) else None
        what = name if isinstance(name, str) else None
    if what is None:
        what = price.name if price else "unpriced"
    return f"{request.upstream.name}:{_UNSHOWN.sub('_', what)}"[:TARGET_MAX]
