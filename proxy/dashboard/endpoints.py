"""The first page, signing in and out, and the few changes an operator makes from the page.

Its forms are safe from other sites thrice: the session's cookie is SameSite=Strict, the guard refuses a foreign Origin,
and each form carries its session's token.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from proxy.dashboard import session
from proxy.dashboard.pages import render
from proxy.dashboard.session import Session
from proxy.dashboard.view import home
from proxy.ledger.port import AgentUnknown, LedgerError
from proxy.state import Sidecar

FORM_MAX_BYTES = 16 * 1024
REFRESH_S = 5


def routes(sidecar: Sidecar) -> list[Route | Mount]:
    """`/` and everything under `/ui`."""
    pages = _Pages(sidecar)
    middleware = [Middleware(ExceptionMiddleware, handlers={HTTPException: _problem, LedgerError: _problem})]
    under_ui = [
        Route("/sign-in", pages.sign_in, methods=["GET", "POST"]),
        Route("/sign-out", pages.sign_out, methods=["POST"]),
        Route("/agents/{agent_id}/pause", pages.pause, methods=["POST"]),
        Route("/agents/{agent_id}/resume", pages.resume, methods=["POST"]),
        Route("/alerts/{alert_id}/acknowledge", pages.acknowledge, methods=["POST"]),
        Mount("/static", StaticFiles(packages=[("proxy.dashboard", "static")])),
    ]
    return [
        Route("/", pages.home, middleware=middleware),
        Mount("/ui", routes=under_ui, middleware=middleware),
    ]


class _Pages:
    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        # Whom no cookie let in (by Bearer, or --no-auth) still gets forms that no other site can know.
        self._bare = Session("", secrets.token_hex(32))

    async def home(self, request: Request) -> Response:
        visit = self._visit(request)
        if visit is None:
            return RedirectResponse("/ui/sign-in", 303)
        base_url = f"{request.url.scheme}://{request.url.netloc}"
        return render(
            "home.html",
            page=await home(self._sidecar, base_url, int(time.time() * 1000)),
            form_token=session.form_token(visit),
            no_auth=self._sidecar.settings.no_auth,
            policy_path=str(self._sidecar.settings.policy),
            refresh_s=REFRESH_S,
        )

    async def sign_in(self, request: Request) -> Response:
        if request.method != "POST":
            return render("sign_in.html", wrong=False) if self._visit(request) is None else RedirectResponse("/", 303)
        form = await _form(request)
        token = form.get("token", "").strip()
        if not self._sidecar.admin.accept(token):
            self._sidecar.metrics.refused("unauthenticated")
            return render("sign_in.html", status=401, wrong=True)
        response = RedirectResponse("/", 303)
        response.set_cookie(
            session.COOKIE,
            session.open_session(token),
            max_age=session.LIFETIME_S,
            httponly=True,
            samesite="strict",
            # The sidecar speaks no TLS. Where a proxy before it does, the page's own Origin says so, and not any header
            # of that proxy's that another could send as well.
            secure=request.headers.get("origin", "").startswith("https:"),
        )
        return response

    async def sign_out(self, request: Request) -> Response:
        await self._check_form(request)
        response = RedirectResponse("/ui/sign-in", 303)
        response.delete_cookie(session.COOKIE, httponly=True, samesite="strict")
        return response

    async def pause(self, request: Request) -> Response:
        return await self._set_status(request, "paused")

    async def resume(self, request: Request) -> Response:
        return await self._set_status(request, "active")

    async def _set_status(self, request: Request, status: str) -> Response:
        await self._check_form(request)
        await self._sidecar.ledger.change_agent(request.path_params["agent_id"], {"status": status})
        return RedirectResponse("/", 303)

    async def acknowledge(self, request: Request) -> Response:
        await self._check_form(request)
        if await self._sidecar.ledger.acknowledge(request.path_params["alert_id"]) is None:
            raise HTTPException(404, "There is no such alert.")
        return RedirectResponse("/", 303)

    def _visit(self, request: Request) -> Session | None:
        """What the visitor's forms are tied to."""
        principal = request.scope["principal"]
        if principal is not None and principal.is_admin:
            return self._bare
        return session.session_of(request.headers, self._sidecar.admin.held())

    async def _check_form(self, request: Request) -> None:
        visit = self._visit(request)
        if visit is None:
            raise HTTPException(401, "Your session has ended.")
        form = await _form(request)
        if not session.form_ok(visit, form.get("form_token", "")):
            raise HTTPException(403, "This form is from another session. Go back, reload the page and try again.")


async def _form(request: Request) -> Mapping[str, str]:
    """The fields of a posted form. Raises HTTPException (413, 415)."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise HTTPException(415, "A form was expected.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > FORM_MAX_BYTES:
            raise HTTPException(413, f"A form of at most {FORM_MAX_BYTES} bytes was expected.")
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


async def _problem(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        status, message = error.status_code, error.detail
    else:
        status, message = 404 if isinstance(error, AgentUnknown) else 503, str(error)
    return render("problem.html", status=status, code=status, message=message)
