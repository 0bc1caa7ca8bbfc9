"""One path of the API: its methods, who may call each, the reading of bodies, and how refusals are told."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from proxy.access import Principal, refusal_response
from proxy.api.fields import Fields
from proxy.denials import Refused
from proxy.jsontext import encode
from proxy.ledger.port import AgentUnknown, IdempotencyConflict, LedgerUnavailable
from proxy.state import Sidecar

BODY_MAX = 1024 * 1024

T = TypeVar("T")

Handler = Callable[[Sidecar, Request], Awaitable[Response]]


class Who(Enum):
    ANYONE = "anyone"
    AGENTS = "agents, of themselves, and the admin"
    ADMIN = "the admin"


@dataclass(frozen=True, slots=True)
class Method:
    who: Who
    handler: Handler


class Resource:
    """An ASGI application for one path. Its methods are exactly those given: HEAD and OPTIONS are not implied."""

    def __init__(self, sidecar: Sidecar, methods: Mapping[str, Method]) -> None:
        self.methods = methods
        self._sidecar = sidecar

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._answer(Request(scope, receive))
        except Refused as refusal:
            self._sidecar.metrics.refused(refusal.code)
            response = refusal_response(refusal)
            if refusal.status == 405:
                response.headers["allow"] = ", ".join(self.methods)
        except ClientDisconnect:
            return  # it left before its request was whole: nothing was done, nobody is there to answer
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        method = self.methods.get(request.method)
        if method is None:
            raise Refused(405, "method_not_allowed", f"This path answers {', '.join(self.methods)}.")
        self._admit(method.who, request)
        if request.method != "GET" and _media_type(request) not in ("", "application/json"):
            raise Refused(415, "unsupported_media_type", "Send the body as application/json.")
        try:
            return await method.handler(self._sidecar, request)
        except AgentUnknown as error:
            raise Refused(404, "agent_not_found", "No agent has this id.") from error
        except IdempotencyConflict as error:
            status, code = (409, "idempotency_in_flight") if error.in_flight else (422, "idempotency_key_reused")
            raise Refused(status, code, str(error)) from error
        except LedgerUnavailable as error:
            message = "The ledger is not available: nothing was done."
            raise Refused(503, "ledger_unavailable", message, retry_after_s=5) from error

    def _admit(self, who: Who, request: Request) -> None:
        if who is Who.ANYONE:
            return
        principal: Principal | None = request.scope["principal"]
        if principal is None:
            message = "Send the admin token or an agent key as Authorization: Bearer."
            raise Refused(401, "unauthenticated", message)
        if who is Who.ADMIN and not principal.is_admin:
            raise Refused(403, "forbidden", "This needs the admin token.")


class Missing:
    """Where there is nothing, whatever the method: a trailing slash or a slip is never redirected."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await refusal_response(Refused(404, "not_found", "There is nothing at this path."))(scope, receive, send)


def principal_of(request: Request) -> Principal:
    """Who calls a method that is not for anyone."""
    principal: Principal = request.scope["principal"]
    return principal


def own(request: Request, agent_id: str) -> None:
    """Raises Refused (403) where an agent reaches for what is another's."""
    if principal_of(request).agent_id not in (None, agent_id):
        raise Refused(403, "forbidden", "An agent's key reaches what is its own.")


async def read_body(request: Request) -> bytes:
    """The whole JSON body. Raises Refused: 413 above BODY_MAX, 415 for what is not plain JSON."""
    if _media_type(request) != "application/json":
        raise Refused(415, "unsupported_media_type", "Send the body as application/json.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "unsupported_encoding", "Send the body plain, without a content-encoding.")
    too_large = Refused(413, "body_too_large", f"A body may have {BODY_MAX} bytes.")
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > BODY_MAX:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MAX:
            raise too_large
    return bytes(body)


def idempotency_of(fields: Fields, request: Request, body: bytes) -> tuple[str, str] | None:
    """The Idempotency-Key and the body's digest; one that can't be is noted among the fields' problems."""
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return None
    if len(keys) > 1 or not 1 <= len(keys[0]) <= 255 or not all("!" <= char <= "~" for char in keys[0]):
        fields.note("Idempotency-Key", "must be one header of 1 to 255 visible ASCII characters")
    return keys[0], hashlib.sha256(body).hexdigest()


def answer(value: Any, status: int = 200) -> Response:
    """JSON with exact numbers."""
    return as_json(encode(value).decode(), status)


async def array(values: Sequence[T], shown: Callable[[T], Any], at_once: int = 25) -> str:
    """Their JSON, made so many at a time: between them the event loop does what waits, be it thousands."""
    made = []
    for first in range(0, len(values), at_once):
        if first:
            await asyncio.sleep(0)
        made += [encode(shown(value)).decode() for value in values[first : first + at_once]]
    return f"[{','.join(made)}]"


def as_json(text: str, status: int = 200) -> Response:
    """What is JSON already."""
    return Response(text, status, media_type="application/json")


def _media_type(request: Request) -> str:
    media_type, _, parameter = request.headers.get("content-type", "").partition(";")
    if parameter.strip().lower() not in ("", "charset=utf-8", 'charset="utf-8"'):
        return "another charset"
    return media_type.strip().lower()
