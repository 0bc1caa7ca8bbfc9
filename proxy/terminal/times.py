"""Moments as they are written at a terminal, and shown there: of its own zone."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta

_AGO = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_MONTH = re.compile(r"(\d{4})-(\d\d)", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
FORMS = (
    "2h or 3d ago, today, yesterday, 2026-11, 2026-11-22, or ISO 8601; of this terminal's zone unless it says its own"
)


def moment(text: str) -> str:
    """As the API has it, of what `FORMS` says: a day or month is its first moment. For argparse."""
    try:
        at = _read(text, datetime.now().astimezone())
        return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no moment: {FORMS}") from error


def _read(text: str, now: datetime) -> datetime:
    if found := _AGO.fullmatch(text):
        return now - timedelta(**{_UNITS[found[2]]: int(found[1])})
    if text in ("today", "yesterday"):
        day = now.date() - timedelta(days=text == "yesterday")
        return datetime(day.year, day.month, day.day).astimezone()
    if found := _MONTH.fullmatch(text):
        return datetime(int(found[1]), int(found[2]), 1).astimezone()
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.astimezone()


def shown(at: str, now: datetime | None = None) -> str:
    """A moment of the API's: ``Nov 22 14:03:22``, and ``2025-11-22 14:03`` of another year."""
    local, now = datetime.fromisoformat(at).astimezone(), now or datetime.now().astimezone()
    return f"{local:%b %d %H:%M:%S}" if local.year == now.year else f"{local:%Y-%m-%d %H:%M}"
