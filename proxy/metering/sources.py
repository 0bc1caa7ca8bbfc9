"""The quantities of a rule's own units: `usage: {seconds: {response: result.billed_seconds}}`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from policy.model import UsageSource
from policy.pointer import dig, steps
from proxy.metering.base import Usage
from proxy.metering.quantities import amount

Measure = Callable[[], Usage]


def measures_nothing() -> Usage:
    """For an answer whose bytes and seconds nobody counts."""
    return {}


class Sources:
    """Collects what headers, request and response say, and what ``measure`` says at the end (``seconds``,
    ``request_bytes``, ``response_bytes``). ``keys`` are the JSON keys that the response's stand under.
    """

    def __init__(
        self,
        sources: tuple[UsageSource, ...],
        headers: Sequence[tuple[bytes, bytes]],
        request_body: Any,
        measure: Measure = measures_nothing,
    ) -> None:
        self._units = [source.unit for source in sources]
        self._in_response = [source for source in sources if source.kind == "response"]
        self._measured = [source for source in sources if source.kind == "measured"]
        self._measure = measure
        self._found: dict[str, Any] = {}
        for source in sources:
            if source.kind == "header":
                self._found[source.unit] = _header(headers, source.path)
            elif source.kind == "request":
                self._found[source.unit] = dig(request_body, source.path)
        self.keys = tuple(_last_key(source.path) for source in self._in_response)
        self.said_by_answer = any(source.kind in ("header", "response") for source in sources)

    def read(self, document: Mapping[str, Any]) -> None:
        """The last document of a stream that states a quantity counts."""
        for source in self._in_response:
            value = dig(document, source.path)
            if value is not None:
                self._found[source.unit] = value

    def usage(self) -> Usage | None:
        """Every unit's quantity; None unless all were stated. Raises Unreadable."""
        if not self._units:
            return {}
        if self._measured:
            measured = self._measure()
            self._found.update((source.unit, measured.get(source.path)) for source in self._measured)
        if any(self._found.get(unit) is None for unit in self._units):
            return None
        return {unit: amount(self._found[unit]) for unit in self._units}


def _header(headers: Sequence[tuple[bytes, bytes]], name: str) -> str | None:
    wanted = name.lower().encode()
    return next((value.decode("latin-1").strip() for key, value in headers if key.lower() == wanted), None)


def _last_key(path: str) -> str:
    found = steps(path)
    return next((step for step in reversed(found) if not step.isdecimal()), found[-1])
