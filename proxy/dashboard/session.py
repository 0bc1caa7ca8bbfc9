"""The dashboard's session: a cookie that expires and is signed by the admin token, so that it proves knowing the token
without being it. Nothing is stored: changing the token ends every session."""

from __future__ import annotations

import hmac
import re
import secrets
import time

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from proxy.identify import SESSION_COOKIE

COOKIE = SESSION_COOKIE
LIFETIME_S = 12 * 3600

_SHAPE = re.compile(r"(\d{1,12}\.[0-9a-f]{32})\.([0-9a-f]{64})", re.ASCII)


def open_session(secret: str, now_s: float | None = None) -> str:
    """The value of a new session's cookie, good for LIFETIME_S: ``<expires, unix s>.<nonce>.<signature>``."""
    claim = f"{int(_now(now_s)) + LIFETIME_S}.{secrets.token_hex(16)}"
    return f"{claim}.{_sign(secret, 'session', claim)}"


def session_of(headers: Headers, secret: str, now_s: float | None = None) -> str | None:
    """The request's session, if its cookie was signed with this secret and has not expired."""
    value = cookie_parser("; ".join(headers.getlist("cookie"))).get(COOKIE, "")
    found = _SHAPE.fullmatch(value)
    if not secret or found is None:
        return None
    claim, signature = found.groups()
    if not hmac.compare_digest(signature, _sign(secret, "session", claim)):
        return None
    return value if int(claim.partition(".")[0]) > _now(now_s) else None


def session_ok(headers: Headers, secret: str) -> bool:
    """Whether the request carries a running session opened with this admin token."""
    return session_of(headers, secret) is not None


def form_token(secret: str, session: str) -> str:
    """What the forms on this session's pages carry: another site can't read it, another session's doesn't fit."""
    return _sign(secret, "form", session)


def form_ok(secret: str, session: str, token: str) -> bool:
    return hmac.compare_digest(token.encode(), form_token(secret, session).encode())


def _sign(secret: str, purpose: str, text: str) -> str:
    return hmac.digest(secret.encode(), f"{purpose}:{text}".encode(), "sha256").hex()


def _now(now_s: float | None) -> float:
    return time.time() if now_s is None else now_s
