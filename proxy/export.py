"""Actions as they are told outside: as JSON-able values, and streamed as lines of JSON or CSV, made a few at a time: a
month of them holds up no call and fills no memory."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Literal

from starlette.responses import StreamingResponse

from policy.money import usd
from proxy.denials import iso
from proxy.jsontext import encode
from proxy.ledger.port import Action

Form = Literal["jsonl", "csv"]
FORMS: Final[tuple[Form, ...]] = ("jsonl", "csv")
CHUNK: Final = 64 * 1024  # bytes

_MEDIA_TYPES: Final[dict[Form, str]] = {"jsonl": "application/x-ndjson", "csv": "text/csv"}
_AT_ONCE: Final = 16  # rows between turns of the loop: some 0.3 ms
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


async def export_response(actions: AsyncIterator[Action], form: Form) -> StreamingResponse:
    """A file to save, streamed. Raises what the actions raise at once; where they fail midway the connection is cut, so
    that no client takes what came for all of it.
    """
    chunks = exported(actions, form)
    first = await anext(chunks)
    headers = {"content-disposition": f'attachment; filename="actions.{form}"'}
    return StreamingResponse(_all(first, chunks), headers=headers, media_type=_MEDIA_TYPES[form])


async def _all(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


async def exported(actions: AsyncIterator[Action], form: Form) -> AsyncIterator[bytes]:
    """The lines, in chunks of CHUNK bytes and a little more; at least one chunk, which may be empty.

    In CSV the first line names the columns: the members of the API's Action; a member that is an object or a list is
    JSON in its cell, null is an empty one, and text that a spreadsheet would take for a formula begins with a quote.
    """
    lines = csv_lines if form == "csv" else json_lines
    held, waiting = [csv_header()] if form == "csv" else [], []
    size = 0
    async for action in actions:
        waiting.append(action)
        if len(waiting) < _AT_ONCE:
            continue
        held.append(made := lines(waiting))
        size += len(made)
        waiting.clear()
        if size >= CHUNK:
            yield b"".join(held)
            held.clear()
            size = 0
        else:
            await asyncio.sleep(0)
    yield b"".join([*held, lines(waiting)])


def json_lines(actions: Sequence[Action]) -> bytes:
    return b"".join([encode(action_json(action)) + b"\n" for action in actions])


def csv_header() -> bytes:
    return _csv([_FIELDS])


def csv_lines(actions: Sequence[Action]) -> bytes:
    return _csv([[_cell(value) for value in action_json(action).values()] for action in actions])


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return encode(value).decode()
