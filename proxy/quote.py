"""Match a price and estimate: what a call may cost, before it is forwarded. Used by the line and by explain."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from policy.catalog import Tariff
from policy.estimate import Estimate, RequestFacts, estimate
from policy.model import Match, Price, Rates, Upstream
from policy.pricing import dump_rates
from policy.terms import asked_terms
from policy.units import make_rate
from proxy.denials import Refused
from proxy.jsontext import JsonError, loads
from proxy.ledger.port import Call
from proxy.metering.base import Metered
from proxy.rules import Rules
from proxy.tariffs import model_of, tariffs_of

TARGET_MAX = 128
COST = "cost"  # the usage by which an upstream states a call's cost itself, in USD (OpenRouter)
COST_RATES: Rates = (make_rate(COST, Decimal(1)),)

_UNSHOWN = re.compile(r"[^\x21-\x7e]+")
_UNPRICED = Price("unpriced", Match(), ())
_FREE = Tariff(())


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """A call as the prices see it. ``path`` is as sent, after the upstream's name; ``body`` None: none reads it."""

    upstream: Upstream
    method: str
    path: str
    body: bytes | None = None
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    """``estimate`` in nano-dollars; None: no price matches, or its model is unknown, and the policy denies that.

    ``price`` None with an estimate: passed by the policy's `unpriced`. ``usage`` is the estimate's, at ``rates``: those
    of the terms that the request asks for, or the standard ones of ``tariff`` where they are dearer. ``body`` is the
    parsed JSON, if it was read.
    """

    price: Price | None
    target: str
    model: str | None
    estimate: int | None
    usage: Mapping[str, int | Decimal] = field(default_factory=dict)
    rates: Rates = ()
    body: Any = None
    tariff: Tariff = _FREE

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
            rates=dump_rates(self.rates),
            policy_hash=policy_hash,
            estimated=self.usage,
        )


def quote(rules: Rules, request: ProxyRequest, candidates: tuple[Price, ...], at_ms: int) -> Quote:
    """The first candidate that matches, its rates at that moment, and the estimate they give.

    Raises Refused (400) for a body that the prices have to read and can't.
    """
    body = _parse(request, candidates)
    if isinstance(body, list) and any(price.match.body for price in candidates):
        # No field of an array can be matched: as a batch, JSON-RPC calls would pass for what matches anything.
        message = "Agent Ledger: a batch can't be priced; send its requests one by one."
        raise Refused(400, "batch_refused", message, request=body)
    price = rules.prices.first(candidates, body)
    model, tariffs = _tariffs(rules, request, price, body, at_ms)
    if not tariffs:
        price, tariffs = None, _unpriced(rules)
    target = _target(request, body, price, model)
    if not tariffs:
        return Quote(None, target, model, None, body=body)
    facts = RequestFacts(request.path, body, len(request.body or b""))
    tariff, rates, found = max(_estimates(price or _UNPRICED, tariffs, facts), key=_nano)
    return Quote(price, target, model, found.nano, found.usage, rates, body, tariff)


def _tariffs(
    rules: Rules, request: ProxyRequest, price: Price | None, body: Any, at_ms: int
) -> tuple[str | None, tuple[Tariff, ...]]:
    if price is None:
        return model_of(request.path, body), ()
    return tariffs_of(rules, request.upstream, request.path, price, body, at_ms)


def _estimates(
    price: Price, tariffs: tuple[Tariff, ...], facts: RequestFacts
) -> Iterator[tuple[Tariff, Rates, Estimate]]:
    """Of each model that may serve, on the standard terms and on those asked for: the upstream may take either."""
    asked = asked_terms(facts.body) if any(tariff.variants for tariff in tariffs) else {}
    for tariff in tariffs:
        yield tariff, tariff.standard, estimate(price, tariff.standard, facts)
        if asked and (rates := tariff.rates(asked)) is not tariff.standard:
            yield tariff, rates, estimate(price, rates, facts)


def _nano(estimated: tuple[Tariff, Rates, Estimate]) -> int:
    return estimated[2].nano


def _unpriced(rules: Rules) -> tuple[Tariff, ...]:
    stated = rules.policy.unpriced
    if stated == "deny":
        return ()
    return (_FREE,) if stated == "free" else (Tariff(stated),)


def _parse(request: ProxyRequest, candidates: tuple[Price, ...]) -> Any:
    """The JSON of the body; None where there is none and no price depends on it."""
    if not request.body:
        return None
    try:
        return loads(request.body)
    except JsonError as error:
        # A body we can't read might still be read by a lenient upstream, and so dodge a rule.
        if "json" in request.content_type.lower() or any(price.match.body for price in candidates):
            message = f"Agent Ledger: the request body must be plain JSON to be priced ({error})."
            raise Refused(400, "invalid_json", message) from error
        return None


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
