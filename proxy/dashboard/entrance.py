"""Signing in and out."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from proxy.dashboard import session
from proxy.dashboard.frame import Pages, read_form
from proxy.dashboard.rendering import render


def routes(pages: Pages) -> list[Route]:
    entrance = _Entrance(pages)
    return [
        Route("/sign-in", entrance.sign_in, methods=["GET", "POST"]),
        Route("/sign-out", entrance.sign_out, methods=["POST"]),
    ]


class _Entrance:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def sign_in(self, request: Request) -> Response:
        if request.method != "POST":
            return (
                render("sign_in.html", wrong=False)
                if self._pages.visit(request) is None
                else RedirectResponse("/", 303)
            )
        form = await read_form(request)
        token, sidecar = form.get("token", "").strip(), self._pages.sidecar
        if not sidecar.admin.accept(token):
            sidecar.metrics.refused("unauthenticated")
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
        visit = self._pages.visit(request)
        if visit is None:
            raise HTTPException(401, "Your session has ended.")
        if not session.form_ok(visit, (await read_form(request)).get("form_token", "")):
            raise HTTPException(403, "This form is from another session. Go back, reload the page and try again.")
        response = RedirectResponse("/ui/sign-in", 303)
        response.delete_cookie(session.COOKIE, httponly=True, samesite="strict")
        return response
