"""What of a call's time is the sidecar's, and what the upstream's, is told apart: by clocks that the test sets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.metrics import Metrics
from tests.proxy.line.chat import CHAT, END, LAST, PATH, POLICY, SSE, STREAM, chunk, told
from tests.proxy.line.governed import Governed, governed, post, until
from tests.proxy.upstreams import Line, Seen, answer, says


class Clocks:
    """The gate's says when a request is there; the places' when a place was taken, the request sent, answered, and the
    place left; the connection's when the answer's first byte was written.
    """

    def __init__(self, line: Governed, monkeypatch: pytest.MonkeyPatch, received: Iterator[float]) -> None:
        monkeypatch.setattr("proxy.gate.monotonic", lambda: next(received))
        monkeypatch.setattr("proxy.call.monotonic", lambda: 111.5)
        places = iter([101.0, 103.0, 110.0, 999.0])
        line.app.sidecar.places.clock = lambda: next(places)


def measured(metrics: Metrics) -> tuple[list[float], list[float]]:
    """(the sums of added latency, of each upstream's), where there was one call."""
    assert sum(metrics.added_latency.counts) == 1
    assert [sum(timed.counts) for timed in metrics.upstream_latency.values()] == [1]
    return [metrics.added_latency.sum], [timed.sum for timed in metrics.upstream_latency.values()]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_sidecar_adds_is_before_it_is_sent_and_after_it_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    body, said = (STREAM, SSE + chunk(LAST) + END) if stream else (CHAT, told())
    async with governed(tmp_path, POLICY, says(said)) as line:
        Clocks(line, monkeypatch, iter([100.0]))
        await line.post(PATH, body)
        await line.ended()
        await until(lambda: line.app.sidecar.metrics.open_streams == 0)
        assert measured(line.app.sidecar.metrics) == ([(103 - 100) + (111.5 - 110)], [110 - 103])


async def test_a_client_that_sends_slowly_is_not_waited_for_on_our_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw_call = post(PATH, CHAT)
    async with governed(tmp_path, POLICY, says(told())) as line:
        Clocks(line, monkeypatch, iter([40.0, 102.5]))  # the head, and all of it
        async with line.connect() as raw:
            await raw.send(raw_call[:-1])
            await until(lambda: line.load.buffered > 0)
            await raw.send(raw_call[-1:])
            assert (await raw.answer()).status == 200
        await until(lambda: line.app.sidecar.metrics.open_streams == 0)
        assert measured(line.app.sidecar.metrics) == ([(103 - 102.5) + 1.5], [7])


async def test_calls_that_no_upstream_answered_have_no_latency(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(told())) as line:
        assert (await line.post("/up/elsewhere", CHAT)).status == 403
        assert (await line.post("/down/v1/chat/completions", CHAT)).status == 502
        metrics = line.app.sidecar.metrics
        assert (sum(metrics.added_latency.counts), metrics.upstream_latency) == (0, {})
        assert (metrics.calls["up", "denied"], metrics.calls["down", "failure"]) == (1, 1)


async def test_an_answer_that_nobody_was_there_to_get_adds_nothing(tmp_path: Path) -> None:
    async def left_before(seen: Seen, line: Line) -> None:
        await until(lambda: governed_line[0].drains.open == 1)
        await line.say(told())

    governed_line: list[Governed] = []
    async with governed(tmp_path, POLICY, left_before) as line:
        governed_line.append(line)
        async with line.connect() as raw:
            await raw.send(post(PATH, CHAT))
            await until(lambda: bool(line.witness.admitted))
            raw.reset()
        await line.ended()
        metrics = line.app.sidecar.metrics
        await until(lambda: metrics.open_streams == 0)
        assert (sum(metrics.added_latency.counts), sum(metrics.upstream_latency["up"].counts)) == (0, 1)


async def test_a_scrape_says_them_by_upstream(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer(json.dumps({}).encode()))) as line:
        for _ in range(3):
            await line.get("/up/flat/x")
        await until(lambda: line.app.sidecar.metrics.open_streams == 0)
        text = (await line.api("GET", "/metrics")).text
        assert 'agent_ledger_upstream_latency_seconds_count{upstream="up"} 3.0' in text
        assert 'agent_ledger_upstream_latency_seconds_bucket{le="600.0",upstream="up"} 3.0' in text
        assert "agent_ledger_added_latency_seconds_count 3.0" in text
