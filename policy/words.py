"""A policy's parts as people read them: without a header's value, a key, or more of a webhook's url than its host."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple
from urllib.parse import urlsplit

from policy.match import scalar_text
from policy.model import Match, Price, Rates, Scope, Upstream, Webhook
from policy.pricing import dump_rates
from policy.units import unit_of

Condition = tuple[str, Sequence[str]]  # what is looked at, and what it may be: ("path", ["/v1/*"])

_CENTS = 2
_SCALES = {1_000_000: "million", 1_000_000_000: "billion"}
_SOURCES = {
    "header": "the answer's header",
    "response": "the answer's",
    "request": "the request's",
    "measured": "measured as",
}


class RateWords(NamedTuple):
    """``amount`` USD for each ``per`` (``million``, ``1,000``, "" for one) of ``usage``; ``tiers`` are (above this many
    input tokens, the amount of all of them).
    """

    usage: str
    amount: str
    per: str
    tiers: Sequence[tuple[str, str]] = ()


def place_of(upstream: Upstream) -> str:
    """Its url, but for what may be a secret in it."""
    url = urlsplit(upstream.url)
    return url._replace(netloc=url.netloc.rpartition("@")[2], query="", fragment="").geturl()


def host_of(webhook: Webhook) -> str:
    """All of its url that may be shown."""
    return urlsplit(webhook.url).hostname or ""


def conditions_of(match: Match) -> list[Condition]:
    """What a price looks at in a call; nothing: it matches any."""
    head = {"upstream": match.upstreams, "method": match.methods, "path": match.paths}
    found: list[Condition] = [(name, values) for name, values in head.items() if values]
    found += [(f"body {field}", [scalar_text(value) for value in values]) for field, values in match.body]
    return [*found, ("protocol", ["websocket"])] if match.websocket else found


def scope_of(scope: Scope) -> list[Condition]:
    """Which calls a budget or a limit counts, by the policy's own keys; nothing: all."""
    named = {
        "agent": scope.agents,
        "owner_id": scope.owner_ids,
        "role": scope.roles,
        "upstream": scope.upstreams,
        "price": scope.prices,
    }
    return [(name, values) for name, values in named.items() if values]


def rates_of(rates: Rates) -> list[RateWords]:
    found = []
    for key, written in dump_rates(rates).items():
        usage, per = unit_of(key)
        base, tiers = (written, []) if isinstance(written, str) else (written["base"], written["tiers"])
        above = tuple((f"{start:,}", _dollars(amount)) for start, amount in tiers)
        found.append(RateWords(usage, _dollars(base), "" if per == 1 else _SCALES.get(per, f"{per:,}"), above))
    return found


def remarks_of(price: Price) -> list[str]:
    """What a price says beside its rates: where its usage is read, and what is taken for what a call doesn't state."""
    found = [f"{source.unit}: {_SOURCES[source.kind]} {source.path}" for source in price.usage]
    taken = (f"{_number(Decimal(q.numerator) / q.denominator)} {name}" for name, q in price.estimate.items())
    if price.estimate:
        found.append(f"estimated where not stated: {', '.join(taken)}")
    if price.cap_output:
        found.append("output held to what the per-action limit affords")
    if price.model is not None:
        found.append(f"model: {price.model}")
    return found


def _dollars(usd: str) -> str:
    """``2.5`` as ``$2.50``; finer amounts keep all of their digits."""
    whole, _, fraction = usd.partition(".")
    return f"${whole}.{fraction.ljust(_CENTS, '0')}"


def _number(value: Decimal) -> str:
    return f"{value:,f}"
