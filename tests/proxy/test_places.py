from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.model import Upstream
from proxy.breaker import FAILURES_MAX
from proxy.denials import Refused
from proxy.forward import ForwardError, NotSent, Uncertain
from proxy.places import Place, Places

UP = Upstream("up", "http://up.test", max_in_flight=3)
DOWN = Upstream("down", "http://down.test", max_in_flight=2)


class Wire:
    """Stands for the forwarder: what it is sent ends as the caller says, with an answer unless that is an error."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    async def send(self, upstream: Upstream, method: str, target: bytes, headers: Any, body: Any) -> Any:
        result = await body if isinstance(body, asyncio.Future) else body
        if isinstance(result, Exception):
            raise result
        return result

    async def forget(self, upstream: Upstream) -> None:
        self.forgotten.append(upstream.url)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Street:
    """Places by a clock and a wire of the test's."""

    def __init__(self, *upstreams: Upstream) -> None:
        self.wire, self.clock = Wire(), Clock()
        self.places = Places(self.wire, upstreams, self.clock)  # type: ignore[arg-type]

    async def call(self, upstream: Upstream, ending: Any = "answer") -> Any:
        async with self.places.take(upstream) as place:
            return await send(place, ending)

    async def fail(self, upstream: Upstream, times: int = FAILURES_MAX) -> None:
        for _ in range(times):
            with pytest.raises(ForwardError):
                await self.call(upstream, NotSent(502, "no connection"))

    async def refused(self, upstream: Upstream) -> Refused:
        with pytest.raises(Refused) as raised:
            await self.call(upstream)
        return raised.value

    def standing(self, name: str = "up") -> tuple[int, bool]:
        """(calls in flight, whether the circuit is open)"""
        [found] = [(calls, is_open) for upstream, calls, is_open in self.places.standings() if upstream == name]
        return found


async def send(place: Place, ending: Any) -> Any:
    return await place.send("POST", b"/", [], ending)


async def test_over_its_bound_a_call_is_refused_at_once_and_others_go() -> None:
    street = Street(UP, DOWN)
    async with street.places.take(DOWN), street.places.take(DOWN):
        refusal = await street.refused(DOWN)
        assert (refusal.status, refusal.code, refusal.retry_after_s) == (503, "upstream_busy", 1)
        assert refusal.retryable
        assert "2 calls are in flight to the upstream down" in refusal.message
        assert await street.call(UP) == "answer"
        assert (street.standing("down"), street.standing()) == ((2, False), (0, False))
    assert await street.call(DOWN) == "answer"


async def test_after_failures_in_a_row_it_is_refused_and_then_tried_by_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    street = Street(UP)
    await street.fail(UP)
    street.clock.now += 2
    refusal = await street.refused(UP)
    assert (refusal.status, refusal.code, refusal.retry_after_s) == (503, "upstream_unavailable", 3)
    assert refusal.retryable
    assert "the upstream up has not answered since 20" in refusal.message
    assert street.standing() == (0, True)
    street.clock.now += 3
    async with street.places.take(UP) as probe:
        assert (await street.refused(UP)).retry_after_s == 1
        await send(probe, "answer")
        assert await street.call(UP) == "answer"
    assert street.standing() == (0, False)
    said = [record.message for record in caplog.records]
    assert said == [
        "no answer to 5 calls in a row; no more are sent for 5 s, and then one to try it: no connection",
        "the upstream up answers again",
    ]


@pytest.mark.parametrize("error", [asyncio.CancelledError, Refused], ids=["cancelled", "denied"])
async def test_a_probe_that_was_never_sent_or_is_cancelled_makes_room_for_the_next(
    error: type[BaseException],
) -> None:
    street = Street(UP)
    await street.fail(UP)
    street.clock.now += 5
    with pytest.raises(error):
        async with street.places.take(UP):
            raise error(403, "agent_paused", "no") if error is Refused else error
    assert await street.call(UP) == "answer"


async def test_a_retry_after_is_from_1_to_60() -> None:
    street = Street(UP)
    await street.fail(UP)
    told = []
    for _ in range(400):
        street.clock.now += 0.9
        try:
            await street.call(UP, NotSent(502, "no connection"))
        except Refused as refusal:
            told.append(refusal.retry_after_s)
        except NotSent:
            continue
    assert (min(told), max(told)) == (1, 60)


@pytest.mark.parametrize(
    "error", [NotSent(502, "x"), NotSent(504, "x"), Uncertain(504, "x"), Uncertain(502, "x")], ids=repr
)
async def test_each_failure_of_the_upstream_counts(error: ForwardError) -> None:
    street = Street(UP)
    for _ in range(FAILURES_MAX):
        with pytest.raises(ForwardError):
            await street.call(UP, error)
    assert street.standing() == (0, True)


