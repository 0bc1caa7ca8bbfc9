"""JSON with exact numbers: fractions are read as Decimal and written as their own digits, never through floats."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from msgspec import MsgspecError
from msgspec.json import Decoder, Encoder
from msgspec.json import format as reformat

DEPTH_MAX: Final = 200  # arrays and objects within each other; of tools' schemas and conversations none needs 40
VALUES_MAX: Final = 500_000  # a parsed value takes up to 100 bytes, and parsing holds the interpreter's lock
DIGITS_MAX: Final = 4300  # of a fraction; Python's own bound for integers
_SHORT: Final = 16 * 1024  # bytes
_EXPONENT: Final = re.compile(rb"[0-9]E[+-]?[0-9]")


class JsonError(ValueError):
    """Not JSON that every reader would understand alike. The message says why and quotes none of it."""


class _NotCanonical(Exception):
    """JSON that is written otherwise than `dumps` of its value, but for spaces."""


def loads(text: bytes) -> Any:
    """Parse UTF-8 JSON. Raises JsonError, also for a key that stands twice, NaN and infinities, numbers too long to
    convert, and what exceeds DEPTH_MAX or VALUES_MAX.
    """
    if len(text) > VALUES_MAX and _many_values(text):
        raise JsonError(f"it holds more than {VALUES_MAX} values")
    try:
        found = _canonical(text)
    except (_NotCanonical, MsgspecError, ValueError, ArithmeticError, RecursionError):
        found = _checked(text)
    if _may_be_deep(text) and _is_deep(found):
        raise JsonError("it is nested too deep")
    return found


def _canonical(text: bytes) -> Any:
    """Parse what is written as it would be written again, in a fourth of the time: most clients' JSON, with spaces or
    without. Any error: it isn't, and may be JSON all the same.

    A text that its own value gives back says nothing that the value does not: no key stands twice in it.
    """
    found = _decode(text)
    again = _encode(found)
    if again != text and again != reformat(text, indent=-1):  # -1: without spaces
        raise _NotCanonical
    return found


def _checked(text: bytes) -> Any:
    """Parse any JSON, looking at each key."""
    try:
        return json.loads(
            text.decode("utf-8"), parse_float=_fraction, parse_constant=_refuse_constant, object_pairs_hook=_unique
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


def values_most(text: bytes) -> int:
    """How many values JSON text holds at most: each but the first is begun by one of these bytes."""
    return len(text) - len(text.translate(None, b",[{")) + 1


def dumps(value: Any) -> str:
    """Compact ASCII JSON. A Decimal is written with its own digits: any amount of money without an exponent.

    Raises RecursionError for what is nested too deep.
    """
    kind = type(value)  # most values are of these, and each is asked of an answer's thousands
    if kind is str:
        return _text(value)
    if kind is int:
        return str(value)
    if kind is dict:
        return "{" + ",".join([f"{_text(str(key))}:{dumps(item)}" for key, item in value.items()]) + "}"
    if isinstance(value, Decimal):
        # Beyond any amount an exponent stays one: 1e999999999 written out would fill the memory.
        return f"{value:f}" if abs(value.adjusted()) < 30 else str(value)
    if isinstance(value, Mapping):
        return dumps(dict(value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(dumps, value)) + "]"
    return json.dumps(value)


def encode(value: Any) -> bytes:
    """The bytes of `dumps`, in a tenth of its time for most of what the API answers. Raises as it does."""
    try:
        text = _encode(value)
    except (TypeError, ValueError, ArithmeticError, RecursionError):
        return dumps(value).encode()
    # What it writes otherwise: text beyond visible ASCII, and Decimals with an exponent.
    same = text.isascii() and b"\x7f" not in text and not (b"E" in text and _EXPONENT.search(text))
    return text if same else dumps(value).encode()


def _many_values(text: bytes) -> bool:
    """Whether there are more than VALUES_MAX of them, what only looks so inside of strings not counted."""
    if values_most(text) <= VALUES_MAX:
        return False
    unescaped = text.replace(rb"\\", b"").replace(rb"\"", b"")
    if unescaped.count(b'"') > 4 * VALUES_MAX:  # a value is a string, or has one for its key, or both
        return True
    return values_most(b"".join(unescaped.split(b'"')[::2])) > VALUES_MAX


def _may_be_deep(text: bytes) -> bool:
    """Whether it opens more than DEPTH_MAX arrays and objects, counting what stands in strings too."""
    if len(text) < _SHORT:
        return text.count(b"[") + text.count(b"{") > DEPTH_MAX
    opened = 0
    for opening in (b"[", b"{"):
        at = text.find(opening)  # of a long text it is 30 times as fast as count(), but for each that is found
        while at >= 0:
            opened += 1
            if opened > DEPTH_MAX:
                return True
            at = text.find(opening, at + 1)
    return False


def _is_deep(found: Any) -> bool:
    level = [found]
    for _ in range(DEPTH_MAX):
        inner = (node.values() if type(node) is dict else node for node in level)
        level = [value for values in inner for value in values if type(value) is dict or type(value) is list]
        if not level:
            return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise JsonError("a key stands twice in one object")
    return found


def _fraction(digits: str) -> Decimal:
    if len(digits) > DIGITS_MAX:
        raise JsonError("a number is too long")
    return Decimal(digits)


_decode: Final = Decoder(float_hook=_fraction).decode
_text: Final = json.encoder.encode_basestring_ascii
_encode: Final = Encoder(decimal_format="number").encode


def _refuse_constant(name: str) -> None:
    raise JsonError(f"{name} is not JSON")
