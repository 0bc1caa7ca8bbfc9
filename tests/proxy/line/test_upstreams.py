"""A slow or dead upstream starves no other: `bad` is one, `up` answers at once, and both stand behind one sidecar."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from proxy.breaker import FAILURES_MAX
from proxy.cli import main
from proxy.lookups import Loop
from proxy.loop import run
from tests.proxy.line.chat import CHARGE, CHAT, PATH, SSE, STREAM, WORD, chunk, how, told
from tests.proxy.line.governed import Governed, governed, post, until
from tests.proxy.line.test_endings import then
from tests.proxy.rawhttp import WAIT_S, Answer
from tests.proxy.upstreams import Line, Script, ScriptedUpstream, Seen, answer, says

BOUND = 4
POLICY = """
version: 1
upstreams:
  up: {url: "URL", meter: openai}
  bad: {url: "BAD", meter: METER, max_in_flight: 4, timeout: 600s}
agents:
  - {id: worker, monthly_budget: 10}
  - {id: broke, monthly_budget: 0.009}
prices:
  - {name: chat, match: {path: "/v1/**"}, rates: {input_mtok: 1, output_mtok: 2}}
  - {name: flat, match: {path: "/flat/**"}, rates: {request: 0.01}}
"""
BAD = "/bad/v1/chat/completions"


@asynccontextmanager
async def beside(folder: Path, url: str, meter: str = "openai") -> AsyncIterator[Governed]:
    policy = POLICY.replace("BAD", url).replace("METER", meter)
    async with governed(folder, policy, says(told())) as line:
        yield line


class Clock:
    """The places', and a test's to move."""

    def __init__(self, line: Governed) -> None:
        self.now = 0.0
        line.app.sidecar.places.clock = lambda: self.now


def standing(line: Governed, name: str = "bad") -> tuple[int, bool]:
    [found] = [(calls, is_open) for upstream, calls, is_open in line.app.sidecar.places.standings() if upstream == name]
    return found


async def others_are_answered(line: Governed, calls: int = 12) -> None:
    got = await asyncio.gather(*(line.post(PATH, CHAT) for _ in range(calls)))
    assert [each.status for each in got] == [200] * calls


def refusal(got: Answer) -> tuple[int, str, str | None]:
    assert got.header("x-should-retry") is None
    return got.status, got.json()["error"]["code"], got.header("retry-after")


@pytest.fixture
def port() -> Iterator[socket.socket]:
    """One that nobody listens at, nor can."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held


def url_of(port: socket.socket) -> str:
    return f"http://127.0.0.1:{port.getsockname()[1]}"


async def silent(seen: Seen, line: Line) -> None:
    await line.gone()


async def drips(seen: Seen, line: Line) -> None:
    await line.say(SSE)
    while True:
        await line.say(chunk(WORD))
        await asyncio.sleep(0.01)


async def resets(seen: Seen, line: Line) -> None:
    line.reset()


async def closes(seen: Seen, line: Line) -> None:
    line.close()


# -- the bound of calls in flight ------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [silent, drips], ids=["silent", "drips"])
async def test_an_upstream_that_holds_its_calls_fills_its_own_places_only(tmp_path: Path, script: Script) -> None:
    async with ScriptedUpstream(script) as bad, beside(tmp_path, bad.url) as line:
        calls = [asyncio.create_task(line.post(BAD, STREAM)) for _ in range(BOUND)]
        await until(lambda: len(bad.seen) == BOUND)
        admitted = len(line.witness.admitted)
        refused = await asyncio.gather(*(line.post(BAD, STREAM) for _ in range(3)))
        assert [refusal(each) for each in refused] == [(503, "upstream_busy", "1")] * 3
        assert (len(line.witness.admitted), len(bad.seen), standing(line)) == (admitted, BOUND, (BOUND, False))
        await others_are_answered(line)
        metrics = (await line.api("GET", "/metrics")).text
        assert 'agent_ledger_upstream_in_flight{upstream="bad"} 4.0' in metrics
        assert 'agent_ledger_rejected_requests_total{code="upstream_busy"} 3.0' in metrics
        line.drains.seconds_max = 0.0
        for call in calls:
            call.cancel()
        await until(lambda: standing(line) == (0, False))


