from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy.breaker import FAILURES_MAX, OPEN_MAX_S, PROBE_S, Breaker

# Each step: (second, event, what comes of it). A call is told by a letter and began when `begin` says, else at once.
#   wait     how long the next call should wait            begin A  A goes
#   answered the head of an answer came: does it close?    fail A   A got no answer: does it open?
#   left A   A ended without a word on the upstream
TRIPPED = [(0, "fail x", False)] * (FAILURES_MAX - 1) + [(0, "fail x", True)]
TABLE = {
    "closed": [(0, "wait", 0), (0, "begin a", None), (1, "answered", False), (1, "wait", 0)],
    "one failure fewer": [*TRIPPED[:-1], (0, "wait", 0)],
    "tripped": [*TRIPPED, (0, "wait", 5), (4.5, "wait", 0.5), (5, "wait", 0)],
    "an answer between": [*TRIPPED[:-1], (1, "answered", False), *[(2, "fail x", False)] * 4, (2, "fail x", True)],
    "a probe that is answered": [*TRIPPED, (5, "begin p", None), (6, "answered", True), (6, "wait", 0)],
    "it takes as many to trip again": [*TRIPPED, (5, "answered", True), (6, "fail x", False), (6, "wait", 0)],
    "one probe only": [*TRIPPED, (5, "begin p", None), (5, "wait", 1), (5 + PROBE_S - 1, "wait", 1)],
    "each probe that fails doubles it": [
        *TRIPPED,
        *[(5, "begin p", None), (5, "fail p", False), (5, "wait", 10)],
        *[(15, "begin p", None), (15, "fail p", False), (15, "wait", 20)],
        *[(35, "begin p", None), (35, "fail p", False), (35, "wait", 40)],
        *[(75, "begin p", None), (75, "fail p", False), (75, "wait", OPEN_MAX_S)],
        *[(135, "begin p", None), (135, "fail p", False), (135, "wait", OPEN_MAX_S)],
        *[(195, "answered", True), *[(200, "fail x", False)] * 4, (200, "fail x", True), (200, "wait", 5)],
    ],
    "a probe that leaves makes room": [*TRIPPED, (5, "begin p", None), (7, "left p", None), (7, "wait", 0)],
    "only the probe's failure counts while it is open": [
        *[*TRIPPED, (1, "fail y", False), (5, "begin p", None), (6, "fail y", False), (6, "wait", 1)],
        *[(6, "left y", None), (6, "wait", 1), (7, "fail p", False), (7, "wait", 10)],
    ],
    "any answer closes it": [*TRIPPED, (1, "answered", True), (1, "wait", 0)],
    "a slow probe is overtaken": [
        *[*TRIPPED, (5, "begin p", None), (20, "wait", 0), (20, "begin q", None), (20, "wait", 1)],
        *[(21, "left p", None), (21, "fail p", False), (21, "wait", 1), (22, "fail q", False), (22, "wait", 20)],
    ],
    "silent probes grow rarer": [
        *[*TRIPPED, (5, "begin p", None), (20, "begin q", None), (35, "begin r", None), (54, "wait", 1)],
        *[(55, "begin s", None), (94, "wait", 1), (95, "begin t", None), (154, "wait", 1), (155, "wait", 0)],
    ],
    # Calls of minutes that time out together, at an upstream that answers others.
    "slow calls of an upstream that lives": [
        *[(number, f"begin {letter}", None) for number, letter in enumerate("abcdefgh")],
        (599, "answered", False),
        *[(600 + number, f"fail {letter}", False) for number, letter in enumerate("abcdefgh")],
        (608, "wait", 0),
    ],
    "slow calls of one that doesn't": [
        *[(number, f"begin {letter}", None) for number, letter in enumerate("abcde")],
        *[(600, f"fail {letter}", letter == "e") for letter in "abcde"],
        (600, "wait", 5),
    ],
}


@pytest.mark.parametrize("name", TABLE)
def test_the_breaker_by_table(name: str) -> None:
    breaker = Breaker()
    begun: dict[str, float] = {}
    for number, (now, event, expected) in enumerate(TABLE[name]):
        kind, _, call = event.partition(" ")
        match kind:
            case "wait":
                got: object = breaker.wait_s(now)
            case "begin":
                begun[call] = now
                got = breaker.begin(call, now)
            case "answered":
                got = breaker.answered(now)
            case "fail":
                got = breaker.failed(call, begun.get(call, now), now)
            case _:
                got = breaker.left(call, now)
        assert got == expected, f"step {number}, {event} at {now} s"


def test_it_says_since_when() -> None:
    breaker = Breaker()
    moments: Iterator[float] = iter(range(FAILURES_MAX + 1))
    breaker.answered(next(moments))
    for now in moments:
        breaker.failed("x", now, now)
    assert breaker.failing_since == 1
