"""Actions as they are told outside: as JSON-able values, and streamed as lines of JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from typing import Any, Final, Literal

from starlette.responses import StreamingResponse

from policy.money import usd
from proxy.denials import iso
from proxy.jsontext import dumps
from proxy.ledger.port import Action

Form = Literal["jsonl", "csv"]
FORMS: Final[tuple[Form, ...]] = ("jsonl", "csv")

_CHUNK: Final = 64 * 1024
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def action_json(action: Action) -> dict[str, Any]:
    """The action: camelCase, USD as exact Decimals, times in ISO 8601 of UTC."""
    return {
        "id": action.id,
        "agentId": action.agent_id,
        "actionType": action.action_type,
        "target": action.target,
        "cost": usd(action.cost),
        "outcome": action.outcome,
        "metadata": action.metadata,
        "createdAt": iso(action.created_at),
        "count": action.count,
        "reason": action.reason,
        "budget": action.budget,
        "reserved": None if action.reserved is None else usd(action.reserved),
        "usage": action.usage,
        "price": action.price,
        "upstreamStatus": action.upstream_status,
        "durationMs": action.duration_ms,
        "unconfirmed": action.unconfirmed,
        "flags": action.flags,
        "softened": action.softened,
        "outputCap": action.output_cap,
    }


_FIELDS: Final = tuple(action_json(Action("", "", "", "", 0, "success", 0)))


def export_response(actions: AsyncIterator[Action], form: Form) -> StreamingResponse:
    """A file to save, streamed in bounded memory."""
    lines, media_type = (_csv(actions), "text/csv") if form == "csv" else (_jsonl(actions), "application/x-ndjson")
    headers = {"content-disposition": f'attachment; filename="actions.{form}"'}
    return StreamingResponse(_chunks(lines), headers=headers, media_type=media_type)


async def _chunks(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    held: list[str] = []
    size = 0
    async for line in lines:
        held.append(line)
        size += len(line)
        if size >= _CHUNK:
            yield "".join(held)
            held, size = [], 0
    yield "".join(held)


async def _jsonl(actions: AsyncIterator[Action]) -> AsyncIterator[str]:
    async for action in actions:
        yield dumps(action_json(action)) + "\n"


async def _csv(actions: AsyncIterator[Action]) -> AsyncIterator[str]:
    row = io.StringIO()
    writer = csv.writer(row)
    writer.writerow(_FIELDS)
    async for action in actions:
        writer.writerow([_cell(value) for value in action_json(action).values()])
        yield row.getvalue()
        row.seek(0)
        row.truncate()
    yield row.getvalue()


def _cell(value: Any) -> str:
    """Text that a spreadsheet would take for a formula gets a leading quote."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return dumps(value)
