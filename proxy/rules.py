"""The policy in force: loaded from its file, compiled for the line, replaced whole by a reload."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

from policy.catalog import Catalog
from policy.match import PriceIndex
from policy.model import Policy
from policy.parse import Parsed, PolicyError, parse_policy
from proxy.ledger.port import Ledger

log = logging.getLogger("agent_ledger")


@dataclass(frozen=True, slots=True)
class Rules:
    """One snapshot. A call takes it once and is authorized and settled under it, whatever is reloaded meanwhile."""

    policy: Policy
    prices: PriceIndex
    catalog: Catalog
    warnings: tuple[str, ...] = ()


def read_policy(path: Path) -> Parsed:
    """Parse the file with this process's environment. Raises PolicyError, OSError, UnicodeDecodeError."""
    return parse_policy(
        path.read_bytes().decode("utf-8"),
        name=str(path),
        env=os.environ,
        read_file=lambda name: Path(name).read_text("utf-8").rstrip("\n"),
    )


class PolicyFile:
    """The file and the snapshot made of it. A reload that fails changes nothing, and says so until one succeeds.

    ``loaded_at`` is when the snapshot was put in force, ``failed_at`` when a reload last failed (unix ms; None: never).
    """

    def __init__(self, path: Path, catalog: Catalog) -> None:
        """Loads the file. Raises PolicyError, OSError, UnicodeDecodeError."""
        self.path = path
        self.error: str | None = None
        self.reloads_failed = 0
        self.failed_at: int | None = None
        self._catalog = catalog
        self._reloading = asyncio.Lock()
        self.rules = self._load()
        self.loaded_at = int(time.time() * 1000)

    def _load(self) -> Rules:
        parsed = read_policy(self.path)
        warnings = tuple(problem.line_text(str(self.path)) for problem in parsed.warnings)
        for warning in warnings:
            log.warning("%s", warning)
        return Rules(parsed.policy, PriceIndex(parsed.policy), self._catalog, warnings)

    async def reload(self, ledger: Ledger) -> Rules:
        """Put the file as it now is in force, or nothing. Raises PolicyError, OSError, UnicodeError, LedgerError."""
        async with self._reloading:
            try:
                rules = self._load()
                await ledger.use(rules.policy)
            except Exception as error:
                self.reloads_failed += 1
                self.failed_at = int(time.time() * 1000)
                self.error = error.render() if isinstance(error, PolicyError) else str(error)
                log.error("policy reload refused, the old one stays in force\n%s", self.error)
                raise
            self.rules, self.error = rules, None
            self.loaded_at = int(time.time() * 1000)
            log.info("policy %s in force", rules.policy.hash)
            return rules
