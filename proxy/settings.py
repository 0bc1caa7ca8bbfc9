"""What the command line and the environment say; the policy file says everything else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from proxy.load import BUFFERED_MAX, CONNECTIONS_MAX

Style = Literal["json", "text"]  # of a line for each call, in the log


@dataclass(frozen=True, slots=True)
class Settings:
    """``agent`` makes every call without a key that agent's; ``no_auth`` opens the API (loopback only).

    ``allow_hosts`` are Host names, beside loopback ones, that the API and dashboard answer for. A token is given, or a
    file that holds those in force. ``buffered_max`` is in bytes. ``call_log`` is how each call's line on stderr
    looks; None: there is none.
    """

    policy: Path
    data: Path
    host: str = "127.0.0.1"
    port: int = 8080
    agent: str | None = None
    no_auth: bool = False
    allow_hosts: frozenset[str] = frozenset()
    admin_token: str = field(default="", repr=False)
    admin_token_file: Path | None = None
    metrics_token: str = field(default="", repr=False)
    metrics_token_file: Path | None = None
    connections_max: int = CONNECTIONS_MAX
    buffered_max: int = BUFFERED_MAX
    drain_delay_s: float = 0.0
    call_log: Style | None = None
