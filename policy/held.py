"""Answers that are the same for the same path or model's name, held: agents send few of them, over and over."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeVar

_ANSWERS_MAX: Final = 512
_TEXT_MAX: Final = 512  # characters: what is held of what clients write is bounded in number and in size

Answer = TypeVar("Answer")


def held(tell: Callable[[str], Answer]) -> Callable[[str], Answer]:
    """The pure function of a text, as quick as a look-up for a short one that was asked for lately."""
    latest = lru_cache(_ANSWERS_MAX)(tell)

    def answer(text: str) -> Answer:
        return latest(text) if len(text) <= _TEXT_MAX else tell(text)

    return answer
