"""Over its bounds of connections and memory the sidecar says so at once; what runs goes on, and probes get in."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from proxy import gate
from proxy.load import CONNECTIONS_SPARE
from proxy.receive import BODY_MAX
from tests.proxy.line.chat import CHARGE, CHAT, DONE, END, LAST, PATH, POLICY, SSE, chunk, how, told
from tests.proxy.line.governed import AS_WORKER, Governed, governed, post, request, until
from tests.proxy.line.test_hangups import Held
from tests.proxy.rawhttp import Answer
from tests.proxy.upstreams import Line, Seen, says
from tests.sidecar import ADMIN

PATIENT = POLICY.replace("timeout: 1s", "timeout: 600s").replace("monthly_budget: 10", "monthly_budget: 1000")
AS_ADMIN = (b"Authorization: Bearer " + ADMIN.encode(),)
HEAD = request("POST", PATH, *AS_WORKER, b"Content-Length: 20000000")
BIG = CHAT | {"padding": "x" * 60_000}


def told_overloaded(answer: Answer, code: str = "overloaded") -> bool:
    """As an OpenAI SDK reads it: its own error, to be retried in a moment."""
    assert (answer.status, answer.json()["error"]["code"], answer.header("retry-after")) == (503, code, "1")
    return answer.header("x-should-retry") is None


async def test_over_the_bound_of_connections_a_call_is_503_at_once_and_probes_and_operators_get_in(
    tmp_path: Path,
) -> None:
    async with governed(tmp_path, POLICY, says(told()), connections_max=2) as line:
        async with line.connect() as kept, line.connect():
            await kept.send(post(PATH, CHAT))
            assert (await kept.answer()).status == 200
            async with line.connect() as third:
                await third.send(HEAD)  # its body is not waited for
                answer = await third.answer()
                assert told_overloaded(answer)
                assert answer.header("connection") == "close"
                assert await third.closed()
            for path in ("/healthz", "/readyz", "/api/agents"):
                answer = await line.get(path, *AS_ADMIN)
                assert (answer.status, answer.header("connection")) == (200, "close")
            await kept.send(post(PATH, CHAT))
            assert (await kept.answer()).status == 200
        await until(lambda: line.load.connections == 0)
        assert (await line.post(PATH, CHAT)).status == 200
        assert (len(line.witness.admitted), line.app.sidecar.metrics.rejected["overloaded"]) == (3, 1)


async def test_whoever_is_silent_in_the_spare_places_makes_room_for_a_probe(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(told()), connections_max=1) as line, AsyncExitStack() as clients:
        silent = [await clients.enter_async_context(line.connect()) for _ in range(1 + CONNECTIONS_SPARE + 2)]
        assert (await line.get("/healthz")).status == 200
        for raw in silent[1:3]:
            answer = await raw.answer()
            assert (answer.status, answer.json()["error"]["code"]) == (503, "overloaded")
            assert await raw.closed()
        assert (line.load.shed, line.load.connections) == (3, CONNECTIONS_SPARE)
        await silent[0].send(post(PATH, CHAT))
        assert (await silent[0].answer()).status == 200


async def test_over_the_bound_of_buffered_bodies_a_call_is_503_at_once(tmp_path: Path) -> None:
    upstream = Held([], [told()])
    async with governed(tmp_path, PATIENT, upstream, buffered_max=200_000) as line:
        first = asyncio.create_task(line.post(PATH, BIG))
        await upstream.asked.wait()
        held = line.load.buffered
        assert 120_000 < held < 125_000
        stated = await line.get(PATH, *AS_WORKER, b"Content-Length: 60000", method="POST")
        assert told_overloaded(stated)
        async with line.connect() as raw:
            await raw.send(request("POST", PATH, *AS_WORKER, b"Transfer-Encoding: chunked"))
            await raw.send(chunk(b" " * 30_000) + chunk(b" " * 30_000))
            assert told_overloaded(await raw.answer())
        assert told_overloaded(await line.post(PATH, {"a": [{}] * 1000}))  # small as sent, large as parsed
        reported = await line.api("POST", "/api/actions", json={"agentId": "x" * 60_000})
        assert (reported.status_code, reported.json()["error"]["code"]) == (503, "overloaded")
        assert line.load.buffered == held
        upstream.go.set()
        assert (await first).status == 200
        assert (await line.post(PATH, BIG)).status == 200
        assert line.load.buffered == 0


async def test_a_body_that_no_price_reads_is_not_buffered(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(told()), buffered_max=1) as line:
        assert (await line.post("/up/flat/x", BIG)).status == 200


async def left_amid(line: Governed) -> None:
    async with line.connect() as raw:
        await raw.send(HEAD + b"x" * 100_000)
        await until(lambda: line.load.buffered > 0)
        raw.reset()


async def too_long(line: Governed) -> None:
    async with line.connect() as raw:
        await raw.send(request("POST", PATH, *AS_WORKER, b"Transfer-Encoding: chunked"))
        await raw.send(b"%x\r\n" % (BODY_MAX + 1))
        await raw.send(b"x" * (BODY_MAX + 1))
        assert (await raw.answer()).status == 413


async def malformed(line: Governed) -> None:
    async with line.connect() as raw:
        await raw.send(request("POST", PATH, *AS_WORKER, b"Transfer-Encoding: chunked") + chunk(b"x" * 9) + b"nonsense")
        assert (await raw.answer()).status == 400


async def denied(line: Governed) -> None:
    assert (await line.post(PATH, CHAT | {"max_tokens": 10**9})).status == 403


async def unreachable(line: Governed) -> None:
    assert (await line.post("/down/v1/chat/completions", CHAT)).status == 502


@pytest.mark.parametrize("way", [left_amid, too_long, malformed, denied, unreachable], ids=lambda way: way.__name__)
async def test_what_a_body_held_is_given_back_whichever_way_its_call_ends(tmp_path: Path, way) -> None:
    async with governed(tmp_path, POLICY, says(told())) as line:
        await way(line)
        await until(lambda: line.load.buffered == 0)


async def test_a_priced_body_that_takes_too_long_is_408(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.receive.BODY_S", 0.05)
    async with governed(tmp_path, POLICY, says(told())) as line, line.connect() as raw:
        await raw.send(HEAD)
        answer = await raw.answer()
        assert (answer.status, answer.json()["error"]["code"]) == (408, "request_timeout")
        assert line.load.buffered == 0


async def test_hazard_29_a_body_of_many_values_is_read_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = []
    quote = gate.quote

    def noted(*arguments):
        readers.append(threading.current_thread() is threading.main_thread())
        return quote(*arguments)

    monkeypatch.setattr(gate, "quote", noted)
    async with governed(tmp_path, POLICY, says(told())) as line:
        for body in (CHAT, BIG | {"more": BIG}, BIG | {"more": [0] * 4_000}):
            assert (await line.post(PATH, body)).status == 200
        many = b'{"model": "m", "a": [' + b"[]," * 500_000 + b"1]}"
        answer = await line.post(PATH, many, *AS_WORKER, b"Content-Type: application/json")
        assert (answer.status, answer.json()["error"]["code"]) == (400, "invalid_json")
    assert readers == [True, True, False, False]


async def standing(seen: Seen, line: Line) -> None:
    await line.say(SSE, chunk(b"data: hi\n\n"))
    await line.gone()


async def test_hazard_45_a_standing_stream_that_nobody_meters_ends_when_the_sidecar_is_to_stop(tmp_path: Path) -> None:
    async with governed(tmp_path, PATIENT, standing) as line, line.connect() as raw:
        await raw.send(request("GET", "/up/flat/events"))
        await raw.reader.readuntil(b"hi")
        assert len(line.load.standing) == 1
        line.load.close()
        assert how(await line.ended()) == ("settled", 10_000_000, False, "success")
        assert b"0\r\n\r\n" not in await raw.reader.read()
        await until(lambda: not line.load.standing)


async def test_hazard_45_a_standing_stream_that_begins_when_the_sidecar_is_to_stop_ends_as_well(tmp_path: Path) -> None:
    upstream = Held([], [SSE, chunk(b"data: hi\n\n")])
    async with governed(tmp_path, PATIENT, upstream) as line, line.connect() as raw:
        await raw.send(request("GET", "/up/flat/events"))
        await upstream.asked.wait()
        line.load.close()
        upstream.go.set()
        assert how(await line.ended()) == ("settled", 10_000_000, False, "success")


async def test_hazard_45_a_stream_that_ends_by_itself_goes_on_and_new_calls_are_turned_away(tmp_path: Path) -> None:
    upstream = Held([SSE, chunk(b'data: {"hi": 1}\n\n')], [chunk(LAST), chunk(DONE), END])
    async with governed(tmp_path, PATIENT, upstream) as line, line.connect() as metered, line.connect() as flat:
        await metered.send(post(PATH, CHAT | {"stream": True}))
        await metered.reader.readuntil(b"hi")
        await flat.send(post("/up/flat/x", {}))
        await flat.reader.readuntil(b"hi")
        line.load.close()
        answer = await line.post(PATH, CHAT)
        assert told_overloaded(answer, "shutting_down")
        assert answer.header("connection") == "close"
        upstream.go.set()
        for raw in (metered, flat):
            assert (await raw.reader.readuntil(END)).endswith(DONE + b"\r\n" + END)
        assert {(await line.ended()).cost for _ in range(2)} == {CHARGE, 10_000_000}
