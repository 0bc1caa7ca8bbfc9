"""Money as integers of nano-dollars (1 USD = 1_000_000_000); no float ever touches an amount."""

from __future__ import annotations

import re
from decimal import Decimal

NANO = 1_000_000_000
CENT = NANO // 100
MAX_USD = 1_000_000_000

_FINEST = Decimal("0.000000001")
_PLAIN = re.compile(r"\d{1,40}(\.\d{1,40})?([eE][+-]?\d{1,3})?", re.ASCII)


class MoneyError(ValueError):
    """The text or number is not an amount of money we accept; the message says why."""


def parse_usd(value: str | int | Decimal) -> int:
    """USD as written (``"25.00"``, ``5``, ``Decimal("0.05")``) to nano-dollars, exactly.

    Raises MoneyError for NaN, infinities, negatives, booleans, more than 1e9 USD, and for amounts finer than a
    nano-dollar: an amount is stored as it was written or not at all.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, Decimal)):
        raise MoneyError("an amount of USD must be a number")
    if isinstance(value, str):
        if not _PLAIN.fullmatch(value):
            raise MoneyError("an amount of USD must be a plain, non-negative number")
        value = Decimal(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise MoneyError("an amount of USD must be finite")
        # adjusted() bounds the exponent before any arithmetic: 1e999999 must cost nothing to refuse.
        if value and (value.adjusted() > 9 or value.adjusted() < -12):
            raise MoneyError(_RANGE if value.adjusted() > 9 else _TOO_FINE)
    if value < 0:
        raise MoneyError("an amount of USD must not be negative")
    if value > MAX_USD:
        raise MoneyError(_RANGE)
    if isinstance(value, int):
        return value * NANO
    exact = value.quantize(_FINEST)  # rounds to the digits asked for, whatever the number's length; scaleb would not
    if exact != value:
        raise MoneyError(_TOO_FINE)
    return int(exact.scaleb(9))


_RANGE = f"an amount of USD must not exceed {MAX_USD}"
_TOO_FINE = "an amount of USD must not be finer than 0.000000001"


def usd(nano: int) -> Decimal:
    """Nano-dollars as the shortest exact Decimal of USD: ``Decimal("0.05")``; ``parse_usd`` gives it back."""
    amount = Decimal(nano).scaleb(-9).normalize()
    return amount if amount.as_tuple().exponent <= 0 else amount.quantize(Decimal(1))  # type: ignore[operator]


def format_usd(nano: int) -> str:
    """For people: at least cents, never rounded, never an exponent: ``$0.05``, ``$12.50``, ``-$0.000000001``."""
    sign, nano = ("-", -nano) if nano < 0 else ("", nano)
    whole, rest = divmod(nano, NANO)
    digits = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole}.{digits}"


def about_usd(nano: int) -> str:
    """For people who compare amounts: to the nearest cent, and what is less than one as it is."""
    return format_usd(nano if 0 < abs(nano) < CENT else (nano + CENT // 2) // CENT * CENT)


def shortest_usd(nano: int) -> str:
    """Nano-dollars, not negative, as `usd` shows them, without making a Decimal: ``0.05``, ``12``."""
    whole, rest = divmod(nano, NANO)
    return f"{whole}.{rest:09d}".rstrip("0") if rest else str(whole)
