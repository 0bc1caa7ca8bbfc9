from __future__ import annotations

import pytest

from policy.pointer import dig

BODY = {"result": {"items": [{"n": 1}, {"n": 2}], "a.b": 3, "c/d": 4, "e~f": 5, "": 6}, "/x": 7}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("result.items.1.n", 2),
        ("/result/items/1/n", 2),
        ("/result/a.b", 3),
        ("result.a.b", None),
        ("/result/c~1d", 4),
        ("/result/e~0f", 5),
        ("/result/", 6),
        ("/x", None),
        ("/result/items/2/n", None),
        ("/result/items/-", None),
        ("result.items.x", None),
        ("result.items.1.n.m", None),
    ],
)
def test_a_dotted_path_or_a_json_pointer(path, found):
    assert dig(BODY, path) == found
