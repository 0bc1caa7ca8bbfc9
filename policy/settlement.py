"""How a forwarded call ends: voided only where the upstream certainly did not act, and never free for want of usage."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from policy.model import Rates
from policy.pricing import Quantity
from policy.ratecard import as_card
from policy.units import DIMENSIONS


class Conclusion(NamedTuple):
    """``charge`` in nano-dollars; ``unconfirmed``: it is the reservation, or may be less than what was billed."""

    voided: bool
    charge: int
    unconfirmed: bool = False


def needs_usage(rates: Rates) -> bool:
    """Whether the charge depends on what the answer says it used: some rate is of more than the request itself."""
    return as_card(rates).needs_usage


def conclude(
    *,
    rates: Rates,
    usage: Mapping[str, int | Decimal] | None,
    status: int | None,
    complete: bool,
    charge_errors: bool,
    reserved: int,
) -> Conclusion:
    """The end of a call that was sent. ``status`` None: no answer came (a timeout or reset after sending).

    ``complete`` is False where the answer broke off or was not read to its end.
    """
    if status is None:
        return Conclusion(False, reserved, unconfirmed=True)
    if status >= 400 and usage is None and not charge_errors:
        return Conclusion(True, 0)
    card = as_card(rates)
    if not card.needs_usage:
        return Conclusion(False, card.charge(usage or {}))
    if usage is None or not card.speaks_of(usage):
        return Conclusion(False, reserved, unconfirmed=True)
    cost = card.charge(usage)
    if complete:
        return Conclusion(False, cost)
    return Conclusion(False, max(cost, reserved), unconfirmed=True)


def at_least(
    estimated: Mapping[str, Quantity], told: Mapping[str, Quantity] | None, seen: int
) -> Mapping[str, Quantity]:
    """What a stream that broke off is taken to have used at least: the input it told, else the estimate's, and as much
    output as it told or as came, if that is more. ``seen`` are tokens.
    """
    told = told or {}
    known = told if "input_tokens" in told else {**estimated, **told}
    found = {unit: quantity for unit, quantity in known.items() if unit in told or not _is_output(unit)}
    found["output_tokens"] = max(seen, told.get("output_tokens", 0))
    return found


def _is_output(unit: str) -> bool:
    return DIMENSIONS.get(unit, {}).get("direction") == "output"
