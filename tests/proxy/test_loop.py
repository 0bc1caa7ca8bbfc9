from __future__ import annotations

import sys

from proxy.loop import run


def test_a_thread_at_work_soon_lets_the_loop_go_on():
    before = sys.getswitchinterval()
    found = []

    async def main() -> None:
        found.append(sys.getswitchinterval())

    try:
        run(main())
    finally:
        sys.setswitchinterval(before)
    assert found[0] <= 0.001
