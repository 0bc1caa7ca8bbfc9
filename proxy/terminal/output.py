"""What the commands print: amounts, JSON as it was sent, and what becomes of it when nobody reads on."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from msgspec import Raw

from policy.money import about_usd, format_usd
from proxy.visible import visible

NONE = "-"


def nano(amount: Decimal | int) -> int:
    return int(Decimal(amount).scaleb(9))


def exact(amount: Decimal | int | None) -> str:
    return NONE if amount is None else format_usd(nano(amount))


def about(amount: Decimal | int | None) -> str:
    return NONE if amount is None else about_usd(nano(amount))


def percent(spent: Decimal | int, amount: Decimal | int) -> str:
    return f"{nano(spent) * 100 // nano(amount)}%" if amount else NONE


def out(text: str) -> None:
    print(text)


def tell(text: str) -> None:
    """To stderr: what is no result."""
    print(f"agent-ledger: {text}", file=sys.stderr, flush=True)


def array(raws: Sequence[Raw]) -> None:
    """The API's own bytes: an object a line."""
    out("[" + ",\n ".join(as_sent(raw) for raw in raws) + "]")


def as_sent(raw: Raw | bytes) -> str:
    return bytes(raw).decode()


def told(text: Any) -> str:
    """Text of the API's in a sentence."""
    return visible(str(text))


def any_text_goes() -> None:
    """On a terminal whose encoding lacks a character, its code is shown; no name ends a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def reader_left() -> int:
    """The exit code once nobody reads stdout: as a shell has it for SIGPIPE. What is left unwritten goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141
