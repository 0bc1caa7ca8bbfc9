"""The pages' templates and how values are shown in them. Everything is escaped, and what would hide or reorder text
(controls, line breaks, right-to-left marks, lone surrogates) is shown as its code."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from policy.money import format_usd
from proxy.dashboard.view import day, when

_JOINERS = "\u200c\u200d"  # invisible, but words and emoji are spelled with them
_SUSPECT = re.compile(r"[^\x20-\x7e]")


def shown(value: Any) -> Any:
    """Text without what can't be seen: ``a\\r\\nb`` comes out as the four characters ``\\x0d\\x0a`` between a and b."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _SUSPECT.sub(_code, value)


def _code(match: re.Match[str]) -> str:
    char = match.group()
    if char in _JOINERS or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return char
    return char.encode("ascii", "backslashreplace").decode() if ord(char) > 127 else f"\\x{ord(char):02x}"


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")


def _words(name: str) -> str:
    """``budget_exceeded`` for people: ``budget exceeded``."""
    return name.replace("_", " ")


_templates = Environment(
    loader=PackageLoader("proxy.dashboard"),
    autoescape=True,
    finalize=shown,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters.update(usd=format_usd, day=day, when=when, iso=_iso, words=_words)


def render(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(_templates.get_template(template).render(values), status)
