"""Why one action cost what it did, in words and in numbers: for `agent-ledger explain` and the API's `charge`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from policy.model import Rates
from policy.money import format_usd, usd
from policy.pricing import Item, Quantity, charge, itemize, load_rates, speaks_of
from policy.units import ABOVE, REQUEST
from proxy.denials import iso
from proxy.ledger.port import Action

Basis = Literal["usage", "reservation", "reported", "adjustment", "none", "pending"]

FLAGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "abandoned": "its caller was gone before it was forwarded",
        "binary_stream": "its answer was a binary stream, whose usage is not read",
        "byok": "the provider bills a key of the caller's own; this is the router's fee alone",
        "event_skipped": "an event of the stream was too large to be read",
        "expired": "nobody ended its reservation",
        "other_model": "a model that had a part in it may have another price",
        "rpc_error": "the answer was a JSON-RPC error",
        "stream_error": "the stream told of an error",
        "tool_error": "the tool said that it failed",
        "tool_unpriced": "the provider ran a tool that this price has no rate for",
        "unreadable": "the answer, or the usage it states, could not be read",
        "usage_clamped": "the answer stated more than can be; the most that is believed was charged",
        "usage_zero": "the answer stated that nothing was used",
    }
)


REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "agent_paused": "its agent was paused, and stays so until it is resumed",
        "unpriced": "no price of the policy covers it, or its model is not in the price catalog",
        "per_action_limit_exceeded": "its estimate was more than its agent's per-action limit",
        "budget_exceeded": "its estimate was more than the budget had left unspent",
        "budget_reserved": "it would have fitted, but for what calls in flight had reserved of the budget",
        "rate_limited": "its agent was over a limit of calls",
    }
)


@dataclass(frozen=True, slots=True)
class Sum:
    """Usage × rates. ``total`` nano-dollars: the items' sum, rounded up once. Of what no item counts itself, ``within``
    is counted as a part of one that does, and ``apart`` has no rate.
    """

    items: Sequence[Item]
    total: int
    within: Mapping[str, Quantity]
    apart: Mapping[str, Quantity]

    @property
    def amounts(self) -> Sequence[str]:
        """USD of each item, and of the total behind them, with as many decimals as the longest has."""
        return _aligned([f"{item.amount:f}" for item in self.items] + [f"{usd(self.total):f}"])


def basis(action: Action) -> Basis:
    """What the cost is: its usage's charge, its reservation, what its agent reported, what an operator adjusted,
    nothing (it was denied or voided), or not known yet (it is in flight).
    """
    if action.outcome == "pending":
        return "pending"
    if action.ending in (None, "voided"):
        return "none"
    if action.ending == "adjusted":
        return "adjustment"
    if action.ending == "settled" and action.reserved is None:
        return "reported"
    held = action.cost == action.reserved
    if action.ending == "expired" or (held and action.unconfirmed):
        return "reservation"
    return "usage" if action.cost == charge(load_rates(action.rates), action.usage) else "reservation"


def reserved_rates(action: Action) -> Rates:
    """The rates that its estimate was worked out with."""
    return load_rates(action.reserved_rates or action.rates)


def sum_of(rates: Rates, usage: Mapping[str, Quantity]) -> Sum:
    """Quantity × rate for each kind of which there was any; and what was used that no line of it counts."""
    items = itemize(rates, usage)
    priced = {item.usage for item in items}
    rest = {kind: quantity for kind, quantity in usage.items() if quantity and kind not in priced | {REQUEST}}
    within = {kind: quantity for kind, quantity in rest.items() if ABOVE.get(kind, frozenset()) & priced}
    apart = {kind: quantity for kind, quantity in rest.items() if kind not in within}
    return Sum([item for item in items if item.quantity], charge(rates, usage), within, apart)


def explain(action: Action) -> str:
    """The whole account, as lines of text to read in a terminal: nothing of it is the terminal's to obey."""
    lines = [_shown(action.id), *_facts(action)]
    if action.usage or basis(action) == "usage":
        lines += _arithmetic("usage", load_rates(action.rates), action.usage)
    if action.estimated:
        lines += _arithmetic("estimate", reserved_rates(action), action.estimated)
    if action.flags:
        lines += ["", "flags", *_table([(flag, FLAGS.get(flag, "")) for flag in map(_shown, action.flags)])]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _facts(action: Action) -> list[str]:
    who = ", ".join(
        f"{name} {_shown(value)}" for name, value in (("role", action.role), ("owner", action.owner_id)) if value
    )
    facts = [
        ("agent", _shown(action.agent_id) + (f" ({who})" if who else "")),
        ("call", f"{_shown(action.action_type)} {_shown(action.target)}"),
        ("when", iso(action.created_at) + ("" if action.duration_ms is None else f", took {action.duration_ms:,} ms")),
        ("price", f"{_shown(action.price or 'none')}, by policy {_shown(action.policy_hash or 'unknown')}"),
        ("outcome", _outcome(action)),
        ("charge", f"{format_usd(action.cost)}: {ending(action)}"),
    ]
    if action.reserved is not None and action.outcome != "denied":
        facts.append(("reserved", _reserved(action.reserved, action)))
    if action.output_cap is not None:
        facts.append(("output cap", f"{action.output_cap:,} tokens an answer, by cap_output"))
    if action.softened:
        facts.append(("shadow", f"enforced, it would have been denied: {', '.join(map(_shown, action.softened))}"))
    return _table(facts)


