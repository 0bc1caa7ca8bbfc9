"""`python -m proxy` is the command `agent-ledger`."""

import sys

from proxy.cli import main

sys.exit(main())
