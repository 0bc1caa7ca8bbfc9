"""What a call may cost, worked out from its request: the reservation that has to fit before it is forwarded."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, Final

from msgspec import Struct

from policy import uploads
from policy.ceilings import QUANTITY_MAX, choices, generates, number, stated_ceiling, thoughts
from policy.input import Reading, RequestFacts, quantity
from policy.model import Price, Rate, Rates
from policy.money import MAX_USD, NANO
from policy.pointer import dig
from policy.pricing import Quantity
from policy.ratecard import RateCard, as_card
from policy.units import DIMENSIONS, REQUEST

_TOKEN_KINDS: Final = frozenset(kind for kind, its in DIMENSIONS.items() if its["family"] == "tokens")
_TOKENS_AND_REQUESTS: Final = _TOKEN_KINDS | {REQUEST}
_TOKENS_STATED: Final = ("input_tokens", "output_tokens")
_OUTPUT_TOKENS: Final = 4096
_NANO_MAX: Final = MAX_USD * NANO


class Estimate(Struct, frozen=True):
    """``nano`` nano-dollars, the charge for ``usage`` at most; both are within 64 bits whatever a request states."""

    usage: Mapping[str, Quantity]
    nano: int


def estimate(price: Price, rates: Rates, request: RequestFacts) -> Estimate:
    """The most that the call is taken to cost: its input at the dearest rate that can apply, and its output's ceiling.

    The input is bounded, not estimated, by a rule with `cap_output`. Never raises on what a request states; a ceiling
    that isn't a positive number counts as not stated.
    """
    return estimate_at(price, rates, Reading(price, request))


def estimate_at(price: Price, rates: Rates, read: Reading) -> Estimate:
    """As `estimate`, of a request that may have been read for other rates already."""
    card, path = as_card(rates), read.request.path
    usage = estimate_input(price, card, read)
    if "input_tokens" in usage and generates(path):
        tokens = uploads.output_tokens(path, read.body)
        if tokens is None or "output_tokens" in price.estimate:
            tokens = stated_ceiling(path, read.body) or unstated_ceiling(price, read.body)
        add_output(usage, card, read, tokens)
    return priced(card, usage)


def estimate_input(price: Price, card: RateCard, read: Reading) -> dict[str, Quantity]:
    """The usage but for its output, all tokens of the input at the dearest kind."""
    usage: dict[str, Quantity] = {"request": 1}
    if price.estimate:
        stated = {unit: quantity(amount) for unit, amount in price.estimate.items() if unit not in _TOKENS_STATED}
        usage.update(stated)
    if price.usage:
        usage.update(_known_before(price, read.request))
    if not card.usages <= _TOKENS_AND_REQUESTS:
        known = read.units()
        for unit in card.usages & known.keys():
            usage.setdefault(unit, known[unit])
    if not card.usages.isdisjoint(_TOKEN_KINDS):
        tokens, images, sound, kinds = read.input()
        usage["input_tokens"] = tokens
        if dearest := card.dearest(kinds, tokens):
            usage[dearest.usage] = tokens
        if images:
            usage["input_image_tokens"] = images
        if sound:
            usage["input_audio_tokens"] = sound
    return usage


def add_output(usage: dict[str, Quantity], card: RateCard, read: Reading, ceiling: int) -> None:
    """To the input's usage that of as many answers as are asked for, each of so many tokens, at the dearest kind."""
    tokens = min(ceiling * choices(read.request.path, read.body), QUANTITY_MAX)
    usage["output_tokens"] = tokens
    if rate := output_rate(card, read, usage["input_tokens"]):
        usage[rate.usage] = tokens


def output_rate(card: RateCard, read: Reading, input_tokens: Quantity) -> Rate | None:
    """The dearest rate of what the answer may be made of; None where output has no rate."""
    return card.dearest(read.output_kinds(), input_tokens)


def priced(card: RateCard, usage: dict[str, Quantity]) -> Estimate:
    return Estimate(usage, min(card.charge(usage), _NANO_MAX))


def unstated_ceiling(price: Price, body: dict[str, Any]) -> int:
    """The ceiling where a request states none: the rule's, else 4096 beside the thoughts it gives leave for."""
    if (stated := price.estimate.get("output_tokens")) is not None:
        return ceil(quantity(stated))
    return min(_OUTPUT_TOKENS + thoughts(body), QUANTITY_MAX)


def _known_before(price: Price, request: RequestFacts) -> dict[str, Quantity]:
    """Units that the rule reads from the request itself, or that its bytes are."""
    found: dict[str, Quantity] = {}
    for source in price.usage:
        if source.kind == "request" and (count := number(dig(request.body, source.path))) is not None:
            found[source.unit] = count
        elif source.kind == "measured" and source.path == "request_bytes" and request.body_bytes:
            found[source.unit] = request.body_bytes + request.file_bytes
    return found
