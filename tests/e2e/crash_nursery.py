"""Where the sidecars of a crash campaign are born: a process with everything imported forks one per order.

An order is a line of JSON on stdin, `{"argv", "log", "shift_ms"}`, answered by the pid of an `agent-ledger` of that
command line; a number alone reaps that pid, answered by its exit code. Its clock is off by ``shift_ms``, what it does
now and then it does more often, so that short lives see all of it, and syncs take their time.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from functools import partial

from proxy import app, cli
from proxy.ledger import index, journal, store
from proxy.ledger.embedded import open_embedded

store._CHECKPOINT_LINES = 60
store._HOUSEKEEPING_S = 0.05
store._INDEX_LINES = 25
index._BYTES_AT_ONCE = 20_000
journal._GATHER_S = 0.1
_sync = os.fdatasync


def slowly(fd: int) -> None:
    """As some disks do: so that a kill finds more that is not synced."""
    time.sleep(os.urandom(1)[0] / 10_000)
    _sync(fd)


os.fdatasync = slowly


def be(argv: list[str], log: str, shift_ms: int) -> int:
    """The sidecar."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    os.dup2(1, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    app.open_embedded = partial(open_embedded, clock=lambda: time.time_ns() // 1_000_000 + shift_ms)  # type: ignore[attr-defined]
    return cli.main(argv)


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        if isinstance(order, int):
            print(os.waitstatus_to_exitcode(os.waitpid(order, 0)[1]), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = be(**order)
            except BaseException:
                traceback.print_exc()
            os._exit(code)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
