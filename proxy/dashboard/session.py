"""The dashboard's session: a cookie that expires and is signed by the admin token, so that it proves knowing the token
without being it. Nothing is stored: a token that is no longer good ends every session opened with it."""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections.abc import Sequence
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from proxy.identify import SESSION_COOKIE

COOKIE = SESSION_COOKIE
LIFETIME_S = 12 * 3600

_SHAPE = re.compile(r"(\d{1,12}\.[0-9a-f]{32})\.([0-9a-f]{64})", re.ASCII)


class Session(NamedTuple):
    """The cookie's value, and the secret that signed it and signs the forms of its pages."""

    value: str
    secret: str


def open_session(secret: str, now_s: float | None = None) -> str:
    """The value of a new session's cookie, good for LIFETIME_S: ``<expires, unix s>.<nonce>.<signature>``."""
    claim = f"{int(_now(now_s)) + LIFETIME_S}.{secrets.token_hex(16)}"
    return f"{claim}.{_sign(secret, 'session', claim)}"


def session_of(headers: Headers, tokens: Sequence[str], now_s: float | None = None) -> Session | None:
    """The request's session, if its cookie was signed with one of these tokens and has not expired."""
    value = cookie_parser("; ".join(headers.getlist("cookie"))).get(COOKIE, "")
    found = _SHAPE.fullmatch(value)
    if found is None:
        return None
    claim, signature = found.groups()
    if int(claim.partition(".")[0]) <= _now(now_s):
        return None
    signed = (token for token in tokens if hmac.compare_digest(signature, _sign(token, "session", claim)))
    token = next(signed, None)
    return None if token is None else Session(value, token)


def form_token(session: Session) -> str:
    """What the forms on this session's pages carry: another site can't read it, another session's doesn't fit."""
    return _sign(session.secret, "form", session.value)


def form_ok(session: Session, token: str) -> bool:
    return hmac.compare_digest(token.encode(), form_token(session).encode())


def _sign(secret: str, purpose: str, text: str) -> str:
    return hmac.digest(secret.encode(), f"{purpose}:{text}".encode(), "sha256").hex()


def _now(now_s: float | None) -> float:
    return time.time() if now_s is None else now_s
