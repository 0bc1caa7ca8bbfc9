from __future__ import annotations

import json

import pytest

from policy.decide import Verdict
from proxy.denials import Refused, dialect_of, refused, reply
from proxy.ledger.port import Agent

AGENT = Agent("researcher", "Research", "", "", 0, None, 0)
MONTH = 1_764_547_200_000  # 2025-12-01T00:00:00Z
EXCEEDED = refused(
    Verdict("budget_exceeded", budget="monthly_budget", available=1_500_000_000, resets_at_ms=MONTH),
    AGENT,
    2_000_000_000,
    "act_1",
)
WAIT = refused(Verdict("budget_reserved", budget="agent-day", available=0, retry_after_s=1), AGENT, 5)
MESSAGE = (
    "Agent Ledger: this call may cost up to $2.00, and budget monthly_budget has $1.50 available. "
    "It resets at 2025-12-01T00:00:00.000Z."
)


def body(answer):
    return json.loads(answer.body)


def test_openai_dialect():
    answer = reply("openai", EXCEEDED)
    assert answer.status == 403
    error = body(answer)["error"]
    assert error["message"] == MESSAGE
    assert error["code"] == "budget_exceeded"
    assert error["type"] == "permission_error"
    assert error["param"] is None
    assert error["resetsAt"] == "2025-12-01T00:00:00.000Z"
    assert error["actionId"] == "act_1"


def test_anthropic_dialect():
    found = body(reply("anthropic", EXCEEDED))
    assert found["type"] == "error"
    assert found["error"]["type"] == "permission_error"
    assert found["error"]["message"] == MESSAGE


def test_gemini_dialect():
    error = body(reply("gemini", EXCEEDED))["error"]
    assert (error["code"], error["message"], error["status"]) == (403, MESSAGE, "PERMISSION_DENIED")
    assert error["details"][0]["reason"] == "BUDGET_EXCEEDED"


@pytest.mark.parametrize("dialect", ["bedrock", "cohere"])
def test_bedrock_s_and_cohere_s_dialects_have_the_message_at_the_top(dialect):
    found = body(reply(dialect, EXCEEDED))
    assert found["message"] == MESSAGE
    assert (found["code"], found["actionId"], found["budget"]) == ("budget_exceeded", "act_1", "monthly_budget")


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "ValidationException"),
        (401, "UnrecognizedClientException"),
        (403, "AccessDeniedException"),
        (404, "ResourceNotFoundException"),
        (413, "ValidationException"),
        (429, "ThrottlingException"),
        (502, "InternalServerException"),
        (503, "ServiceUnavailableException"),
    ],
)
def test_bedrock_names_its_exception_in_a_header(status, name):
    assert dict(reply("bedrock", Refused(status, "x", "no")).headers)[b"x-amzn-errortype"] == name.encode()
    assert b"x-amzn-errortype" not in dict(reply("cohere", Refused(status, "x", "no")).headers)


def test_mistral_dialect():
    found = body(reply("mistral", EXCEEDED))
    assert (found["object"], found["message"], found["param"]) == ("error", MESSAGE, None)
    assert (found["type"], found["code"], found["actionId"]) == ("permission_error", "budget_exceeded", "act_1")


def test_plain_dialect():
    error = body(reply("plain", EXCEEDED))["error"]
    assert error["code"] == "budget_exceeded"
    assert error["budget"] == "monthly_budget"


def test_mcp_answers_200_with_a_json_rpc_error_that_echoes_the_id():
    answer = reply("mcp", EXCEEDED, {"jsonrpc": "2.0", "id": "7", "method": "tools/call"})
    assert answer.status == 200
    found = body(answer)
    assert found["id"] == "7"
    assert found["error"]["code"] == -32003
    assert found["error"]["data"]["reason"] == "budget_exceeded"


def test_mcp_batch_answers_each_request_and_no_notification():
    batch = [{"jsonrpc": "2.0", "id": 1, "method": "a"}, {"method": "b"}, {"id": 2, "method": "c"}]
    assert [each["id"] for each in body(reply("mcp", EXCEEDED, batch))] == [1, 2]


def test_mcp_notification_is_202_without_a_body():
    answer = reply("mcp", EXCEEDED, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert (answer.status, answer.body) == (202, b"")


@pytest.mark.parametrize("request_body", [None, [], "x", {"result": 1}, [1]])
def test_mcp_without_a_request_to_answer_is_plain(request_body):
    assert reply("mcp", EXCEEDED, request_body).status == 403


@pytest.mark.parametrize(
    ("wire", "dialect"),
    [
        ("openai", "openai"),
        ("groq", "openai"),
        ("deepseek", "openai"),
        ("openrouter", "openai"),
        ("mistral", "mistral"),
        ("anthropic", "anthropic"),
        ("gemini", "gemini"),
        ("bedrock", "bedrock"),
        ("cohere", "cohere"),
        ("mcp", "mcp"),
        (None, "plain"),
        ("elevenlabs", "plain"),
    ],
)
def test_whoever_speaks_a_wire_format_is_denied_in_its_dialect(wire, dialect):
    assert dialect_of(wire) == dialect


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini", "bedrock", "cohere", "mistral", "plain"])
def test_a_denial_is_never_retried(dialect):
    headers = dict(reply(dialect, EXCEEDED).headers)
    assert headers[b"x-should-retry"] == b"false"
    assert b"retry-after" not in headers


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini", "bedrock", "cohere", "mistral", "plain"])
def test_a_transient_denial_says_when_to_retry(dialect):
    answer = reply(dialect, WAIT)
    headers = dict(answer.headers)
    assert answer.status == 429
    assert headers[b"retry-after"] == b"1"
    assert b"x-should-retry" not in headers


def test_unauthenticated_names_its_scheme():
    assert (b"www-authenticate", b"Bearer") in reply("plain", Refused(401, "unauthenticated", "who?")).headers


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict("agent_paused"),
        Verdict("unpriced"),
        Verdict("per_action_limit_exceeded", available=5),
        Verdict("budget_exceeded", budget="day", available=0),
        Verdict("budget_reserved", budget="day", available=0, retry_after_s=1),
        Verdict("rate_limited", budget="burst", retry_after_s=30),
    ],
)
def test_every_reason_of_the_ledger_has_its_sentence(verdict):
    assert refused(verdict, AGENT, 10).message.startswith("Agent Ledger: ")
