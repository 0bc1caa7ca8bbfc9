"""The quantities of a rule's own units: `usage: {seconds: {response: result.billed_seconds}}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from policy.model import UsageSource
from proxy.metering.base import Usage
from proxy.metering.quantities import amount


class Sources:
    """Collects what headers, request and response say. ``keys`` are the JSON keys that the response's stand under."""

    def __init__(
        self, sources: tuple[UsageSource, ...], headers: Sequence[tuple[bytes, bytes]], request_body: Any
    ) -> None:
        self._units = [source.unit for source in sources]
        self._in_response = [source for source in sources if source.kind == "response"]
        self._found: dict[str, Any] = {}
        for source in sources:
            if source.kind == "header":
                self._found[source.unit] = _header(headers, source.path)
            elif source.kind == "request":
                self._found[source.unit] = _dig(request_body, source.path)
        self.keys = tuple(_last_key(source.path) for source in self._in_response)
        self.said_by_answer = any(source.kind != "request" for source in sources)

    def read(self, document: Mapping[str, Any]) -> None:
        """The last document of a stream that states a quantity counts."""
        for source in self._in_response:
            value = _dig(document, source.path)
            if value is not None:
                self._found[source.unit] = value

    def usage(self) -> Usage | None:
        """Every unit's quantity; None unless all were stated. Raises Unreadable."""
        if any(self._found.get(unit) is None for unit in self._units):
            return None
        return {unit: amount(self._found[unit]) for unit in self._units}


def _header(headers: Sequence[tuple[bytes, bytes]], name: str) -> str | None:
    wanted = name.lower().encode()
    return next((value.decode("latin-1").strip() for key, value in headers if key.lower() == wanted), None)


def _dig(document: Any, path: str) -> Any:
    """The value at a dotted path of keys and list indexes, or None."""
    for part in path.split("."):
        if isinstance(document, Mapping):
            document = document.get(part)
        elif isinstance(document, list) and part.isdecimal() and part.isascii() and int(part[:9]) < len(document):
            document = document[int(part[:9])]
        else:
            return None
    return document


def _last_key(path: str) -> str:
    parts = path.split(".")
    return next((part for part in reversed(parts) if not part.isdecimal()), parts[-1])
