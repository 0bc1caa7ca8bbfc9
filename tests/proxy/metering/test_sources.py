from __future__ import annotations

from decimal import Decimal

import pytest

from policy.model import UsageSource
from proxy.metering.quantities import Unreadable
from proxy.metering.sources import Sources

SECONDS = UsageSource("seconds", "response", "result.billed_seconds")
PAGES = UsageSource("pages", "header", "X-Pages")
IMAGES = UsageSource("images", "request", "options.n")


def test_header_response_and_request_together():
    sources = Sources((SECONDS, PAGES, IMAGES), [(b"x-pages", b" 12.50 ")], {"options": {"n": 2}})
    assert sources.usage() is None
    sources.read({"result": {"billed_seconds": Decimal("0.1")}})
    assert sources.usage() == {"seconds": Decimal("0.1"), "pages": Decimal("12.5"), "images": 2}


@pytest.mark.parametrize("missing", range(3))
def test_promise_7_one_that_is_missing_leaves_none(missing):
    found: list = [[(b"X-Pages", b"1")], {"options": {"n": 2}}, {"result": {"billed_seconds": 3}}]
    found[missing] = [] if missing == 0 else {"options": {"n": None}, "result": 3}
    sources = Sources((SECONDS, PAGES, IMAGES), found[0], found[1])
    sources.read(found[2])
    assert sources.usage() is None


def test_the_last_document_that_states_it_counts():
    sources = Sources((SECONDS,), (), None)
    for document in ({"result": {"billed_seconds": 1}}, {"result": {"billed_seconds": 7}}, {"result": {}}):
        sources.read(document)
    assert sources.usage() == {"seconds": 7}


@pytest.mark.parametrize(
    ("path", "quantity"),
    [
        ("items.1.size", 5),
        ("items.9.size", None),
        ("items.-1.size", None),
        ("items.x", None),
        ("9", 4),
        ("items.٠", None),
    ],
)
def test_paths_go_through_lists_by_index(path, quantity):
    sources = Sources((UsageSource("size", "request", path),), (), {"items": [{}, {"size": 5}], "9": 4})
    assert sources.usage() == (None if quantity is None else {"size": quantity})


@pytest.mark.parametrize("value", [b"", b"-1", b"2 pages", b"NaN", b"\xff"])
def test_a_header_that_is_no_number_is_unreadable(value):
    with pytest.raises(Unreadable):
        Sources((PAGES,), [(b"x-pages", value)], None).usage()


@pytest.mark.parametrize(
    ("path", "key"),
    [("result.billed_seconds", "billed_seconds"), ("usage.0", "usage"), ("0", "0"), ("/a.b/c~1d/0", "c/d")],
)
def test_the_key_to_look_for(path, key):
    assert Sources((UsageSource("seconds", "response", path),), (), None).keys == (key,)


def test_what_is_measured_is_asked_for_at_the_end_and_stands_beside_what_is_stated():
    passed = {"seconds": Decimal("0.25"), "request_bytes": 10, "response_bytes": 0}
    sources = Sources(
        (UsageSource("bytes", "measured", "response_bytes"), PAGES), [(b"x-pages", b"2")], None, lambda: passed
    )
    passed["response_bytes"] = 2048
    assert sources.usage() == {"bytes": 2048, "pages": 2}
    assert Sources((UsageSource("bytes", "measured", "response_bytes"),), (), None).usage() is None
