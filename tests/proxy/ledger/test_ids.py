from __future__ import annotations

import subprocess
import sys

from proxy.ledger.ids import new_id

FORKED = """
import os
from proxy.ledger.ids import new_id

new_id("act", 1)  # others are drawn already
reading, writing = os.pipe()
if os.fork() == 0:
    os.write(writing, new_id("act", 1).encode())
    os._exit(0)
os.wait()
print(os.read(reading, 100).decode(), new_id("act", 1))
"""


def test_ids_are_of_one_form_sort_by_time_and_are_never_the_same() -> None:
    found = [new_id("act", at) for at in (1, 2, 2**40) for _ in range(1000)]
    assert len(set(found)) == 3000
    assert {len(each) for each in found} == {len("act_") + 28}
    assert [each[4:16] for each in found] == sorted(each[4:16] for each in found)
    assert all(int(each[16:], 16) >= 0 for each in found)


def test_a_forked_process_gives_out_ids_of_its_own() -> None:
    ids = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, check=True).stdout.split()
    assert len(ids) == len(set(ids)) == 2
