"""What all pages have in common: who may see them, the frame around them, and the forms they post.

Forms are safe from other sites thrice: the session's cookie is SameSite=Strict, the guard refuses a foreign Origin, and
each form carries its session's token.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from proxy.dashboard import session
from proxy.dashboard.rendering import render
from proxy.dashboard.session import Session
from proxy.ledger.port import AgentUnknown, Health, LedgerUnavailable
from proxy.state import Sidecar

FORM_MAX_BYTES = 64 * 1024
_SHORT_FORM = 4 * 1024


class Shown(NamedTuple):
    """A template, and the values it places."""

    template: str
    values: Mapping[str, Any]
    status: int = 200


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page shows around its own. ``faults`` need an operator now, ``notes`` can wait; ``at`` is unix ms,
    shown in ``zone``; ``here`` is the page's own path and query; ``version`` changes with whatever a page may show.
    """

    section: str
    here: str
    at: int
    zone: ZoneInfo
    form_token: str
    no_auth: bool
    open_alerts: int
    faults: Sequence[tuple[str, str]]
    notes: Sequence[str]
    journal: Health
    version: str


View = Callable[[Sidecar, Request, int], Awaitable[Shown]]  # the last is the moment it is asked, unix ms
Change = Callable[[Sidecar, Request, Mapping[str, str]], Awaitable[Shown | str | None]]
Endpoint = Callable[[Request], Awaitable[Response]]


class Pages:
    """Makes endpoints: of what a page shows, and of what a form changes."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.sidecar = sidecar
        # Whom no cookie let in (by Bearer, or --no-auth) still gets forms that no other site can know.
        self._bare = Session("", secrets.token_hex(32))

    def shows(self, section: str, view: View) -> Endpoint:
        """A page of that section of the navigation, for whom is signed in."""

        async def endpoint(request: Request) -> Response:
            visit = self.visit(request)
            if visit is None:
                return RedirectResponse("/ui/sign-in", 303)
            return await self._render(request, visit, section, await view(self.sidecar, request, _now()))

        return endpoint

    def changes(self, section: str, change: Change, most: int = FORM_MAX_BYTES) -> Endpoint:
        """What a form posts. It leads to the path that ``change`` answers, or back to the form's page (None)."""

        async def endpoint(request: Request) -> Response:
            visit = self.visit(request)
            if visit is None:
                raise HTTPException(401, "Your session has ended.")
            form = await read_form(request, most)
            if not session.form_ok(visit, form.get("form_token", "")):
                raise HTTPException(403, "This form is from another session. Go back, reload the page and try again.")
            led = await change(self.sidecar, request, form)
            if isinstance(led, Shown):
                return await self._render(request, visit, section, led)
            return RedirectResponse(led or _own_path(form.get("back", "/")), 303)

        return endpoint

    def visit(self, request: Request) -> Session | None:
        """What the visitor's forms are tied to; None for whom may see nothing."""
        principal = request.scope["principal"]
        if principal is not None and principal.is_admin:
            return self._bare
        return session.session_of(request.headers, self.sidecar.admin.held())

    async def _render(self, request: Request, visit: Session, section: str, shown: Shown) -> Response:
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        frame = _frame(self.sidecar, visit, section, here)
        # Not on the loop: a page takes as long as many calls.
        return await asyncio.to_thread(
            render, shown.template, status=shown.status, frame=frame, page_path=here, **shown.values
        )


def version(sidecar: Sidecar) -> str:
    """Another whenever a page may show something else."""
    health, policy_file = sidecar.ledger.health(), sidecar.policy_file
    tries = sidecar.metrics.deliveries.total()  # of alerts, on which a failed one leaves nothing in the journal
    rest = f"{health.ok} {health.detail} {policy_file.rules.policy.hash} {policy_file.error} {tries}"
    return f"{health.sequence}-{zlib.crc32(rest.encode()):08x}"


def _frame(sidecar: Sidecar, visit: Session, section: str, here: str) -> Frame:
    health, rules = sidecar.ledger.health(), sidecar.policy_file.rules
    return Frame(
        section=section,
        here=here,
        at=_now(),
        zone=rules.policy.zone,
        form_token=session.form_token(visit),
        no_auth=sidecar.settings.no_auth,
        open_alerts=sidecar.ledger.open_alerts(),
        faults=_faults(sidecar, health),
        notes=[*health.warnings, *rules.warnings],
        journal=health,
        version=version(sidecar),
    )


def _faults(sidecar: Sidecar, health: Health) -> list[tuple[str, str]]:
    """(what it means for the operator, what is known of the cause), worst first."""
    faults = []
    if not health.ok:
        faults.append(("The ledger can't record: every call is denied.", health.detail))
    if sidecar.policy_file.error is not None:
        faults.append(("The policy file was refused: the one before it stays in force.", sidecar.policy_file.error))
    return faults


async def read_form(request: Request, most: int = FORM_MAX_BYTES) -> Mapping[str, str]:
    """The fields of a posted form of at most so many bytes. Raises HTTPException (413, 415)."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise HTTPException(415, "A form was expected.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"A form of at most {most} bytes was expected.")
    # Not on the loop: each escaped character takes a microsecond.
    return await asyncio.to_thread(_form, bytes(body)) if len(body) > _SHORT_FORM else _form(bytes(body))


def _form(body: bytes) -> Mapping[str, str]:
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


async def problem(request: Request, error: Exception) -> Response:
    """What a page or a change was refused for, as a page."""
    if isinstance(error, HTTPException):
        status, message = error.status_code, error.detail
    elif isinstance(error, AgentUnknown):
        status, message = 404, "No agent has this id."
    else:
        status, message = 503 if isinstance(error, LedgerUnavailable) else 409, str(error)
    if status == 404 and message == "Not Found":
        message = "There is no such page."
    return render("problem.html", status=status, code=status, message=message, posted=request.method == "POST")


def _own_path(path: str) -> str:
    """The path, if it is one of this site's; it came with a form."""
    own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if own else "/"


def _now() -> int:
    return time.time_ns() // 1_000_000
