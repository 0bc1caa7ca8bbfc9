"""The command, with pauses between attempts that a test can wait for."""

from __future__ import annotations

import sys

from proxy.cli import main
from proxy.notify import backoff

if __name__ == "__main__":
    backoff.FIRST_S = (0.02,)
    backoff.MOST_S = 0.05
    sys.exit(main())
