"""Times, counted by bounds, for what is measured on the line: one look and two additions, no lock."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate


class Histogram:
    """``bounds`` are seconds, ascending; ``counts`` has one more, for what is above them all."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """How many were within each bound, as Prometheus has them: each holds those before it."""
        return list(zip([*map(str, self.bounds), "+Inf"], accumulate(self.counts), strict=True))
