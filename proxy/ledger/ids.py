"""Ids: unique, sorted by time, url-safe, and never a sequence number (a lost tail must not give one out twice)."""

from __future__ import annotations

import os


def new_id(kind: str, at_ms: int) -> str:
    """``act_`` + 12 hex digits of unix ms + 16 random ones."""
    return f"{kind}_{at_ms:012x}{os.urandom(8).hex()}"
