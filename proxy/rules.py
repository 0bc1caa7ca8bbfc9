"""The policy in force: loaded from its file, compiled for the line, replaced whole by a reload."""

from __future__ import annotations

from dataclasses import dataclass

from policy.catalog import Catalog
from policy.match import PriceIndex
from policy.model import Policy


@dataclass(frozen=True, slots=True)
class Rules:
    """One snapshot. A call takes it once and is authorized and settled under it, whatever is reloaded meanwhile."""

    policy: Policy
    prices: PriceIndex
    catalog: Catalog
    warnings: tuple[str, ...] = ()
