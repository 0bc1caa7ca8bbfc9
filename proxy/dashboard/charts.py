"""The geometry of charts, in units of their view box: templates only draw what is here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 100.0, 24.0


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a chart, from its top left."""

    x: float
    y: float
    width: float
    height: float


def columns(
    values: Sequence[int], width: float = WIDTH, height: float = HEIGHT, gap: float = 0.25, top: int | None = None
) -> list[Column]:
    """One a value, as high as its share of ``top`` (None: of the greatest); a negative one has none. ``gap`` is its
    part of a step.
    """
    most = max([*values, 1]) if top is None else top
    step = width / max(1, len(values))
    found = []
    for place, value in enumerate(values):
        tall = round(max(0, value) / most * height, 2)
        if value > 0:
            tall = max(tall, 0.6)  # what there is, is seen
        left = round(place * step + step * gap / 2, 2)
        found.append(Column(left, round(height - tall, 2), round(step * (1 - gap), 2), tall))
    return found
