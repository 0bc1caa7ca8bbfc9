from __future__ import annotations

import json

import pytest

from proxy.gate import _read_in_loop

LONG = {"messages": [{"role": "user", "content": "text, and more of it; " * 8000}]}  # 170 KiB


@pytest.mark.parametrize(
    ("body", "in_loop"),
    [
        (b"", True),
        (b"{" + b"[]," * 2700 + b"}", True),  # whatever it is, so short a one takes milliseconds
        (b"[" + b"{}," * 3000 + b"{}]", False),
        (json.dumps(LONG).replace(",", ";").encode(), True),
        (json.dumps(LONG | {"more": "x" * 100_000}).replace(",", ";").encode(), False),
    ],
)
def test_a_body_whose_reading_takes_long_is_read_beside_the_loop(body, in_loop):
    assert _read_in_loop(body) is in_loop
