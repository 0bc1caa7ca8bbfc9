"""What the gate, the API and the dashboard share: one object, made by the app and handed down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.calllog import CallLog
from proxy.ledger.port import Ledger
from proxy.load import Load
from proxy.notify import Notifier
from proxy.settings import Settings
from proxy.tokens import Tokens

if TYPE_CHECKING:
    from proxy.metrics import Metrics
    from proxy.places import Places
    from proxy.rules import PolicyFile, Rules


@dataclass(slots=True)
class Sidecar:
    """``policy_file.rules`` is the snapshot in force: take it once per request; a reload replaces it whole.

    ``admin`` are the admin's tokens, ``scraper`` those that read the metrics alone.
    """

    settings: Settings
    ledger: Ledger
    policy_file: PolicyFile
    metrics: Metrics
    places: Places
    load: Load = field(default_factory=Load)
    calls: CallLog | None = None
    draining: bool = False
    admin: Tokens = field(init=False)
    scraper: Tokens = field(init=False)
    notifier: Notifier = field(init=False)

    def __post_init__(self) -> None:
        self.admin = Tokens(self.settings.admin_token, self.settings.admin_token_file)
        self.scraper = Tokens(self.settings.metrics_token, self.settings.metrics_token_file)
        self.notifier = Notifier(self.ledger, self.metrics.deliveries)

    async def reload(self) -> Rules:
        """Put the policy file as it now is in force, or nothing of it; raises what `PolicyFile.reload` does."""
        rules = await self.policy_file.reload(self.ledger)
        self.notifier.use(self.policy_file.rules.policy.webhooks)
        await self.places.keep(self.policy_file.rules.policy.upstreams.values())
        return rules