def _outcome(action: Action) -> str:
    told = action.outcome + (f", {action.count:,} times within a minute" if action.count > 1 else "")
    return told if action.upstream_status is None else f"{told}, upstream status {action.upstream_status}"


def ending(action: Action) -> str:
    """How the cost came about, and why so."""
    match basis(action):
        case "pending":
            return "in flight; if its sidecar has stopped, the next one charges its reservation"
        case "none":
            return _nothing(action)
        case "reported":
            return "settled at the cost that its agent reported"
        case "adjustment":
            return f"adjusted by an operator, who gave as the reason: {_reason(action)}"
        case "reservation" if action.ending == "expired":
            return "expired, at its reservation, because the sidecar stopped before it ended"
        case "reservation":
            return f"charged at its reservation, because {_unmeasured(action)}"
        case "usage" if action.unconfirmed:
            return "settled at the usage that came before the answer broke off; the upstream may bill more"
        case "usage" if action.usage:
            return "settled at its usage"
    return "settled at its price, which depends on no usage"


def _reason(action: Action) -> str:
    return _shown(json.loads(action.metadata or "{}").get("reason", ""))


def _nothing(action: Action) -> str:
    if action.outcome == "denied":
        by = f" by {_shown(action.budget)}" if action.budget else ""
        return f"denied, {_shown(action.reason or 'no reason is on record')}{by}; nothing was sent upstream"
    if action.upstream_status is not None:
        return f"voided, because the upstream answered {action.upstream_status} and stated no usage"
    if "abandoned" in action.flags:
        return "voided, because it was never forwarded"
    return "voided, because the upstream was not reached"


def _unmeasured(action: Action) -> str:
    if action.upstream_status is None:
        return "no answer came, and the upstream may have acted"
    if action.usage and not speaks_of(load_rates(action.rates), action.usage):
        return "the price has no rate for what the answer states was used"
    if action.usage:
        return "the answer broke off before it stated all of its usage"
    return "the answer states no usage that can be read"


def _reserved(reserved: int, action: Action) -> str:
    held = format_usd(reserved)
    if action.outcome == "pending":
        return held
    if action.cost > reserved:
        return f"{held}; overrun {format_usd(action.cost - reserved)}"
    return f"{held}, of which {format_usd(reserved - action.cost)} returned"


# -- arithmetic --------------------------------------------------------------------------------------------------------
def _arithmetic(title: str, rates: Rates, usage: Mapping[str, Quantity]) -> list[str]:
    found = sum_of(rates, usage)
    rows = [_row(item, amount) for item, amount in zip(found.items, found.amounts, strict=False)]
    rows.append(("total, rounded up", "", "", "", "", "", "=", found.amounts[-1], "USD"))
    notes = [("counted above", found.within), ("without a rate", found.apart)]
    return ["", title, *_table(rows), *(f"  {name}: {_listed(kinds)}" for name, kinds in notes if kinds)]


def _row(item: Item, amount: str) -> tuple[str, ...]:
    return (
        _shown(item.usage), number(item.quantity), "×", f"{item.rate:f}", "/", f"{item.units:,}", "=", amount,
        _shown(item.key),
    )  # fmt: skip


def _listed(kinds: Mapping[str, Quantity]) -> str:
    return ", ".join(f"{_shown(kind)} {number(quantity)}" for kind, quantity in kinds.items())


def number(quantity: Quantity) -> str:
    return f"{quantity:,}" if isinstance(quantity, int) else f"{quantity:,f}"


def _aligned(amounts: Sequence[str]) -> list[str]:
    """All with as many decimals as the longest has."""
    places = max(len(amount.partition(".")[2]) for amount in amounts)
    return [
        f"{whole}.{fraction:0<{places}}" if places else whole
        for whole, _, fraction in (amount.partition(".") for amount in amounts)
    ]


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    return [
        "  "
        + (" " if last > 1 else "  ").join(
            cell.ljust(width) if at in (0, last) else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _shown(text: str) -> str:
    """What an agent or an upstream named, without what a terminal would obey."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