async def test_no_more_than_the_bound_reach_it_however_many_come(tmp_path: Path) -> None:
    most = here = 0

    async def counted(seen: Seen, line: Line) -> None:
        nonlocal most, here
        here += 1
        most = max(most, here)
        await asyncio.sleep(0.002)
        here -= 1
        await line.say(told())

    async with ScriptedUpstream(counted) as bad, beside(tmp_path, bad.url) as line:
        got = await asyncio.gather(*(line.post(BAD, CHAT) for _ in range(60)), others_are_answered(line))
        statuses = [each.status for each in got if each is not None]
        assert set(statuses) == {200, 503}
        assert most <= BOUND
        assert len(line.witness.admitted) == statuses.count(200) + 12
        assert standing(line) == (0, False)


async def test_an_answer_that_is_drained_is_in_flight(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def held(seen: Seen, line: Line) -> None:
        await go.wait()
        await line.say(told())

    async with ScriptedUpstream(held) as bad, beside(tmp_path, bad.url) as line:
        for number in range(BOUND):
            async with line.connect() as raw:
                await raw.send(post(BAD, CHAT))
                await until(lambda: len(bad.seen) == number + 1)  # noqa: B023
        await until(lambda: line.drains.open == BOUND)
        assert refusal(await line.post(BAD, CHAT)) == (503, "upstream_busy", "1")
        go.set()
        await until(lambda: standing(line) == (0, False))
        assert (await line.post(BAD, CHAT)).status == 200


async def test_the_drains_of_one_upstream_are_not_anothers(tmp_path: Path) -> None:
    async with ScriptedUpstream(silent) as bad, beside(tmp_path, bad.url) as line:
        line.drains.at_once_max = 1
        async with line.connect() as raw:
            await raw.send(post(BAD, CHAT))
            await until(lambda: len(bad.seen) == 1)
        await line.hung_up()
        go = asyncio.Event()

        async def held(seen: Seen, line: Line) -> None:
            await go.wait()
            await line.say(told())

        line.upstream.script = held
        async with line.connect() as raw:
            await raw.send(post(PATH, CHAT))
            await until(lambda: len(line.upstream.seen) == 1)
        await until(lambda: line.drains.open == 2)
        go.set()
        assert how(await line.ended()) == ("settled", CHARGE, False, "success")


async def test_a_denied_call_gives_its_place_back(tmp_path: Path) -> None:
    async with ScriptedUpstream(says(told())) as bad, beside(tmp_path, bad.url) as line:
        for _ in range(2 * BOUND):
            assert (await line.post("/bad/flat/x", {}, b"X-Agent-Id: broke")).status == 403
        assert (standing(line), bad.lines) == ((0, False), [])


# -- the circuit breaker ---------------------------------------------------------------------------------------------


async def test_a_dead_upstream_is_refused_at_once_tried_by_one_and_taken_back(
    tmp_path: Path, port: socket.socket
) -> None:
    async with beside(tmp_path, url_of(port)) as line:
        clock = Clock(line)
        got = [await line.post(BAD, CHAT) for _ in range(FAILURES_MAX + 3)]
        assert [each.status for each in got] == [502] * FAILURES_MAX + [503] * 3
        assert refusal(got[-1]) == (503, "upstream_unavailable", "5")
        # Before they were authorized: no reservation, and no row.
        assert len(line.witness.admitted) == len(await line.actions()) == FAILURES_MAX
        assert {action.ending for action in await line.actions()} == {"voided"}
        assert 'agent_ledger_upstream_open{upstream="bad"} 1.0' in (await line.api("GET", "/metrics")).text
        await others_are_answered(line)
        clock.now = 5.0
        got = await asyncio.gather(*(line.post(BAD, CHAT) for _ in range(6)))
        assert sorted(each.status for each in got) == [502] + [503] * 5
        assert refusal(await line.post(BAD, CHAT)) == (503, "upstream_unavailable", "10")
        clock.now = 15.0
        async with ScriptedUpstream(says(told()), sock=port):
            assert (await line.post(BAD, CHAT)).status == 200
            assert standing(line) == (0, False)


NO_ANSWER = {
    "resets": (resets, 502),
    "closes": (closes, 502),
    "half a head": (then(b"HTTP/1.1 200 OK\r\nContent-"), 502),
    "silent": (silent, 504),
}


@pytest.mark.parametrize("name", NO_ANSWER)
async def test_a_connection_that_gives_no_answer_trips_it(tmp_path: Path, name: str) -> None:
    script, status = NO_ANSWER[name]
    async with ScriptedUpstream(script) as bad, beside(tmp_path, bad.url) as line:
        line.write_policy(line.policy.read_text().replace("4, timeout: 600s", "5, timeout: 1s"))
        await line.api("POST", "/api/policy/reload")
        got = await asyncio.gather(*(line.post(BAD, CHAT) for _ in range(FAILURES_MAX)))
        assert [each.status for each in got] == [status] * FAILURES_MAX
        assert refusal(await line.post(BAD, CHAT))[:2] == (503, "upstream_unavailable")
        await others_are_answered(line)


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Service Unavailable", "429 Too Many Requests"])
async def test_an_answer_of_any_status_is_the_upstreams_own_word(tmp_path: Path, status: str) -> None:
    async with ScriptedUpstream(says(answer(b"{}", status))) as bad, beside(tmp_path, bad.url) as line:
        got = [await line.post(BAD, CHAT) for _ in range(2 * FAILURES_MAX)]
        assert [each.status for each in got] == [int(status[:3])] * (2 * FAILURES_MAX)
        assert standing(line) == (0, False)


async def test_an_answer_that_breaks_off_is_one(tmp_path: Path) -> None:
    async with ScriptedUpstream(then(SSE, chunk(WORD))) as bad, beside(tmp_path, bad.url) as line:
        for _ in range(2 * FAILURES_MAX):
            assert not (await line.post(BAD, STREAM)).complete
        assert standing(line) == (0, False)


async def test_a_probe_that_the_ledger_denies_makes_room_for_the_next(tmp_path: Path, port: socket.socket) -> None:
    async with beside(tmp_path, url_of(port)) as line:
        clock = Clock(line)
        for _ in range(FAILURES_MAX):
            await line.post(BAD, CHAT)
        clock.now = 5.0
        for _ in range(2):
            assert (await line.post("/bad/flat/x", {}, b"X-Agent-Id: broke")).status == 403
        assert (await line.post(BAD, CHAT)).status == 502


async def test_it_can_be_turned_off(tmp_path: Path, port: socket.socket) -> None:
    async with beside(tmp_path, url_of(port)) as line:
        for _ in range(FAILURES_MAX + 1):
            got = await line.post(BAD, CHAT)
        assert got.status == 503
        line.write_policy(line.policy.read_text().replace("timeout: 600s", "circuit_breaker: false"))
        await line.api("POST", "/api/policy/reload")
        for _ in range(2 * FAILURES_MAX):
            assert (await line.post(BAD, CHAT)).status == 502


@pytest.mark.parametrize("meter", ["openai", "anthropic", "gemini", "bedrock", "cohere", "mcp"])
async def test_a_refusal_speaks_the_upstreams_dialect(tmp_path: Path, port: socket.socket, meter: str) -> None:
    tool = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "search"}}
    async with beside(tmp_path, url_of(port), meter) as line:
        for _ in range(FAILURES_MAX + 1):
            got = await line.post("/bad/flat/x", tool)
        assert (got.header("retry-after"), got.header("x-should-retry")) == ("5", None)
        assert "the upstream bad has not answered since " in got.body.decode()
        if meter == "mcp":
            assert (got.status, got.json()["id"]) == (200, 7)
            assert got.json()["error"]["data"] == {"reason": "upstream_unavailable", "retryAfter": 5}
        else:
            assert got.status == 503


