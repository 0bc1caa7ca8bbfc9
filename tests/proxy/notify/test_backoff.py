from __future__ import annotations

import itertools

from proxy.notify.backoff import MOST_S, pause_s


def pauses(count: int, chance: float = 0.0) -> list[float]:
    return [pause_s(failures, chance) for failures in range(1, count + 1)]


def test_a_receiver_that_was_down_for_a_minute_is_tried_again_within_five_seconds() -> None:
    first = pauses(14)
    assert first[:5] == [1, 2, 4, 5, 5]
    assert max(first) == 5
    assert sum(first) >= 60


def test_then_the_pause_doubles_up_to_a_quarter_of_an_hour() -> None:
    later = pauses(30)[13:]
    assert later[:9] == [5, 10, 20, 40, 80, 160, 320, 640, 900]
    assert set(later[9:]) == {MOST_S} == {900}
    assert pause_s(10**9, 0.0) == 900


def test_chance_only_shortens_it() -> None:
    for longest, shortest in zip(pauses(40), pauses(40, 1.0), strict=True):
        assert shortest == longest * 0.8
    assert all(before <= after for before, after in itertools.pairwise(pauses(40, 0.5)))
