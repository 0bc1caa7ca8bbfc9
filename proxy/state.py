"""What the gate, the API and the dashboard share: one object, made by the app and handed down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.ledger.port import Ledger
from proxy.settings import Settings

if TYPE_CHECKING:
    from proxy.metrics import Metrics
    from proxy.rules import PolicyFile


@dataclass(slots=True)
class Sidecar:
    """``policy_file.rules`` is the snapshot in force: take it once per request; a reload replaces it whole."""

    settings: Settings
    ledger: Ledger
    policy_file: PolicyFile
    metrics: Metrics
    draining: bool = False
