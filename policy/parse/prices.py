"""`prices:` — what calls match, and what they cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from policy.model import DatedRates, Match, Price, Scalar, SourceKind, UsageSource
from policy.parse.rates import read_rates
from policy.parse.reader import Reader
from policy.parse.upstreams import HEADER_NAME
from policy.source import MapNode, Node, ScalarNode
from policy.units import DIMENSIONS, REQUEST

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

_MEASURED = ("seconds", "request_bytes", "response_bytes")
_SOURCE_KINDS: tuple[SourceKind, ...] = get_args(SourceKind)
_PATH = re.compile(r"[/*][!\"$-@A-~]*", re.ASCII)  # as sent: ASCII, without '#'; '?' has a message of its own
_UNRESERVED = re.compile(r"%(4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9ae]|3[0-9]|2[de])", re.IGNORECASE)
_DOTTED = re.compile(r"[^\s.]+(\.[^\s.]+)*")
_PLACE = re.compile(rf"(/([^~/]|~[01])*)+|(?!/){_DOTTED.pattern}")
_KEYS = ("name", "match", "rates", "usage", "estimate", "cap_output", "model")


@dataclass(frozen=True, slots=True)
class PriceContext:
    """What prices refer to. Their own names are added to ``names``."""

    zone: ZoneInfo
    upstreams: Mapping[str, ScalarNode]
    names: dict[str, ScalarNode]


def read_prices(reader: Reader, node: Node | None, context: PriceContext) -> tuple[Price, ...]:
    return tuple(_price(reader, item, context) for item in reader.items(node, "prices"))


def _price(reader: Reader, node: Node, context: PriceContext) -> Price:
    fields = reader.fields(node, "a price", _KEYS, required=("name", "rates"))
    rates = read_rates(reader, fields.get("rates"), context.zone)
    units = _units(rates)
    return Price(
        name=reader.unique(context.names, fields.get("name"), "price"),
        match=_match(reader, fields.get("match"), context.upstreams),
        rates=rates,
        usage=_usage(reader, fields.get("usage"), units),
        estimate=_estimate(reader, fields.get("estimate"), units),
        cap_output=reader.flag(fields.get("cap_output")),
        model=reader.text(fields.get("model")) or None,
    )


def _units(rates: tuple[DatedRates, ...] | Literal["catalog"]) -> tuple[str, ...]:
    """The usages that the charge can depend on."""
    if rates == "catalog":
        return tuple(DIMENSIONS)
    stated = dict.fromkeys(rate.usage for dated in rates for rate in dated.rates if rate.usage != REQUEST)
    if any(usage in DIMENSIONS for usage in stated):
        stated |= dict.fromkeys(("input_tokens", "output_tokens"))
    return tuple(stated)


def _match(reader: Reader, node: Node | None, upstreams: Mapping[str, ScalarNode]) -> Match:
    if node is None:
        return Match()
    fields = reader.fields(node, "match", ("upstream", "method", "path", "body", "protocol"))
    methods = reader.one_or_many(fields.get("method"), "a method")
    paths = reader.one_or_many(fields.get("path"), "a path")
    return Match(
        upstreams=reader.references(fields.get("upstream"), upstreams, "upstream"),
        methods=tuple(reader.choice(method, METHODS, "GET") for method in methods),
        paths=tuple(_path(reader, path) for path in paths),
        body=_body(reader, fields.get("body")),
        websocket=reader.choice(fields.get("protocol"), ("http", "websocket"), "http") == "websocket",
    )


def _path(reader: Reader, node: Node) -> str:
    found = reader.scalar(node, "a path, such as /v1/**", ("text",))
    if found is None:
        return ""
    why = ""
    if "?" in found.value or "#" in found.value:
        why = "a path is matched without its query; '*' and '**' are the only wildcards"
    elif not _PATH.fullmatch(found.value):
        why = "a path begins with '/' (or '**'), and is ASCII, percent-encoded as it is sent"
    elif encoded := _UNRESERVED.search(found.value):
        why = f"'{encoded[0]}' is never matched: an encoded letter, digit, '-', '.', '_' or '~' is refused when sent"
    if why:
        reader.note(found, "path", why)
    return found.value


def _body(reader: Reader, node: Node | None) -> tuple[tuple[str, tuple[Scalar, ...]], ...]:
    if node is None:
        return ()
    found: list[tuple[str, tuple[Scalar, ...]]] = []
    entries = list(reader.entries(node, "values or globs by dotted path"))
    if isinstance(node, MapNode) and not entries:
        reader.note(node, "field", "no field; leave body out where any will do")
    for key, value in entries:
        if not _DOTTED.fullmatch(key.value):
            reader.note(key, "field", f"{key.quoted} is no dotted path such as params.name")
        values = reader.one_or_many(value, "a value")
        found.append((key.value, tuple(_scalar(reader, item) for item in values)))
    return tuple(found)


def _scalar(reader: Reader, node: Node) -> Scalar:
    found = reader.scalar(node, "text, a number, true, false or null", ("text", "number", "boolean", "nothing"))
    if found is None or found.kind == "nothing":
        return None
    if found.kind == "boolean":
        return found.value == "true"
    if found.kind == "text":
        return found.value
    if len(found.value) > 40:
        reader.note(found, "number", "a number has at most 40 characters here")
        return 0
    number = Decimal(found.value)
    whole = number.adjusted() <= 40 and number == number.to_integral_value()
    return int(number) if whole else number


def _usage(reader: Reader, node: Node | None, units: tuple[str, ...]) -> tuple[UsageSource, ...]:
    if node is None:
        return ()
    found: list[UsageSource] = []
    for key, value in reader.entries(node, "sources by unit"):
        _check_unit(reader, key, units)
        fields = reader.fields(value, "a source of usage", _SOURCE_KINDS)
        if isinstance(value, MapNode) and len(value.keys) != 1:
            message = "expected exactly one of header, response, request and measured"
            reader.note(value, "usage-source", message)
        for kind in _SOURCE_KINDS:
            if kind in fields:
                found.append(UsageSource(key.value, kind, _source(reader, fields[kind], kind)))
    return tuple(found)


def _source(reader: Reader, node: Node, kind: SourceKind) -> str:
    if kind == "measured":
        return reader.choice(node, _MEASURED, "seconds")
    path = reader.text(node)
    pattern, what = (
        (HEADER_NAME, "a header's name")
        if kind == "header"
        else (_PLACE, "a dotted path, such as result.n, or a JSON pointer, such as /result/n")
    )
    if path and not pattern.fullmatch(path):
        reader.note(node, "field", f"expected {what}")
    return path.lower() if kind == "header" else path


def _estimate(reader: Reader, node: Node | None, units: tuple[str, ...]) -> dict[str, Fraction]:
    if node is None:
        return {}
    found: dict[str, Fraction] = {}
    for key, value in reader.entries(node, "quantities by unit"):
        _check_unit(reader, key, units)
        found[key.value] = Fraction(reader.number(value, "a quantity, such as 60"))
    return found


def _check_unit(reader: Reader, key: ScalarNode, units: tuple[str, ...]) -> None:
    if key.value not in units:
        hint = reader.report.hint(key.value, units, listed=len(units) <= 10)
        reader.note(key, "unknown-unit", f"no rate of this price is of {key.quoted}{hint}")
