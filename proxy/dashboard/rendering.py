"""The pages' templates, and how values are shown in them. Everything is escaped, and what would hide or reorder text
(controls, line breaks, right-to-left marks, lone surrogates) is shown as its code."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from policy.money import about_usd, format_usd
from proxy.visible import visible


def shown(value: Any) -> Any:
    """Text with all that it holds `visible`; anything else as it is."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def day(at_ms: int, zone: ZoneInfo) -> str:
    """A moment's date: ``Dec 1``."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone)
    return f"{at:%b} {at.day}"


def when(at_ms: int, zone: ZoneInfo, now_ms: int) -> str:
    """A moment as a person says it today: ``14:03:22``, and ``Nov 21 14:03`` on other days."""
    at, now = (datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone) for ms in (at_ms, now_ms))
    return f"{at:%H:%M:%S}" if at.date() == now.date() else f"{at:%b} {at.day} {at:%H:%M}"


def days_back(at_ms: int, zone: ZoneInfo, count: int) -> list[tuple[str, int]]:
    """The last ``count`` days, oldest first: each date, as ``Ledger.spend`` names it, and its start in unix ms."""
    today = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone).date()
    dates = [today - timedelta(days=count - 1 - number) for number in range(count)]
    return [(each.isoformat(), _start_ms(each, zone)) for each in dates]


def _start_ms(day: date, zone: ZoneInfo) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * 1000


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")


def segment(text: str) -> str:
    """One segment of a path: no slash in it divides."""
    return quote(text, safe="")


def lasted(ms: int) -> str:
    """A stretch of time: ``840 ms``, ``12.4 s``, ``3 min``, ``5 h``, ``2 days``."""
    if ms < 1000:
        return f"{ms} ms"
    if ms < 60_000:
        return f"{ms // 100 / 10:g} s"
    if ms < 3_600_000:
        return f"{ms // 60_000} min"
    if ms < 48 * 3_600_000:
        return f"{ms // 3_600_000} h"
    return f"{ms // 86_400_000} days"


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
_templates.filters.update(
    usd=format_usd, cents=about_usd, day=day, when=when, iso=_iso, lasted=lasted, words=_words, segment=segment
)


def render(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    return HTMLResponse(_templates.get_template(template).render(values), status)
