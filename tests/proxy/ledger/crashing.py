"""A process that dies at its n-th change to a folder: that one and all after it do not happen."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHANGES = ("open", "fsync", "replace", "unlink", "mkdir", "rmdir")


class Crashed(BaseException):
    pass


@contextmanager
def crashing(at: int) -> Iterator[Callable[[], bool]]:
    """Dies at the ``at``-th change; what is yielded tells whether it came to that."""
    done = 0

    def faulty(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal done
            done += 1
            if done >= at:
                raise Crashed
            return real(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(os, name, faulty(getattr(os, name)))
        try:
            yield lambda: done >= at
        except Crashed:
            pass
