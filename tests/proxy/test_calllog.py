from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from proxy import calllog
from proxy.calllog import CallLog
from proxy.denials import Refused
from proxy.ledger.port import Action
from proxy.receive import request_id, trace_id
from proxy.settings import Style

ACTION = Action(
    id="act_1", agent_id="bot", action_type="api_call", target="openai:gpt-4o", cost=2_500_000, outcome="success",
    created_at=0, upstream_status=200, duration_ms=1234,
)  # fmt: skip


@dataclass
class Written:
    """What a log wrote; it blocks while ``open`` is not set."""

    text: bytes = b""
    open: threading.Event = field(default_factory=threading.Event)
    fails: bool = False

    def __call__(self, lines: bytes) -> None:
        self.open.wait()
        if self.fails:
            raise BrokenPipeError
        self.text += lines


async def written(tell: Callable[[CallLog], Any], style: Style = "json") -> list[str]:
    out = Written()
    out.open.set()
    log = CallLog(style, out)
    tell(log)
    await log.close()
    return out.text.decode().splitlines()


async def test_a_call_is_one_line_of_json_with_what_an_operator_asks_for(monkeypatch):
    monkeypatch.setattr(calllog, "time", lambda: 1_760_000_000.0625)
    [line] = await written(lambda log: log.ended(ACTION, "req-7", "4bf92f3577b34da6a3ce929d0e0e4736"))
    assert json.loads(line) == {
        "time": "2025-10-09T08:53:20.062Z",
        "level": "INFO",
        "event": "call",
        "agent": "bot",
        "target": "openai:gpt-4o",
        "outcome": "success",
        "status": 200,
        "costUsd": "0.0025",
        "durationMs": 1234,
        "actionId": "act_1",
        "requestId": "req-7",
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
    }


async def test_a_refusal_is_one_too_with_its_reason():
    refusal = Refused(403, "budget_exceeded", "a sentence", actionId="act_2")
    [line] = await written(lambda log: log.refused(refusal, "bot", "openai:gpt-4o", None, None))
    told = json.loads(line)
    assert told.pop("time")
    assert told == {
        "level": "INFO",
        "event": "refused",
        "agent": "bot",
        "target": "openai:gpt-4o",
        "status": 403,
        "reason": "budget_exceeded",
        "actionId": "act_2",
    }


async def test_at_a_terminal_it_reads_as_words():
    def tell(log: CallLog) -> None:
        log.ended(ACTION, None, None)
        log.refused(Refused(401, "unauthenticated", "who?"), None, None, None, None)

    call, refusal = await written(tell, "text")
    assert call.split(" ", 1)[1] == "bot openai:gpt-4o success $0.0025 200 1234 ms act_1"
    assert refusal.split(" ", 1)[1] == "- - refused unauthenticated 401"


async def test_the_seconds_go_on(monkeypatch):
    now = [1_760_000_000.999]
    monkeypatch.setattr(calllog, "time", lambda: now[0])

    def tell(log: CallLog) -> None:
        log.ended(ACTION, None, None)
        now[0] += 0.001
        log.ended(ACTION, None, None)

    first, second = await written(tell)
    assert (json.loads(first)["time"], json.loads(second)["time"]) == (
        "2025-10-09T08:53:20.999Z",
        "2025-10-09T08:53:21.000Z",
    )


def test_a_requests_id_is_short_and_prints():
    assert request_id({b"x-request-id": b"req \x9b\xc3" + b"x" * 200}) == "req \\x9b\\xc3" + "x" * 122
    assert request_id({}) is None


TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("given", "trace"),
    [
        (b"00-%b-00f067aa0ba902b7-01" % TRACE, TRACE.decode()),
        (b"cc-%b-00f067aa0ba902b7-00" % TRACE, TRACE.decode()),
        (b"ff-%b-00f067aa0ba902b7-01" % TRACE, None),
        (b"00-%b-0000000000000000-01" % TRACE, None),
        (b"00-00000000000000000000000000000000-00f067aa0ba902b7-01", None),
        (b"00-%b-00f067aa0ba902b7-01" % TRACE.upper(), None),
        (b"00-%b-00f067aa0ba902b7-01-more" % TRACE, None),
        (b"00-%b-00f067aa0ba902b7-01\n" % TRACE, None),
        (b"secret", None),
    ],
)
def test_a_requests_trace_is_one_or_none(given, trace):
    assert trace_id({b"traceparent": given}) == trace
    assert trace_id({}) is None


async def test_a_log_that_nobody_reads_holds_up_no_call_and_what_finds_no_room_is_counted(monkeypatch):
    monkeypatch.setattr(calllog, "_GATHER_S", 0.0)
    monkeypatch.setattr(calllog, "_WAITING_MAX", 3)
    monkeypatch.setattr(calllog, "_CLOSE_S", 0.01)
    out = Written()
    log = CallLog("json", out)
    log.ended(ACTION, None, None)
    while log._lines:
        await asyncio.sleep(0)  # until it is handed over, to a writer that is stuck
    for _ in range(5):
        log.ended(ACTION, None, None)
    assert log.dropped == 2
    await log.close()
    out.open.set()
    log._writer.join()
    assert out.text.count(b"\n") == 4


@pytest.mark.parametrize("again", [False, True])
async def test_lines_that_can_not_be_written_are_counted_and_the_next_are_tried(again):
    out = Written(fails=True)
    out.open.set()
    log = CallLog("json", out)
    log.ended(ACTION, None, None)
    log._hand_over()
    while log.dropped == 0:
        await asyncio.sleep(0.001)
    out.fails = False
    if again:
        log.ended(ACTION, None, None)
    await log.close()
    assert (log.dropped, out.text.count(b"\n")) == (1, int(again))
