"""A circuit breaker: whether an upstream is worth trying.

    closed      calls go; FAILURES_MAX in a row that got no answer open it
    open        none goes for 5 s, and for twice as long after each probe that fails, to 60 s
    half-open   one call goes, the probe; any answer closes it

Times are seconds of one clock that never goes back. A call is told by any object of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

FAILURES_MAX: Final = 5
OPEN_MIN_S: Final = 5.0
OPEN_MAX_S: Final = 60.0
# A probe may be of a call that takes minutes: the next one goes beside it. Above the time that connecting may take.
PROBE_S: Final = 15.0


@dataclass(slots=True)
class Breaker:
    """``failing_since`` is when the first of the ``failures`` in a row was seen; ``open_s`` is 0 while it is closed."""

    failures: int = 0
    failing_since: float = 0.0
    open_s: float = 0.0
    _answered_at: float = -inf
    _next_at: float = 0.0  # when the next probe may go
    _probe: object | None = None

    def wait_s(self, now: float) -> float:
        """How long the next call should wait; 0: it may go. While a probe is under way, a second: it may be over."""
        if not self.open_s or now >= self._next_at:
            return 0.0
        return self._next_at - now if self._probe is None else 1.0

    def begin(self, call: object, now: float) -> None:
        """A call goes that `wait_s` lets go."""
        if self.open_s:
            if self._probe is not None:
                self._widen()  # the last one has had no answer yet
            self._probe = call
            self._next_at = now + max(self.open_s, PROBE_S)

    def answered(self, now: float) -> bool:
        """The head of an answer came, of whatever status. True where that closes it."""
        closes = self.open_s > 0
        self.failures, self.open_s, self._probe, self._answered_at = 0, 0.0, None, now
        return closes

    def failed(self, call: object, begun: float, now: float) -> bool:
        """No answer came, to a call that began then. True where that opens it."""
        if self.open_s:
            if call is self._probe:
                self._widen()
                self._probe, self._next_at = None, now + self.open_s
            return False
        if begun < self._answered_at:
            return False  # others were answered meanwhile: it is only slow, or didn't like this one
        if not self.failures:
            self.failing_since = now
        self.failures += 1
        if self.failures < FAILURES_MAX:
            return False
        self.open_s, self._next_at = OPEN_MIN_S, now + OPEN_MIN_S
        return True

    def left(self, call: object, now: float) -> None:
        """The call ended without a word on the upstream: never sent, or cancelled. A probe makes room for the next."""
        if call is self._probe:
            self._probe, self._next_at = None, now

    def _widen(self) -> None:
        self.open_s = min(2 * self.open_s, OPEN_MAX_S)
