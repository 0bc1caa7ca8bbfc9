"""Who is calling. Only a credential that begins ``alk_`` is ours; any other belongs to the upstream and passes."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from proxy.denials import Refused
from proxy.ledger.port import Agent, Ledger

KEY_PREFIX = "alk_"
SESSION_COOKIE = "agent_ledger_session"  # the dashboard's: a browser sends it with any path of this host

_PREFIX = KEY_PREFIX.encode()
_SLOTS = frozenset({b"x-ledger-key", b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})
_LOOKED_AT = _SLOTS | {b"x-agent-id", b"cookie"}

Headers = Sequence[tuple[bytes, bytes]]


class Caller(NamedTuple):
    """The agent, and its request without our credential: the ``headers`` and ``query`` left are the upstream's."""

    agent: Agent
    headers: list[tuple[bytes, bytes]]
    query: bytes


def new_key() -> str:
    """An agent's key: 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def digest(key: str) -> str:
    """How a key is stored and looked up. Ours have 256 random bits, so a plain hash of one can't be searched; and what
    a look-up's time tells of a digest helps nobody who can't choose the digest of what he sends.
    """
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def identify(ledger: Ledger, headers: Headers, query: bytes, default_agent: str | None) -> Caller:
    """Find the agent by key, else `serve --agent`'s, else by X-Agent-Id if that agent never had a key.

    Raises Refused: unauthenticated (401), agent_not_found (404).
    """
    keys, named, rest = _split(headers)
    in_query, query = _split_query(query)
    keys |= in_query
    if keys:
        agent = ledger.agent_by_key(digest(keys.pop())) if len(keys) == 1 else None
        if agent is None:
            raise Refused(401, "unauthenticated", "Agent Ledger: this agent key is not valid.")
        return Caller(agent, rest, query)
    agent_id = default_agent if default_agent is not None else named
    if agent_id is None:
        raise Refused(
            401,
            "unauthenticated",
            "Agent Ledger: who is calling? Send an agent key (alk_…) as the SDK's API key or in X-Ledger-Key, "
            "or X-Agent-Id for an agent that has no key.",
        )
    agent = ledger.agent(agent_id)
    if agent is None or agent.archived:
        raise Refused(404, "agent_not_found", "Agent Ledger: no agent has this id.")
    if agent.keys and default_agent is None:
        # Be they all revoked: an agent that was told apart by a key is not to be anyone's who knows its id.
        raise Refused(401, "unauthenticated", f"Agent Ledger: agent {agent_id} has a key; its id alone is not enough.")
    return Caller(agent, rest, query)


def _split(headers: Headers) -> tuple[set[str], str | None, list[tuple[bytes, bytes]]]:
    """Our keys, X-Agent-Id's value, and the headers that are neither."""
    keys: set[str] = set()
    named: str | None = None
    rest: list[tuple[bytes, bytes]] = []
    for header in headers:
        name, value = header
        if name not in _LOOKED_AT:
            rest.append(header)
        elif name == b"x-agent-id":
            named = value.decode("latin-1")
        elif name in _SLOTS and (key := _ours(name, value)) is not None:
            keys.add(key)
        elif name == b"cookie":
            rest += [(name, left)] if (left := _without_session(value)) else []
        else:
            rest.append(header)
    return keys, named, rest


def _ours(name: bytes, value: bytes) -> str | None:
    if name == b"authorization":
        # Behind Bearer, another scheme's name, or none: some SDKs send it bare.
        value = next((word for word in value.split() if word.startswith(_PREFIX)), b"")
    value = value.strip()
    # X-Ledger-Key is ours whatever it holds: a mistyped key there must not pass for "no key".
    return value.decode("latin-1") if value.startswith(_PREFIX) or name == b"x-ledger-key" else None


def _without_session(cookies: bytes) -> bytes:
    ours = SESSION_COOKIE.encode() + b"="
    if ours not in cookies:
        return cookies
    return b"; ".join(each for part in cookies.split(b";") if not (each := part.strip()).startswith(ours))


def _split_query(query: bytes) -> tuple[set[str], bytes]:
    if not query or _PREFIX not in unquote_to_bytes(query):
        return set(), query
    keys: set[str] = set()
    rest: list[bytes] = []
    for part in query.split(b"&"):
        name, _, value = unquote_to_bytes(part).partition(b"=")
        if name == b"key" and value.startswith(_PREFIX):
            keys.add(value.decode("latin-1"))
        else:
            rest.append(part)
    return keys, b"&".join(rest)
