from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.ledger.keys import IN_FORCE_MAX, with_key, without_key
from proxy.ledger.port import Agent, Key, TooManyKeys

AGENT = Agent("a", "A", "", "", 0, None, 0)


def keys(*ends: int | None) -> Agent:
    return replace(AGENT, keys=tuple(Key(f"d{n}", f"key_{n}", 1, end) for n, end in enumerate(ends)))


def test_a_key_is_in_force_until_it_expires():
    assert Key("d").in_force(10**15)
    assert Key("d", expires_at=10).in_force(9)
    assert not Key("d", expires_at=10).in_force(10)


def test_promise_10_a_digest_is_in_no_repr():
    assert "secret-digest" not in repr(replace(AGENT, keys=(Key("secret-digest"),)))


def test_the_latest_that_ended_are_kept_whatever_order_they_were_made_in():
    held = with_key(keys(*range(30, 0, -1)), Key("new", "key_new"), None, 100).keys
    assert [key.expires_at for key in held] == [*range(30, 20, -1), None]
    assert [key.expires_at for key in without_key(keys(5, None), "key_1", 100).keys] == [5, 100]


def test_retiring_ends_those_in_force_at_that_time_or_before():
    held = with_key(keys(3, 50, 500, None), Key("new", "key_new"), 100, 10).keys
    assert [key.expires_at for key in held] == [3, 50, 100, 100, None]


@pytest.mark.parametrize(("retire_at", "fits"), [(None, False), (11, False), (10, True)])
def test_a_key_that_ends_later_still_counts(retire_at, fits):
    full = keys(*[None] * IN_FORCE_MAX)
    if fits:
        assert with_key(full, Key("new", "key_new"), retire_at, 10).keys[-1].digest == "new"
    else:
        with pytest.raises(TooManyKeys):
            with_key(full, Key("new", "key_new"), retire_at, 10)
