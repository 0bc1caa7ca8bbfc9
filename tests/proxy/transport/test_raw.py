from __future__ import annotations

import httpx

from proxy.transport import Raw

LINES = [(b"X-B", b"2"), (b"x-a", b"1"), (b"x-b", b"\xff")]


def test_what_was_given_is_what_there_is() -> None:
    assert Raw(LINES).raw is LINES


def test_it_is_read_and_changed_and_copied_as_any_other() -> None:
    raw, plain = Raw(list(LINES)), httpx.Headers(LINES)
    assert raw == plain
    assert (raw["x-b"], raw.get_list("X-B"), list(raw.items())) == (
        plain["x-b"],
        plain.get_list("X-B"),
        [*plain.items()],
    )
    for headers in (raw, plain):
        headers["x-c"] = "3"
        del headers["x-a"]
    assert raw.raw == plain.raw
    assert httpx.Headers(raw).raw == plain.raw
