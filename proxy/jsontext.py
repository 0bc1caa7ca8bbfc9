"""JSON with exact numbers: fractions are read as Decimal and written as their own digits, never through floats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any


class JsonError(ValueError):
    """Not JSON that every reader would understand alike. The message says why and quotes none of it."""


def loads(text: bytes) -> Any:
    """Parse UTF-8 JSON. Raises JsonError, also for a key that stands twice, NaN and infinities, numbers too long to
    convert, and nesting too deep to follow.
    """
    try:
        return json.loads(
            text.decode("utf-8"), parse_float=Decimal, parse_constant=_refuse_constant, object_pairs_hook=_unique
        )
    except UnicodeDecodeError as error:
        raise JsonError("it is not UTF-8") from error
    except RecursionError as error:
        raise JsonError("it is nested too deep") from error
    except json.JSONDecodeError as error:
        raise JsonError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except JsonError:
        raise
    except (ValueError, InvalidOperation) as error:
        raise JsonError("a number is too long") from error


def dumps(value: Any) -> str:
    """Compact ASCII JSON. A Decimal is written with its own digits: any amount of money without an exponent.

    Raises RecursionError for what is nested too deep.
    """
    if isinstance(value, Decimal):
        # Beyond any amount an exponent stays one: 1e999999999 written out would fill the memory.
        return f"{value:f}" if abs(value.adjusted()) < 30 else str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(str(key))}:{dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(dumps, value)) + "]"
    return json.dumps(value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise JsonError("a key stands twice in one object")
    return found


def _refuse_constant(name: str) -> None:
    raise JsonError(f"{name} is not JSON")
