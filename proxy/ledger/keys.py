"""An agent's keys as they change. What is revoked or retired expires, and its row stays for a while, to be told of.

The last row of all always stays: an agent that ever had a key is never again one that its id alone may name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from proxy.ledger.port import Agent, Key, TooManyKeys

IN_FORCE_MAX = 10
_ENDED_KEPT = 10


def with_key(agent: Agent, key: Key, retire_others_at: int | None, at: int) -> Agent:
    """The others then expire at ``retire_others_at``, if not before. Raises TooManyKeys."""
    others = agent.keys
    if retire_others_at is not None:
        others = tuple(_ending(other, retire_others_at) for other in others)
    if sum(other.in_force(at) for other in others) >= IN_FORCE_MAX:
        raise TooManyKeys(f"agent {agent.id} has {IN_FORCE_MAX} keys in force: revoke one first")
    return replace(agent, keys=_pruned((*others, key), at))


def without_key(agent: Agent, key_id: str, at: int) -> Agent:
    """From now on the key of that id is refused."""
    keys = (_ending(key, at) if key.id == key_id else key for key in agent.keys)
    return replace(agent, keys=_pruned(keys, at))


def _ending(key: Key, at: int) -> Key:
    return replace(key, expires_at=at) if key.in_force(at) else key


def _pruned(keys: Iterable[Key], at: int) -> tuple[Key, ...]:
    """Without the ended ones but the latest to end."""
    held = tuple(keys)
    ended = sorted((key for key in held if not key.in_force(at)), key=lambda key: key.expires_at or 0)
    forgotten = {key.id for key in ended[:-_ENDED_KEPT]}
    return tuple(key for key in held if key.id not in forgotten)
