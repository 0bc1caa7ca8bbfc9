"""What a rate is for: its key says the unit, as in genai-prices (`input_mtok`: USD per million input_tokens)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from genai_prices.data_units import unit_data

from policy.model import Rate
from policy.money import MAX_USD

REQUEST: Final = "request"

# A name that ends so states its own scale: if the vocabulary hasn't got it, it is a slip that would cost ×1000 or more.
_SCALES: Final = ("_mtok", "_kcount", "_mchars", "_gpixels", "_kpages")
_FINEST: Final = -21  # the exponent of the finest USD per unit; genai-prices goes to -18


class UnitError(ValueError):
    """A rate's key or amount that can't be priced; ``choices`` are the keys it may have meant (empty: the amount)."""

    def __init__(self, message: str, choices: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.choices = choices


_UNITS: Final[Mapping[str, tuple[str, int]]] = MappingProxyType(
    {REQUEST: (REQUEST, 1)}
    | {unit["price_key"]: (REQUEST if usage == "requests" else usage, unit["per"]) for usage, unit in unit_data.items()}
)
RATE_KEYS: Final = tuple(_UNITS)

DIMENSIONS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {usage: MappingProxyType(unit["dimensions"]) for usage, unit in unit_data.items() if usage != "requests"}
)
# Every sub-kind of a usage: input_tokens → cache_read_tokens, cache_audio_read_tokens…
BELOW: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        usage: frozenset(sub for sub, its in DIMENSIONS.items() if its.items() > dimensions.items())
        for usage, dimensions in DIMENSIONS.items()
    }
)
ABOVE: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {usage: frozenset(parent for parent, subs in BELOW.items() if usage in subs) for usage in DIMENSIONS}
)


def _splits(usage: str) -> tuple[tuple[str, ...], ...]:
    """The ways in which a usage is cut into parts that don't overlap: by token type, by modality, by cache_ttl…"""
    axes: dict[str, list[str]] = {}
    for sub in sorted(BELOW[usage]):
        added = DIMENSIONS[sub].keys() - DIMENSIONS[usage].keys()
        if len(added) == 1:
            axes.setdefault(added.pop(), []).append(sub)
    return tuple(tuple(parts) for parts in axes.values())


SPLITS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = MappingProxyType(
    {usage: _splits(usage) for usage in DIMENSIONS}
)


def unit_of(key: str) -> tuple[str, int]:
    """The usage a rate's key prices, and how many units of it: ``input_mtok`` → ``("input_tokens", 1_000_000)``.

    Raises UnitError for a name that states a scale and isn't known.
    """
    if key in _UNITS:
        return _UNITS[key]
    if key == "requests" or key.endswith(_SCALES):
        raise UnitError(f"unknown unit {key!r}", RATE_KEYS)
    return key, 1


def make_rate(key: str, usd: Decimal, tiers: Sequence[tuple[int, Decimal]] = ()) -> Rate:
    """The rate of ``usd`` for the unit in the key's name, exactly; ``tiers`` are (above this many input_tokens, USD).

    An amount finer than a nano-dollar is stated for more units instead. Raises UnitError.
    """
    usage, per = unit_of(key)
    amounts = [usd, *(price for _, price in tiers)]
    for amount in amounts:
        _check(amount)
    finer = max(0, *(-9 - _exponent(amount) for amount in amounts))
    nano, *tier_nanos = (int(Fraction(amount) * 10 ** (9 + finer)) if amount else 0 for amount in amounts)
    starts = sorted(zip((start for start, _ in tiers), tier_nanos, strict=True))
    return Rate(key, usage, nano, per * 10**finer, tuple(starts))


def _check(usd: Decimal) -> None:
    if not usd.is_finite():
        raise UnitError("a rate must be a finite number of USD")
    if usd < 0:
        raise UnitError("a rate must not be negative")
    if usd > MAX_USD:
        raise UnitError(f"a rate must not exceed {MAX_USD} USD")
    if _exponent(usd) < _FINEST:
        raise UnitError(f"a rate must not be finer than 1e{_FINEST} USD")


def _exponent(usd: Decimal) -> int:
    """Of the last digit that counts: -2 for 0.050 (no Decimal context rounds it, as normalize() would)."""
    _, digits, exponent = usd.as_tuple()
    assert isinstance(exponent, int)
    if not any(digits):
        return 0
    trailing = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return exponent + trailing
