"""Promise 2: a denied call sends no byte upstream. Each row of the decision table, in each dialect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from policy.decide import STATUS, TRANSIENT, Reason
from proxy.ledger.port import Call, Settlement
from tests.proxy.line.governed import FullDisk, Governed, governed
from tests.proxy.rawhttp import Answer
from tests.proxy.upstreams import answer, says

POLICY = """
version: 1
upstreams:
  openai: {url: "URL", meter: openai}
  anthropic: {url: "URL", meter: anthropic}
  gemini: {url: "URL", meter: gemini}
  bedrock: {url: "URL", meter: bedrock}
  cohere: {url: "URL", meter: cohere}
  mistral: {url: "URL", meter: mistral}
  tools: {url: "URL", meter: mcp}
  plain: {url: "URL"}
agents:
  - {id: worker, monthly_budget: 10}
  - {id: keyed, monthly_budget: 10, key: alk_keyed}
  - {id: capped, monthly_budget: 10, per_action_limit: 0.009}
  - {id: broke, monthly_budget: 0.009}
  - {id: member, owner_id: team, monthly_budget: 10}
  - {id: tight, monthly_budget: 0.015}
  - {id: rated, monthly_budget: 10}
  - {id: single, monthly_budget: 10}
prices:
  - {name: listed, match: {path: "/catalog/**"}, rates: catalog}
  - {name: cent, match: {path: "/v1/**"}, rates: {request: 0.01}}
budgets:
  - {name: team-day, match: {owner_id: team}, amount: 0.009, period: day}
limits:
  - {name: once, match: {agent: rated}, requests: 1, period: year}
  - {name: alone, match: {agent: single}, concurrent: 1}
"""
CHAT = {"model": "no-such-model", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
TOOL = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "search"}}
BODIES: dict[str, Any] = dict.fromkeys(("openai", "anthropic", "bedrock", "cohere", "mistral"), CHAT)
BODIES |= {"gemini": {"contents": []}, "tools": TOOL, "plain": {}}
UPSTREAMS = sorted(BODIES)


def hold(agent: str) -> Callable[[Governed], Awaitable[None]]:
    """A call of the agent's in flight, which never was at the upstream."""

    async def setup(line: Governed) -> None:
        await line.ledger.authorize(Call(agent, "api_call", "plain:x", "plain", "cent", 10_000_000))

    return setup


async def pause(line: Governed) -> None:
    await line.ledger.change_agent("worker", {"status": "paused"})


async def nothing(line: Governed) -> None:
    pass


@dataclass(frozen=True)
class Case:
    reason: Reason
    headers: tuple[bytes, ...] = (b"X-Agent-Id: worker",)
    path: str = "/v1/x"
    setup: Callable[[Governed], Awaitable[None]] = nothing
    retry_after: str | None = None
    details: tuple[str, ...] = ("actionId",)

    @classmethod
    def of(cls, reason: Reason, agent: str, **more: Any) -> Case:
        return cls(reason, (f"X-Agent-Id: {agent}".encode(),), **more)


CASES = {
    "nobody": Case("unauthenticated", (b"X-Other: 1",), details=()),
    "wrong key": Case("unauthenticated", (b"X-Ledger-Key: alk_wrong",), details=()),
    "id without its key": Case.of("unauthenticated", "keyed", details=()),
    "unknown agent": Case.of("agent_not_found", "ghost", details=()),
    "paused": Case("agent_paused", setup=pause),
    "no rule": Case("unpriced", path="/elsewhere"),
    "unknown model": Case("unpriced", path="/catalog/v1/anything"),
    "per action": Case.of("per_action_limit_exceeded", "capped"),
    "month": Case.of("budget_exceeded", "broke", details=("actionId", "budget", "resetsAt")),
    "another budget": Case.of("budget_exceeded", "member", details=("actionId", "budget", "resetsAt")),
    "reserved": Case.of(
        "budget_reserved", "tight", setup=hold("tight"), retry_after="1", details=("actionId", "budget")
    ),
    "rate": Case.of("rate_limited", "rated", setup=hold("rated"), retry_after="60", details=("actionId", "limit")),
    "concurrent": Case.of(
        "rate_limited", "single", setup=hold("single"), retry_after="1", details=("actionId", "limit")
    ),
}
READ_BEFORE = {"unauthenticated", "agent_not_found"}
EXCEPTIONS = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    429: "ThrottlingException",
}


