"""The sidecar from a terminal: its agents, actions, alerts and export, of one that runs; by its API alone."""

from __future__ import annotations

from typing import Any

from proxy.terminal import actions, agents, alerts, export


def add_commands(commands: Any) -> None:
    """To the subparsers of the command `agent-ledger`."""
    for module in (agents, actions, alerts, export):
        module.add_command(commands)