# -- reloads -----------------------------------------------------------------------------------------------------------


async def test_a_dropped_upstreams_connections_go_once_its_calls_have_ended(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def held(seen: Seen, line: Line) -> None:
        if seen.target == b"/v1/held":
            await go.wait()
        await line.say(told())

    async with ScriptedUpstream(held) as bad, beside(tmp_path, bad.url) as line:
        call = asyncio.create_task(line.post("/bad/v1/held", CHAT))
        await until(lambda: len(bad.seen) == 1)
        await line.post(BAD, CHAT)
        line.write_policy(line.policy.read_text().replace("  bad:", "  worse:").replace(bad.url, "http://127.0.0.1:1"))
        await line.api("POST", "/api/policy/reload")
        assert not any(each.ended.is_set() for each in bad.lines)
        go.set()
        assert (await call).status == 200
        async with asyncio.timeout(WAIT_S):
            await asyncio.gather(*(each.ended.wait() for each in bad.lines))
        assert len(bad.lines) == 2


async def test_a_reload_keeps_the_connections_and_the_breaker_of_an_upstream_whose_url_stays(
    tmp_path: Path, port: socket.socket
) -> None:
    async with beside(tmp_path, url_of(port)) as line:
        for _ in range(FAILURES_MAX):
            await line.post(BAD, CHAT)
        await line.post(PATH, CHAT)
        line.write_policy(line.policy.read_text().replace("600s", "60s").replace("meter: openai}", "timeout: 9s}"))
        await line.api("POST", "/api/policy/reload")
        assert refusal(await line.post(BAD, CHAT))[:2] == (503, "upstream_unavailable")
        await line.post(PATH, CHAT)
        assert len(line.upstream.lines) == 1
        # And starts anew where the url is another.
        line.write_policy(line.policy.read_text().replace(url_of(port), line.upstream.url))
        await line.api("POST", "/api/policy/reload")
        assert (await line.post(BAD, CHAT)).status == 200


# -- names -----------------------------------------------------------------------------------------------------------


def test_a_resolver_that_hangs_for_one_upstream_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the command runs it. On asyncio's own look-ups a few calls to the one hold up the other, and the ledger."""
    go = Event()

    def resolve(host: Any, *more: Any) -> Any:
        if host == "hangs.test":
            go.wait(WAIT_S)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", more[0]))]

    async def main() -> None:
        async with beside(tmp_path, "http://hangs.test") as line:
            text = line.policy.read_text().replace("max_in_flight: 4", "max_in_flight: 50")
            line.write_policy(text.replace(line.upstream.url, line.upstream.url.replace("127.0.0.1", "works.test")))
            await line.api("POST", "/api/policy/reload")
            calls = [asyncio.create_task(line.post(BAD, CHAT)) for _ in range(50)]
            await until(lambda: standing(line) == (50, False))
            await others_are_answered(line)
            assert len(await line.actions()) == 12
            go.set()
            assert {got.status for got in await asyncio.gather(*calls)} == {502}

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    try:
        run(main())
    finally:
        go.set()


def test_the_command_runs_on_such_look_ups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    async def serve(*given: object) -> None:
        seen.append(asyncio.get_running_loop())

    monkeypatch.setattr("proxy.cli.serve", serve)
    assert main(["serve", "policy.yaml", "--data", str(tmp_path)]) == 0
    assert isinstance(seen[0], Loop)
