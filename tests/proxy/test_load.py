from __future__ import annotations

import resource

import pytest

from proxy.load import CONNECTIONS_SPARE, Load, affordable


class Limits:
    """The process's limit of open files, as far as the module knows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> None:
        self.held = (soft, hard)
        monkeypatch.setattr(resource, "getrlimit", lambda which: self.held)
        monkeypatch.setattr(resource, "setrlimit", self.set)

    def set(self, which: int, limits: tuple[int, int]) -> None:
        assert limits[0] <= limits[1] or limits[1] == resource.RLIM_INFINITY
        self.held = limits


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "raised"),
    [
        (1024, 1 << 20, 2048, 4416),
        (1024, resource.RLIM_INFINITY, 2048, 4416),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 2048, resource.RLIM_INFINITY),
        (65536, 65536, 2048, 65536),
        (1024, 1024, 352, 1024),
        (256, 1024, 352, 1024),
        (64, 64, 1, 64),
    ],
)
def test_connections_are_as_many_as_there_are_files_for(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, connections: int, raised: int
) -> None:
    limits = Limits(monkeypatch, soft, hard)
    assert affordable(2048) == connections
    assert limits.held == (raised, hard)
    if connections > 1 and raised != resource.RLIM_INFINITY:
        assert 2 * (connections + CONNECTIONS_SPARE) < raised


def test_what_is_held_is_given_back_on_every_way_out() -> None:
    load = Load(buffered_max=100)
    with pytest.raises(RuntimeError), load.hold() as one:  # noqa: PT012 (what is held inside is what is tested)
        assert one.take(60)
        with load.hold() as two:
            assert two.take(40)
            assert not two.take(1)
            assert load.buffered == 100
        assert one.take(50)  # alone, it may pass the bound
        raise RuntimeError
    assert load.buffered == 0


def test_closing_ends_what_stands() -> None:
    load, ended = Load(), []
    load.standing.add(lambda: ended.append(1))
    load.close()
    assert (load.closing, ended) == (True, [1])
