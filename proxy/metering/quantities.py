"""Quantities as upstreams state them: checked, exact, and never large enough to hurt."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any

from msgspec import MsgspecError, Struct, to_builtins
from msgspec.json import Decoder

QUANTITY_MAX = 1_000_000_000

_FINEST = -40  # the exponent of the last digit: a charge is worked out in exact fractions
_PLAIN = re.compile(r"\d{1,40}(\.\d{1,40})?([eE][+-]?\d{1,3})?", re.ASCII)


class Unreadable(ValueError):
    """Usage was stated, but not as a quantity."""


def document_of(text: bytes | bytearray, *, exact: bool = False, shape: type[Struct] | None = None) -> Any:
    """The JSON of an answer, however odd; None where it can't be known. ``exact``: fractions as Decimal.

    ``shape`` names the members that matter, if it is an object of such (others may be left out): vectors and prose that
    nobody reads are checked, not built.
    """
    try:
        found = _decoder(shape, exact)(text)
        return found if shape is None else to_builtins(found, builtin_types=(Decimal,))
    except (MsgspecError, ValueError, ArithmeticError, RecursionError):
        return _odd_document(text, exact)


@cache
def _decoder(shape: type[Struct] | None, exact: bool) -> Callable[[bytes | bytearray], Any]:
    return Decoder(shape or Any, float_hook=Decimal if exact else None).decode


def _odd_document(text: bytes | bytearray, exact: bool) -> Any:
    """What only Python's own parser takes: NaN, halves of surrogates, a byte order mark, fractions beyond all floats.

    Bytes that are not UTF-8 are replaced (they stand in prose, not in usage), and so the rest is read.
    """
    decoded = text.decode("utf-8-sig", "replace")
    parse_float = Decimal if exact else None
    try:
        return json.loads(decoded, parse_float=parse_float)
    except (json.JSONDecodeError, RecursionError):
        return None
    except (ValueError, ArithmeticError):
        pass
    try:  # an integer too long to convert: its size is beyond QUANTITY_MAX anyway
        return json.loads(decoded, parse_int=lambda digits: int(digits[:20]))
    except (ValueError, RecursionError):
        return None


def count(holder: Any, *path: str) -> int | None:
    """The tokens at a path of keys; None where there are none. Above QUANTITY_MAX: just above it.

    Raises Unreadable for what is no whole, non-negative number.
    """
    for key in path:
        if holder is None:
            return None
        if not isinstance(holder, dict):
            raise Unreadable
        holder = holder.get(key)
    if holder is None or (type(holder) is int and 0 <= holder <= QUANTITY_MAX):
        return holder
    quantity = amount(holder) if not isinstance(holder, str) else None
    if not isinstance(quantity, int):
        raise Unreadable
    return quantity


def amount(value: Any) -> int | Decimal:
    """A quantity of any unit, from JSON or (as text) from a header. Above QUANTITY_MAX: just above it.

    Raises Unreadable.
    """
    if isinstance(value, bool):
        raise Unreadable
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        value = Decimal(value)
    elif isinstance(value, float):
        value = Decimal(repr(value))
    if not isinstance(value, (int, Decimal)):
        raise Unreadable
    if (isinstance(value, Decimal) and value.is_nan()) or value < 0:
        raise Unreadable
    if value > QUANTITY_MAX:
        return QUANTITY_MAX + 1
    if isinstance(value, int):
        return value
    if value.as_tuple().exponent < _FINEST:  # type: ignore[operator]  # finite, by the comparisons above
        raise Unreadable
    return int(value) if value == value.to_integral_value() else value