@pytest.mark.parametrize("error", [Uncertain(502, "x", of_upstream=False), ConnectionResetError()], ids=repr)
async def test_a_request_that_can_t_be_sent_or_whose_client_left_tells_nothing_of_the_upstream(
    error: Exception,
) -> None:
    street = Street(UP)
    for _ in range(2 * FAILURES_MAX):
        with pytest.raises(type(error)):
            await street.call(UP, error)
    assert street.standing() == (0, False)


async def test_a_breaker_that_is_off_refuses_nothing() -> None:
    street = Street(replace(UP, circuit_breaker=False))
    await street.fail(replace(UP, circuit_breaker=False), 3 * FAILURES_MAX)
    assert street.standing() == (0, False)
    street = Street(UP)
    await street.fail(UP)
    off = replace(UP, circuit_breaker=False)
    await street.places.keep([off])
    assert (await street.call(off), street.standing()) == ("answer", (0, False))


async def test_a_reload_keeps_what_is_known_of_an_upstream_while_its_url_stays() -> None:
    street = Street(UP)
    await street.fail(UP)
    other = replace(UP, timeout_s=5.0, set_headers=(("x-a", "b"),))
    await street.places.keep([other])
    assert (await street.refused(other)).code == "upstream_unavailable"
    assert street.wire.forgotten == []
    moved = replace(UP, url="http://moved.test")
    await street.places.keep([moved])
    assert (await street.call(moved), street.standing(), street.wire.forgotten) == ("answer", (0, False), [UP.url])


async def test_what_the_policy_names_no_more_is_forgotten_with_its_last_call_in_flight() -> None:
    street = Street(UP, DOWN)
    await street.call(DOWN)
    async with street.places.take(UP):
        async with street.places.take(UP):
            await street.places.keep([])
            assert street.wire.forgotten == [DOWN.url]
        assert street.wire.forgotten == [DOWN.url]
        assert list(street.places.standings()) == []
    assert street.wire.forgotten == [DOWN.url, UP.url]
    # Of a call that began before the reload, and was received only now.
    assert await street.call(UP) == "answer"
    assert street.wire.forgotten == [DOWN.url, UP.url, UP.url]


async def test_what_is_named_again_before_its_last_call_ended_stays() -> None:
    street = Street(UP)
    async with street.places.take(UP):
        await street.places.keep([DOWN])
        await street.places.keep([UP])
    assert (street.wire.forgotten, street.standing()) == ([], (0, False))


STEPS = st.lists(
    st.tuples(st.sampled_from(["begin", "answer", "fail", "hide", "deny", "cancel", "reload", "drop", "wait"]),
              st.integers(0, 9)),
    max_size=60,
)  # fmt: skip


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_never_more_than_the_bound_are_in_flight_and_all_places_come_back(steps: list[tuple[str, int]]) -> None:
    with asyncio.Runner() as runner:
        runner.run(walk(steps))


async def walk(steps: list[tuple[str, int]]) -> None:
    street = Street(UP)
    calls: list[tuple[asyncio.Task[Any], asyncio.Future[Any]]] = []
    inside = 0
    endings = {"answer": "answer", "fail": NotSent(502, "x"), "hide": Uncertain(504, "x")}

    async def call(ending: asyncio.Future[Any]) -> None:
        with contextlib.suppress(ForwardError, Refused):
            await placed(ending)

    async def placed(ending: asyncio.Future[Any]) -> None:
        nonlocal inside
        async with street.places.take(UP) as place:
            inside += 1
            try:
                if await ending == "deny":
                    raise Refused(403, "agent_paused", "no")
                await send(place, ending)
            finally:
                inside -= 1

    for step, number in steps:
        match step:
            case "begin":
                ending = asyncio.get_running_loop().create_future()
                was_open = street.standing()[1]
                calls.append((asyncio.create_task(call(ending)), ending))
                before = inside
                await asyncio.sleep(0)
                assert inside - before == (before < UP.max_in_flight) or was_open
                assert inside - before <= 1
            case "reload":
                await street.places.keep([UP])
            case "drop":
                await street.places.keep([])
                await street.places.keep([UP])
            case "wait":
                street.clock.now += number
            case "cancel" if calls:
                calls.pop(number % len(calls))[0].cancel()
            case "deny" | "answer" | "fail" | "hide" if calls:
                _, ending = calls.pop(number % len(calls))
                ending.set_result(step if step == "deny" else endings[step])
        for _ in range(4):
            await asyncio.sleep(0)
        calls = [(task, ending) for task, ending in calls if not task.done()]
        assert inside == street.standing()[0] <= UP.max_in_flight
    for task, _ in calls:
        task.cancel()
    await asyncio.gather(*(task for task, _ in calls), return_exceptions=True)
    for _ in range(4):
        await asyncio.sleep(0)
    assert street.standing()[0] == 0
