"""`rates:` — what the units cost: one mapping, several that are dated, or `catalog`."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from policy.model import DatedRates, Rate, Rates
from policy.parse.reader import Reader
from policy.ratecard import RateCard
from policy.source import MapNode, Node, ScalarNode
from policy.units import UnitError, make_rate

_DATE = re.compile(r"(?:19[7-9]|[2-9]\d\d)\d-\d\d-\d\d", re.ASCII)
_UNIT = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)


def read_rates(reader: Reader, node: Node | None, zone: ZoneInfo) -> tuple[DatedRates, ...] | Literal["catalog"]:
    """Dates are midnights in ``zone``. Rates that broke are left out: a problem is noted for each."""
    if isinstance(node, ScalarNode):
        reader.choice(node, ("catalog",), "catalog")
        return "catalog"
    dated: list[DatedRates] = []
    for item in reader.one_or_many(node, "a mapping of rates"):
        since = item.values.get("from") if isinstance(item, MapNode) else None
        from_ms = _midnight(reader, since, zone) if since else 0
        rates = read_rate_map(reader, item)
        if from_ms is None:
            continue
        if dated and from_ms <= dated[-1].from_ms:
            message = "every entry after the first says from: which day, later than the entry's before it"
            reader.note(since or item, "date-order", message)
        dated.append(DatedRates(from_ms, rates))
    return tuple(dated)


def read_rate_map(reader: Reader, node: Node, only: tuple[str, ...] = ()) -> Rates:
    """A mapping of units to USD; ``from`` is passed over. ``only`` these units, if any are said."""
    found: dict[str, Rate] = {}
    entries = [(key, value) for key, value in reader.entries(node, "USD by unit") if only or key.value != "from"]
    if isinstance(node, MapNode) and not entries:
        reader.note(node, "rate", "no rate; what is free says so: {request: 0}")
    for key, value in entries:
        unit = key.value
        usd = reader.number(value, "a rate in USD, such as 2.50")
        if only and unit not in only:
            reader.note(
                key, "unknown-unit", f"the unit {key.quoted} can't be used here{reader.report.hint(unit, only)}"
            )
            continue
        if not _UNIT.fullmatch(unit):
            reader.note(key, "name", f"{key.quoted} is no unit: its name has lower-case letters, digits and '_'")
            continue
        try:
            rate = make_rate(unit, usd)
        except UnitError as error:
            if error.choices:
                hint = reader.report.hint(unit, error.choices, listed=False)
                reader.note(key, "unknown-unit", f"there is no unit {key.quoted}{hint}")
            else:
                reader.note(value, "rate", str(error))
            continue
        if rate.usage in found:
            other = found[rate.usage].key
            reader.note(key, "duplicate-rate", f"'{unit}' and '{other}' are both rates of {rate.usage}")
        found[rate.usage] = rate
    return RateCard(found.values())


def _midnight(reader: Reader, node: Node, zone: ZoneInfo) -> int | None:
    found = reader.scalar(node, "a day, such as 2027-01-01", ("text",))
    if found is None:
        return None
    try:
        day = datetime.fromisoformat(found.value) if _DATE.fullmatch(found.value) else None
    except ValueError:  # no such day
        day = None
    if day is None:
        reader.note(found, "date", f"{found.quoted} is no day such as 2027-01-01")
        return None
    return int(day.replace(tzinfo=zone).timestamp()) * 1000
