"""Answers that are the same for the same path or model's name, held: agents send few of them, over and over."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeVar

PATHS_HELD: Final = 128  # of as many as 16 KiB each, by the server's bound
_NAMES_HELD: Final = 512
_NAME_MAX: Final = 512  # characters; in a request's body a name may have any number

Answer = TypeVar("Answer")


def by_name(tell: Callable[[str], Answer]) -> Callable[[str], Answer]:
    """The pure function of a model's name, as quick as a look-up for a short one that was asked for lately."""
    latest = lru_cache(_NAMES_HELD)(tell)

    def answer(name: str) -> Answer:
        return latest(name) if len(name) <= _NAME_MAX else tell(name)

    return answer
