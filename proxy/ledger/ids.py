"""Ids: unique, sorted by time, url-safe, and never a sequence number (a lost tail must not give one out twice)."""

from __future__ import annotations

import os

_AT_ONCE = 256

# Drawn many at a time: each drawing is a call to the system, and every proxied call needs an id.
_drawn: list[str] = []
os.register_at_fork(after_in_child=_drawn.clear)  # or parent and child would give out the same


def new_id(kind: str, at_ms: int) -> str:
    """``act_`` + 12 hex digits of unix ms + 16 random ones."""
    if not _drawn:
        digits = os.urandom(8 * _AT_ONCE).hex()
        _drawn.extend([digits[at : at + 16] for at in range(0, len(digits), 16)])
    return f"{kind}_{at_ms:012x}{_drawn.pop()}"
