"""Who may do what: the admin token, agents' keys, and the Hosts and Origins that the API and dashboard answer for."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.denials import Refused, reply
from proxy.identify import digest
from proxy.state import Sidecar

ANY_HOST = frozenset({"/healthz", "/readyz", "/metrics"})

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::\d{1,5})?", re.ASCII)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_SITE = frozenset({"none", "same-origin"})
_SECURITY = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: under that, browsers send the page's own forms with `Origin: null`.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: the admin, or the agent of that id."""

    agent_id: str | None = None

    @property
    def is_admin(self) -> bool:
        return self.agent_id is None


ADMIN = Principal()


class Access:
    """Answers who calls, and what is refused whoever calls."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._open = sidecar.settings.no_auth
        self._allowed = frozenset(host.lower() for host in sidecar.settings.allow_hosts)

    def identify(self, headers: Headers) -> Principal | None:
        """The admin or agent whose credential this is; None for none, a wrong one, or two in one slot."""
        if self._open:
            return ADMIN
        keys, bearers = headers.getlist("x-ledger-key"), headers.getlist("authorization")
        if len(keys) > 1 or len(bearers) > 1:
            return None
        token = keys[0].strip() if keys else _bearer("".join(bearers))
        if not keys and self._sidecar.admin.accept(token):
            return ADMIN
        agent = self._sidecar.ledger.agent_by_key(digest(token)) if token else None
        return Principal(agent.id) if agent else None

    def reads_metrics(self, headers: Headers) -> bool:
        """With the admin's or the metrics token, on any Host: Prometheus comes with the pod's address."""
        token = _bearer(headers.get("authorization", ""))
        if self._sidecar.scraper.accept(token) or self._sidecar.admin.accept(token):
            return True
        return self._open and self._answers_for(headers) is not None

    def refuse(self, method: str, headers: Headers) -> Refused | None:
        """Why it is answered for nobody: a foreign Host (DNS rebinding), or a page of a foreign Origin or site."""
        host = self._answers_for(headers)
        if host is None:
            return Refused(421, "foreign_host", "This Host is not answered for; see serve --allow-host.")
        for origin in headers.getlist("origin"):
            if origin.lower() not in (f"http://{host}", f"https://{host}"):
                return Refused(403, "foreign_origin", "Requests from pages of another origin are refused.")
        if method not in _SAFE_METHODS and not _OWN_SITE.issuperset(headers.getlist("sec-fetch-site")):
            return Refused(403, "foreign_origin", "Changes from pages of another site are refused.")
        return None

    def _answers_for(self, headers: Headers) -> str | None:
        """The request's Host in lower case, if it is one that is answered for."""
        hosts = headers.getlist("host")
        found = _AUTHORITY.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
        if found is None:
            return None
        host, name = found[0], found[1]
        return host if _is_loopback(name) or name in self._allowed or host in self._allowed else None


class Guard:
    """ASGI: refuses foreign Hosts and Origins, and says in ``scope["principal"]`` who calls (None: nobody known).

    Every answer carries what keeps a browser from doing more with it than to show it. Probes and Prometheus come with
    any Host; /metrics asks for its token itself.
    """

    def __init__(self, app: ASGIApp, sidecar: Sidecar) -> None:
        self._app = app
        self._access = Access(sidecar)
        self._sidecar = sidecar

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_SECURITY)
            await send(message)

        if scope["path"] in ANY_HOST:
            await self._app(scope, receive, secured)
            return
        headers = Headers(scope=scope)
        if refusal := self._access.refuse(scope["method"], headers):
            self._sidecar.metrics.refused(refusal.code)
            await refusal_response(refusal)(scope, receive, secured)
        else:
            await self._app({**scope, "principal": self._access.identify(headers)}, receive, secured)


def refusal_response(refusal: Refused) -> Response:
    """The refusal as the API tells it: ``{"error": {"code", "message", …details}}``."""
    answer = reply("plain", refusal)
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers)


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _is_loopback(name: str) -> bool:
    """As a browser writes it: it has made decimal, hexadecimal and short forms into these before it sends them."""
    if name in ("localhost", "[::1]"):
        return True
    try:
        return ipaddress.IPv4Address(name).is_loopback
    except ValueError:
        return False
