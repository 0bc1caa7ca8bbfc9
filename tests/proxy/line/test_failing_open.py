"""Promise 8: failing open is an explicit setting, counted and alerted; it lifts no check but the record."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from proxy.ledger.store import Store
from tests.proxy.line.governed import FullDisk, Governed, governed
from tests.proxy.upstreams import answer, says

POLICY = """
version: 1
defaults: {ledger_unavailable: allow}
upstreams:
  openai: {url: "URL", meter: openai}
agents:
  - {id: worker, monthly_budget: 10}
  - {id: capped, monthly_budget: 10, per_action_limit: 0.000001}
  - {id: broke, monthly_budget: 0.000001}
  - {id: keyed, monthly_budget: 10, key: alk_keyed}
prices:
  - {name: chat, match: {path: "/v1/chat/**"}, rates: {input_mtok: 1, output_mtok: 2}}
"""
BODY = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "the secret question"}]}
ANSWER = b'{"model":"m","choices":[],"usage":{"prompt_tokens":40,"completion_tokens":10}}'
# 40 × 1,000 + 10 × 2,000 nano-dollars
CHARGE = 60_000
JSON = b"Content-Type: application/json"


async def call(line: Governed, *headers: bytes, path: str = "/openai/v1/chat/completions"):
    return await line.post(path, BODY, *headers)


async def test_promise_8_a_policy_that_says_so_lets_calls_pass_unrecorded(
    tmp_path: Path, full_disk: FullDisk, caplog: pytest.LogCaptureFixture
) -> None:
    async with governed(tmp_path, POLICY, says(answer(ANSWER, "200 OK", JSON))) as line:
        recorded = await call(line)
        full_disk.begin()
        with caplog.at_level(logging.WARNING, "agent_ledger"):
            passed = [await call(line) for _ in range(3)]
        assert [each.status for each in passed] == [200] * 3
        assert [each.body for each in passed] == [ANSWER] * 3
        metrics = line.app.sidecar.metrics
        assert (metrics.unrecorded_calls, metrics.unrecorded_nano, metrics.spend_nano) == (3, 3 * CHARGE, CHARGE)
        # Each is in the log, with what an `adjust` needs, and nothing of what was asked.
        told = [each.getMessage() for each in caplog.records if "unrecorded" in each.getMessage()]
        ids = [each.header("x-ledger-action-id") for each in passed]
        assert len(set(ids)) == 3
        assert told == [
            f"action {each} of agent worker, openai:m, was let through unrecorded; it cost $0.00006" for each in ids
        ]
        # Said to the operator, though it can't be written, once an hour.
        alerts = (await line.api("GET", "/api/alerts")).json()
        assert [alert["type"] for alert in alerts].count("failed_open") == 1
        assert line.ledger.health().warnings[-1] == "3 calls were let through unrecorded (ledger_unavailable: allow)"
        assert (await line.api("GET", "/readyz")).status_code == 503
        # Nothing is half done: of the ledger, only the call before is there.
        assert line.ledger.reservations() == []
        held = (await line.api("GET", "/api/actions")).json()["items"]
        assert [each["id"] for each in held] == [recorded.header("x-ledger-action-id")]


@pytest.mark.parametrize(
    ("headers", "path", "status", "code"),
    [
        ((b"X-Agent-Id: capped",), "/openai/v1/chat/completions", 400, b"per_action_limit_exceeded"),
        ((b"X-Agent-Id: broke",), "/openai/v1/chat/completions", 403, b"budget_exceeded"),
        ((b"X-Agent-Id: worker",), "/openai/v1/other", 403, b"unpriced"),
        ((b"X-Agent-Id: keyed",), "/openai/v1/chat/completions", 401, b"unauthenticated"),
        ((b"X-Agent-Id: nobody",), "/openai/v1/chat/completions", 404, b"agent_not_found"),
        ((b"Authorization: Bearer alk_wrong",), "/openai/v1/chat/completions", 401, b"unauthenticated"),
    ],
)
async def test_promise_8_failing_open_lifts_no_check_but_the_record(
    tmp_path: Path, full_disk: FullDisk, headers: tuple[bytes, ...], path: str, status: int, code: bytes
) -> None:
    async with governed(tmp_path, POLICY, says(answer(ANSWER, "200 OK", JSON))) as line:
        full_disk.begin()
        got = await call(line, *headers, path=path)
        assert (got.status, code in got.body) == (status, True)
        assert line.upstream.lines == []
        assert line.app.sidecar.metrics.unrecorded_calls == 0


async def test_promise_8_a_paused_agent_stays_paused(tmp_path: Path, full_disk: FullDisk) -> None:
    async with governed(tmp_path, POLICY, says(answer(ANSWER, "200 OK", JSON))) as line:
        await line.ledger.change_agent("worker", {"status": "paused"})
        full_disk.begin()
        got = await call(line)
        assert (got.status, b"agent_paused" in got.body) == (403, True)


async def test_promise_8_a_report_that_can_t_be_recorded_is_still_refused(tmp_path: Path, full_disk: FullDisk) -> None:
    async with governed(tmp_path, POLICY, says(answer(ANSWER, "200 OK", JSON))) as line:
        full_disk.begin()
        report = {"agentId": "worker", "actionType": "api_call", "target": "x", "cost": 1, "outcome": "success"}
        got = await line.api("POST", "/api/actions", json=report)
        assert got.status_code == 503


async def test_promise_8_below_the_last_mib_of_disk_the_alert_is_still_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with governed(tmp_path, POLICY, says(answer(ANSWER, "200 OK", JSON))) as line:
        store: Store = line.ledger._store  # type: ignore[attr-defined]
        monkeypatch.setattr(store, "disk_low", "the disk has 3 MiB free")
        monkeypatch.setattr(store, "_look_at_disk", _nothing)
        assert (await call(line)).status == 200
        monkeypatch.setattr(store, "disk_low", None)
        assert (await call(line)).status == 200
        [alert] = [each for each in await line.ledger.alerts() if each.type == "failed_open"]
        assert "3 MiB free" in alert.message
        assert line.app.sidecar.metrics.unrecorded_calls == 1
        assert (await line.ledger.acknowledge(alert.id)) is not None


async def _nothing() -> None:
    pass
