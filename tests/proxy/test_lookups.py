"""One host name whose resolver hangs holds up nothing else: asyncio's own look-ups would (6 threads on two cores)."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from proxy.loop import run
from tests.proxy.rawhttp import WAIT_S

CALLS = 4 * ((os.cpu_count() or 1) + 4)  # more than the threads of asyncio's default executor


class Resolver:
    """Stands for the system's: it hangs for `hangs.test` until it may ``go``, and then knows no such name."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.go = Event()

    def __call__(self, host: Any, port: Any, *hints: int) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        self.asked[name] += 1
        if name == "hangs.test":
            self.go.wait(WAIT_S)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    stub = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", stub)
    yield stub
    stub.go.set()


async def hanging(count: int) -> list[asyncio.Task[Any]]:
    loop = asyncio.get_running_loop()
    calls = [asyncio.create_task(loop.getaddrinfo("hangs.test", 80)) for _ in range(count)]
    await asyncio.sleep(0)
    return calls


def test_others_are_looked_up_and_threads_run_while_one_name_hangs(resolver: Resolver) -> None:
    async def main() -> None:
        calls = await hanging(CALLS)
        async with asyncio.timeout(WAIT_S):
            [found] = await asyncio.get_running_loop().getaddrinfo("works.test", 80)
            assert found[4] == ("127.0.0.1", 80)
            assert await asyncio.to_thread(lambda: "ran") == "ran"
        assert not any(call.done() for call in calls)
        assert resolver.asked == {"hangs.test": 1, "works.test": 1}
        resolver.go.set()
        assert {type(told) for told in await asyncio.gather(*calls, return_exceptions=True)} == {socket.gaierror}

    run(main())


def test_who_leaves_takes_nothing_from_the_others(resolver: Resolver) -> None:
    async def main() -> None:
        first, second = await hanging(2)
        first.cancel()
        await asyncio.wait([first])
        [third] = await hanging(1)
        resolver.go.set()
        for call in (second, third):
            with pytest.raises(socket.gaierror):
                await call
        assert resolver.asked["hangs.test"] == 1
        with pytest.raises(socket.gaierror):
            await asyncio.get_running_loop().getaddrinfo("hangs.test", 80)
        assert resolver.asked["hangs.test"] == 2, "what was found is not kept"

    run(main())


def test_a_name_that_hangs_holds_up_no_end(resolver: Resolver) -> None:
    async def main() -> None:
        await hanging(1)

    run(main())
    assert not resolver.go.is_set()
