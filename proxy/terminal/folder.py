"""The rows of a data folder that no sidecar serves, as its export would give them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from proxy.export import Form, csv_header, csv_lines, json_lines
from proxy.ledger.lookup import actions_of
from proxy.ledger.port import ActionFilter


def rows_of(data: Path, form: Form, since: str | None, until: str | None) -> Iterator[bytes]:
    """In chunks. Raises LedgerError where the folder can't answer for itself."""
    if form == "csv":
        yield csv_header()
    lines = csv_lines if form == "csv" else json_lines
    for actions in actions_of(data, ActionFilter(since=_ms(since), until=_ms(until))):
        yield lines(actions)


def _ms(at: str | None) -> int | None:
    return None if at is None else round(datetime.fromisoformat(at).timestamp() * 1000)
