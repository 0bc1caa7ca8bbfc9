"""Promise 3: each reservation ends exactly once, on every way out while the client stays.

What `governed` asks at the end of each test is that promise; here is what each end costs, and what the client sees.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.line.chat import (
    CHARGE,
    CHAT,
    DONE,
    END,
    JSON,
    LAST,
    PATH,
    POLICY,
    RESERVED,
    RESERVED_STREAM,
    SSE,
    STREAM,
    WORD,
    chunk,
    how,
    told,
)
from tests.proxy.line.governed import FullDisk, governed
from tests.proxy.upstreams import Line, Script, Seen, answer, says

SETTLED = ("settled", CHARGE, False, "success")
VOIDED = ("voided", 0, False, "failure")


@dataclass(frozen=True)
class End:
    script: Script
    ends: tuple[str | None, int, bool, str]
    status: int = 200
    complete: bool = True
    stream: bool = False
    path: str = PATH


def hidden(reserved: int = RESERVED, outcome: str = "failure") -> tuple[str | None, int, bool, str]:
    """Nobody can say what it cost: it costs its reservation, unconfirmed."""
    return "settled", reserved, True, outcome


def then(*pieces: bytes, reset: bool = False) -> Script:
    """Send these, and break the connection."""

    async def script(seen: Seen, line: Line) -> None:
        await line.say(*pieces)
        line.reset() if reset else line.close()

    return script


async def silence(seen: Seen, line: Line) -> None:
    await line.gone()


async def stalled(seen: Seen, line: Line) -> None:
    await line.say(SSE, chunk(WORD))
    await line.gone()


PROMISED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n{"
ENDS = {
    "success": End(says(told()), SETTLED),
    "a stream": End(says(SSE, chunk(WORD), chunk(LAST), chunk(DONE), END), SETTLED, stream=True),
    "until closed": End(then(b"HTTP/1.1 200 OK\r\n" + JSON + b"\r\n\r\n" + told().partition(b"\r\n\r\n")[2]), SETTLED),
    "after 1xx": End(says(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", told()), SETTLED),
    "no usage on 200": End(says(told(None)), hidden(outcome="success"), 200),
    "no usage on 302": End(says(answer(b"", "302 Found", b"Location: /x")), hidden(outcome="success"), 302),
    "204": End(says(b"HTTP/1.1 204 No Content\r\n\r\n"), hidden(outcome="success"), 204),
    "stream without usage": End(
        says(SSE, chunk(WORD), chunk(DONE), END), hidden(RESERVED_STREAM, "success"), 200, stream=True
    ),
    "error in a stream": End(
        says(SSE, chunk(b'data: {"error":{"message":"overloaded"}}\n\n'), END),
        hidden(RESERVED_STREAM, "failure"),
        200,
        stream=True,
    ),
    "upstream 400": End(says(answer(b"{}", "400 Bad Request", JSON)), VOIDED, 400),
    "upstream 500": End(says(answer(b"oops", "500 Internal Server Error")), VOIDED, 500),
    "upstream 500 with usage": End(
        says(told(status="500 Internal Server Error")), ("settled", CHARGE, False, "failure"), 500
    ),
    "connection refused": End(says(), VOIDED, 502, path="/down/v1/chat/completions"),
    "closed before an answer": End(then(), hidden(), 502),
    "reset before an answer": End(then(reset=True), hidden(), 502),
    "half a head": End(then(b"HTTP/1.1 200 OK\r\nContent-"), hidden(), 502),
    "malformed header": End(says(b"HTTP/1.1 200 OK\r\nBad Header: x\r\nContent-Length: 0\r\n\r\n"), hidden(), 502),
    "NUL in a header": End(says(b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 0\r\n\r\n"), hidden(), 502),
    "not HTTP": End(says(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), hidden(), 502),
    "read timeout": End(silence, hidden(), 504),
    "timeout in a stream": End(stalled, hidden(RESERVED_STREAM), 200, complete=False, stream=True),
    "truncated": End(then(PROMISED), hidden(), 200, complete=False),
    "truncated by a reset": End(then(PROMISED, reset=True), hidden(), 200, complete=False),
    "stream torn": End(then(SSE, chunk(WORD)), hidden(RESERVED_STREAM), 200, complete=False, stream=True),
    "stream reset": End(then(SSE, chunk(WORD), reset=True), hidden(RESERVED_STREAM), 200, complete=False, stream=True),
    # What it said is less than the reservation, and may not be all.
    "stream torn behind its usage": End(
        then(SSE, chunk(WORD), chunk(LAST)), hidden(RESERVED_STREAM), 200, complete=False, stream=True
    ),
    "malformed chunk": End(
        says(SSE, chunk(WORD), b"zz\r\n"), hidden(RESERVED_STREAM), 200, complete=False, stream=True
    ),
}


@pytest.mark.parametrize("name", ENDS)
async def test_promise_3_hazards_23_24_42_each_way_out_ends_the_reservation_once(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    end = ENDS[name]
    async with governed(tmp_path, POLICY, end.script) as line:
        got = await line.post(end.path, STREAM if end.stream else CHAT)
        action = await line.ended()
        assert how(action) == end.ends
        assert (got.status, got.complete) == (end.status, end.complete)
        assert line.standing().spent == action.cost
        assert action.upstream_status == (None if got.status in (502, 504) else got.status)
        assert line.drains.open == 0
        assert line.app.sidecar.metrics.unconfirmed == action.unconfirmed
        assert line.app.sidecar.metrics.open_streams == 0
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("name", ["connection refused", "read timeout", "malformed header"])
async def test_a_failure_of_the_wire_is_told_in_the_upstreams_dialect_and_may_be_retried(
    tmp_path: Path, name: str
) -> None:
    end = ENDS[name]
    async with governed(tmp_path, POLICY, end.script) as line:
        got = await line.post(end.path, STREAM if end.stream else CHAT)
        assert got.json()["error"].keys() >= {"message", "type", "code"}
        assert got.json()["error"]["code"].startswith("upstream_")
        assert got.json()["error"]["actionId"] == (await line.ended()).id
        assert got.header("x-should-retry") is None


LAST_BYTES = {
    "of a length": says(told()),
    "of chunks": says(SSE, chunk(WORD), chunk(LAST), END),
    "of nothing": says(answer(b"", "200 OK", JSON)),
}


@pytest.mark.parametrize("name", LAST_BYTES)
async def test_promise_4_a_charge_is_recorded_before_the_client_has_its_last_byte(tmp_path: Path, name: str) -> None:
    """Or a crash between the two would charge as unconfirmed what was answered."""
    settling, go = asyncio.Event(), asyncio.Event()
    async with governed(tmp_path, POLICY, LAST_BYTES[name]) as line:
        settle = line.witness.settle

        async def held(*settlement: Any) -> Any:
            settling.set()
            await go.wait()
            return await settle(*settlement)

        line.witness.settle = held  # type: ignore[method-assign]
        call = asyncio.create_task(line.post(PATH, STREAM))
        await settling.wait()
        await line.api("GET", "/healthz")
        assert not call.done()
        go.set()
        assert (await call).complete


@pytest.mark.parametrize("path", [PATH, "/up/flat/x"])
async def test_promise_3_a_forced_shutdown_charges_what_is_in_flight(tmp_path: Path, path: str) -> None:
    async with governed(tmp_path, POLICY.replace("timeout: 1s", "timeout: 60s"), silence) as line:
        call = asyncio.create_task(line.post(path, CHAT))
        while not line.upstream.seen:
            await asyncio.sleep(0.005)
    got = await call
    assert (got.status, got.json()["error"]["code"]) == (503, "shutting_down")
    action = await line.ended()
    assert how(action) == hidden(10_000_000 if "flat" in path else RESERVED)


async def test_promise_3_a_settlement_that_can_t_be_recorded_is_left_to_the_next_start(
    tmp_path: Path, full_disk: FullDisk
) -> None:
    """Hazard 37: the journal closed under the call. It is found open by the next start, and charged unconfirmed."""

    async def fill(seen: Seen, line: Line) -> None:
        full_disk.begin()
        await line.say(told())

    async with governed(tmp_path, POLICY, fill, left_open=1) as line:
        got = await line.post(PATH, CHAT)
        assert (got.status, got.complete) == (200, True)
        full_disk.end()
        [action_id] = line.witness.admitted
    async with governed(tmp_path, POLICY, says()) as line:
        [action] = await line.actions()
        assert (action.id, action.ending, action.cost, action.unconfirmed) == (action_id, "expired", RESERVED, True)
