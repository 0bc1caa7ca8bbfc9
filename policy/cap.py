"""`cap_output`: the ceiling of output that is written into a request, so that its estimate is one too."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any, NamedTuple

from policy.ceilings import Keys, choices, fields_to_write, least_ceiling, positive, value_at
from policy.estimate import Estimate, add_output, estimate_input, output_rate, priced, unstated_ceiling
from policy.input import Reading, RequestFacts
from policy.model import Price, Rates
from policy.pricing import nano_at
from policy.ratecard import as_card

Write = tuple[Keys, int]


class Capped(NamedTuple):
    """``tokens`` are the ceiling of each answer, once ``writes`` (keys and the value to stand there) are made: none
    where the request states no more by itself. ``estimate`` is that of the request so rewritten.
    """

    estimate: Estimate
    tokens: int
    writes: tuple[Write, ...]


def cap_output(
    price: Price, rates: Rates, request: RequestFacts, provider: str | None, limit: int | None
) -> Capped | None:
    """The ceiling that the request states, else the rule's `estimate: output_tokens`, else 4096 beside its thoughts,
    lowered to what the per-action ``limit`` (nano-dollars; None: there is none) affords beside the input.

    Never below the least that the provider takes, which the request is then denied for. ``provider`` is genai-prices'
    name of the upstream's. None where nothing is generated or output costs nothing, and where it isn't known how a
    ceiling is written.

    It binds what is generated in every API whose ceiling counts reasoning as well: OpenAI's, Anthropic's, Gemini's,
    Groq's, DeepSeek's. Models that search by themselves, and tools at the provider, go round it.
    """
    return cap_output_at(price, rates, Reading(price, request), provider, limit)


def cap_output_at(price: Price, rates: Rates, read: Reading, provider: str | None, limit: int | None) -> Capped | None:
    """As `cap_output`, of a request that may have been read for other rates already."""
    card, path, body = as_card(rates), read.request.path, read.body
    fields = fields_to_write(path, body, provider) if isinstance(read.request.body, dict) else ()
    usage = estimate_input(price, card, read) if fields else {}
    input_tokens = usage.get("input_tokens")
    rate = output_rate(card, read, input_tokens) if input_tokens is not None else None
    if rate is None or input_tokens is None:
        return None
    least = least_ceiling(path, body)
    most: int | float = inf
    if limit is not None and (nano := nano_at(rate, input_tokens)):
        spare = limit - card.charge(usage)
        most = max(least, spare * rate.per // (nano * choices(path, body)))
    stated = [(keys, value) for keys in fields if (value := value_at(body, keys)) is not None]
    ceilings: list[Write] = []
    for keys, value in stated or [(fields[0], None)]:
        wanted = positive(value) or max(least, unstated_ceiling(price, body))
        ceilings.append((keys, wanted if wanted <= most else int(most)))
    tokens = max(ceiling for _, ceiling in ceilings)
    add_output(usage, card, read, tokens)
    writes = tuple(write for write in ceilings if not _stands(body, write))
    return Capped(priced(card, usage), tokens, writes)


def _stands(body: dict[str, Any], write: Write) -> bool:
    """Whether the request says so by itself, as a plain number."""
    value = value_at(body, write[0])
    return type(value) is int and value == write[1]


def rewritten(body: dict[str, Any], writes: Sequence[Write]) -> dict[str, Any]:
    """The parsed request with the writes made; the objects on their way are copied, all else is shared."""
    copy = dict(body)
    for (key, *rest), value in writes:
        inner = copy.get(key)
        nested = (tuple(rest), value)
        copy[key] = rewritten(inner if isinstance(inner, dict) else {}, [nested]) if rest else value
    return copy
