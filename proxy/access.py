"""Who may do what: the admin token, agents' keys, and the Hosts and Origins that the API and dashboard answer for."""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.denials import Refused, reply
from proxy.identify import digest
from proxy.ledger.port import Ledger
from proxy.settings import Settings
from proxy.state import Sidecar

ADMIN_TOKEN_ENV = "AGENT_LEDGER_ADMIN_TOKEN"  # noqa: S105 (a name, not a token)

ANY_HOST = frozenset({"/healthz", "/readyz", "/metrics"})

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|\[::1\]", re.ASCII)
_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::\d{1,5})?", re.ASCII)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


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

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._allowed = frozenset(host.lower() for host in settings.allow_hosts)

    def identify(self, headers: Headers) -> Principal | None:
        """The admin or agent whose credential this is; None for none, a wrong one, or two in one slot."""
        if self._settings.no_auth:
            return ADMIN
        keys, bearers = headers.getlist("x-ledger-key"), headers.getlist("authorization")
        if len(keys) > 1 or len(bearers) > 1:
            return None
        token = keys[0].strip() if keys else _bearer("".join(bearers))
        if not keys and _same(token, self._settings.admin_token):
            return ADMIN
        agent = self._ledger.agent_by_key(digest(token)) if token else None
        return Principal(agent.id) if agent else None

    def reads_metrics(self, headers: Headers) -> bool:
        """With the admin's or the metrics token, on any Host: Prometheus comes with the pod's address."""
        token = _bearer(headers.get("authorization", ""))
        if _same(token, self._settings.metrics_token) or _same(token, self._settings.admin_token):
            return True
        return self._settings.no_auth and self._answers_for(headers) is not None

    def refuse(self, method: str, headers: Headers) -> Refused | None:
        """Why it is answered for nobody: a foreign Host (DNS rebinding), or a page of a foreign Origin or site."""
        host = self._answers_for(headers)
        if host is None:
            return Refused(421, "foreign_host", "This Host is not answered for; see serve --allow-host.")
        for origin in headers.getlist("origin"):
            if origin.lower() not in (f"http://{host}", f"https://{host}"):
                return Refused(403, "foreign_origin", "Requests from pages of another origin are refused.")
        site = headers.get("sec-fetch-site", "none")
        if method not in _SAFE_METHODS and site not in ("none", "same-origin"):
            return Refused(403, "foreign_origin", "Changes from pages of another site are refused.")
        return None

    def _answers_for(self, headers: Headers) -> str | None:
        """The request's Host in lower case, if it is one that is answered for."""
        hosts = headers.getlist("host")
        found = _AUTHORITY.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
        if found is None:
            return None
        host, name = found[0], found[1]
        return host if _LOOPBACK.fullmatch(name) or name in self._allowed or host in self._allowed else None


class Guard:
    """ASGI: refuses foreign Hosts and Origins, and says in ``scope["principal"]`` who calls (None: nobody known).

    Probes and Prometheus come with any Host; /metrics asks for its token itself.
    """

    def __init__(self, app: ASGIApp, sidecar: Sidecar) -> None:
        self._app = app
        self._access = Access(sidecar.settings, sidecar.ledger)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ANY_HOST:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if refusal := self._access.refuse(scope["method"], headers):
            await refusal_response(refusal)(scope, receive, send)
        else:
            await self._app({**scope, "principal": self._access.identify(headers)}, receive, send)


def refusal_response(refusal: Refused) -> Response:
    """The refusal as the API tells it: ``{"error": {"code", "message", …details}}``."""
    answer = reply("plain", refusal)
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers)


def admin_token(data: Path, env: Mapping[str, str]) -> tuple[str, Path | None]:
    """The environment's token, else the one kept in DATA/admin-token, made (mode 0600) on the first start.

    The path is that file's, None where the token came from the environment.
    """
    if token := env.get(ADMIN_TOKEN_ENV, "").strip():
        return token, None
    path = data / "admin-token"
    if path.exists() and (token := path.read_text("ascii").strip()):
        return token, path
    token = secrets.token_urlsafe(32)
    data.mkdir(parents=True, exist_ok=True)
    _write_private(path, token + "\n")
    return token, path


def _write_private(path: Path, text: str) -> None:
    """Whole or not at all: a crash must not leave an empty token behind."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _same(token: str, secret: str) -> bool:
    """In constant time; a secret that was never set is nobody's."""
    return bool(secret) and hmac.compare_digest(token.encode(), secret.encode())