def error_of(upstream: str, got: Answer, case: Case) -> dict[str, Any]:
    """What the dialect's error says, after its form was held against the dialect."""
    body = got.json()
    at_top = upstream in ("bedrock", "cohere", "mistral")
    error: dict[str, Any] = body if at_top else body["error"]
    assert error["message"].startswith("Agent Ledger: ")
    if upstream == "openai":
        assert error.keys() >= {"message", "type", "param", "code"}
        assert error["code"] == case.reason
        return error
    if upstream == "bedrock":
        assert got.header("x-amzn-errortype") == EXCEPTIONS[STATUS[case.reason]]
    if upstream == "mistral":
        assert body["object"] == "error"
    if upstream == "anthropic":
        assert body["type"] == "error"
        assert error["type"].endswith("_error")
        assert error["code"] == case.reason
        return error
    if upstream == "gemini":
        assert error["code"] == STATUS[case.reason]
        assert error["status"] in {"UNAUTHENTICATED", "NOT_FOUND", "PERMISSION_DENIED", "INVALID_ARGUMENT"} or (
            error["status"] == "RESOURCE_EXHAUSTED" and case.reason in TRANSIENT
        )
        [info] = error["details"]
        assert info["reason"] == case.reason.upper()
        return dict(info["metadata"])
    if upstream == "tools" and case.reason not in READ_BEFORE:
        assert (body["jsonrpc"], body["id"], error["code"]) == ("2.0", 7, -32003)
        assert error["data"]["reason"] == case.reason
        return dict(error["data"])
    assert error["code"] == case.reason
    return error


@pytest.mark.parametrize("upstream", UPSTREAMS)
@pytest.mark.parametrize("name", CASES)
async def test_promise_2_a_denied_call_sends_no_byte_upstream(tmp_path: Path, name: str, upstream: str) -> None:
    case = CASES[name]
    async with governed(tmp_path, POLICY, says(answer())) as line:
        await case.setup(line)
        got = await line.post(f"/{upstream}{case.path}", BODIES[upstream], *case.headers)
        # Who calls is settled before a stranger's body is read: there is no id to echo, and MCP too has its 401.
        in_json_rpc = upstream == "tools" and case.reason not in READ_BEFORE
        assert got.status == (200 if in_json_rpc else STATUS[case.reason])
        assert got.header("retry-after") == case.retry_after
        assert got.header("x-should-retry") == (None if case.reason in TRANSIENT else "false")
        assert error_of(upstream, got, case).keys() >= set(case.details)
        denied = [action for action in await line.actions() if action.outcome == "denied"]
        assert [(action.reason, action.cost) for action in denied] == (
            [] if case.reason in READ_BEFORE else [(case.reason, 0)]
        )
        assert line.app.sidecar.metrics.denials[case.reason] == 1
        for held in line.ledger.reservations():
            await line.ledger.void(held.action_id, Settlement(None, "failure"))
    assert line.upstream.lines == []


# -- MCP: what an older client would throw away with its status --------------------------------------------------------


async def mcp(line: Governed, body: Any) -> Answer:
    return await line.post("/tools/v1/mcp", body, b"X-Agent-Id: capped")


@pytest.mark.parametrize("request_id", ["abc", 0, None])
async def test_an_mcp_denial_echoes_the_id(tmp_path: Path, request_id: Any) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        got = await mcp(line, TOOL | {"id": request_id})
        assert (got.status, got.json()["id"]) == (200, request_id)
    assert line.upstream.lines == []


