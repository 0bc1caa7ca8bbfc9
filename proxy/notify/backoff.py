"""How long to wait before the next attempt."""

from __future__ import annotations

FIRST_S = (1.0, 2.0, 4.0, *[5.0] * 11)  # the first minute
MOST_S = 900.0
GIVE_UP_S = 24 * 3600.0
_JITTER = 0.2


def pause_s(failures: int, chance: float) -> float:
    """After so many failures in a row (1 or more). ``chance``, from 0 to 1, shortens it by up to a fifth: those that
    failed together don't come back together.
    """
    beyond = failures - len(FIRST_S)
    pause = FIRST_S[failures - 1] if beyond <= 0 else min(MOST_S, FIRST_S[-1] * 2.0 ** min(beyond, 20))
    return pause * (1.0 - _JITTER * chance)
