"""Usage × rates, line by line, as text for tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policy.pricing import Quantity
from proxy.explanation import Sum, number


@dataclass(frozen=True, slots=True)
class Line:
    """One kind of usage in the arithmetic, as text; ``per`` is the units that the rate is for."""

    usage: str
    quantity: str
    rate: str
    per: str
    key: str
    amount: str


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """``total`` is the sum, rounded up once; ``within`` is counted in a line, ``apart`` in none: it has no rate."""

    lines: Sequence[Line]
    total: str
    within: Sequence[tuple[str, str]]
    apart: Sequence[tuple[str, str]]


def arithmetic(found: Sum) -> Arithmetic:
    *amounts, total = found.amounts
    lines = [
        Line(item.usage, number(item.quantity), f"{item.rate:f}", f"{item.units:,}", item.key, amount)
        for item, amount in zip(found.items, amounts, strict=True)
    ]
    return Arithmetic(lines, total, _listed(found.within), _listed(found.apart))


def _listed(kinds: Mapping[str, Quantity]) -> list[tuple[str, str]]:
    return [(kind, number(quantity)) for kind, quantity in kinds.items()]