async def test_an_mcp_batch_is_denied_request_by_request(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        got = await mcp(line, [TOOL, note, TOOL | {"id": "b"}])
        assert got.status == 200
        assert [(each["id"], each["error"]["data"]["reason"]) for each in got.json()] == [
            (7, "per_action_limit_exceeded"),
            ("b", "per_action_limit_exceeded"),
        ]
    assert line.upstream.lines == []


@pytest.mark.parametrize("several", [False, True])
async def test_a_denied_mcp_notification_is_202_and_goes_nowhere(tmp_path: Path, several: bool) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
        got = await mcp(line, [note, note] if several else note)
        assert (got.status, got.body) == (202, b"")
        [denied] = await line.actions()
        assert denied.reason == "per_action_limit_exceeded"
    assert line.upstream.lines == []


async def test_a_batch_is_refused_where_a_field_of_the_body_prices(tmp_path: Path) -> None:
    """As a batch, any call would pass for what the field's rule does not match."""
    policy = POLICY.replace('{path: "/v1/**"}', "{body: {method: tools/call}}")
    async with governed(tmp_path, policy, says(answer())) as line:
        got = await line.post("/tools/mcp", [TOOL])
        assert [each["error"]["data"]["reason"] for each in got.json()] == ["batch_refused"]
        assert (await line.post("/plain/x", [TOOL])).status == 400
    assert line.upstream.lines == []


async def test_an_mcp_stream_that_is_opened_by_get_is_denied_by_its_status(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        got = await line.get("/tools/elsewhere")
        assert (got.status, got.json()["error"]["code"]) == (403, "unpriced")
    assert line.upstream.lines == []


# -- promise 8 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upstream", UPSTREAMS)
async def test_promise_8_where_the_ledger_can_t_record_nothing_is_forwarded(
    tmp_path: Path, upstream: str, full_disk: FullDisk
) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        full_disk.begin()
        got = await line.post(f"/{upstream}/v1/x", BODIES[upstream])
        full_disk.end()
        # The disk has room again, but what it holds of that line is not known: the journal stays closed.
        again = await line.post(f"/{upstream}/v1/x", BODIES[upstream])
        for each in (got, again):
            assert each.status == (200 if upstream == "tools" else 503)
            assert each.header("retry-after") == "5"
            assert each.header("x-should-retry") is None
            assert b"can't record" in each.body
        assert b"ledger_unavailable" in got.body or upstream in ("gemini",)
        assert line.ledger.reservations() == []
        assert (await line.api("GET", "/readyz")).status_code == 503
        assert line.app.sidecar.metrics.denials["ledger_unavailable"] == 2
    assert line.upstream.lines == []


async def test_promise_8_the_free_passes_as_little_as_the_dear(tmp_path: Path, full_disk: FullDisk) -> None:
    policy = POLICY.replace("{request: 0.01}", "{request: 0}")
    async with governed(tmp_path, policy, says(answer())) as line:
        full_disk.begin()
        assert (await line.post("/plain/v1/x", {})).status == 503
        full_disk.end()
    assert line.upstream.lines == []


async def test_a_path_of_no_upstream_is_nobody_s(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        assert (await line.post("/nowhere/v1/x", {})).status == 404
        assert (await line.post("/Plain/v1/x", {})).status == 404
    assert line.upstream.lines == []


async def test_a_browser_can_t_open_what_an_upstream_answers_as_a_page_of_ours(tmp_path: Path) -> None:
    async with governed(tmp_path, POLICY, says(answer())) as line:
        got = await line.get("/plain/v1/x", b"X-Agent-Id: worker", b"Sec-Fetch-Dest: document")
        assert (got.status, got.json()["error"]["code"]) == (403, "browser_navigation")
        assert (await line.get("/plain/v1/x", b"X-Agent-Id: worker", b"Sec-Fetch-Dest: empty")).status == 200
