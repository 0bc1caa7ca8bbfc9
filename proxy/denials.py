"""What a refused caller is told: one sentence and its details, in the upstream's own dialect so that its SDK raises its
own typed error with our message. Shapes: OpenAI, Anthropic, Gemini (google.rpc.Status), Bedrock (AWS's REST JSON),
Cohere, Mistral, MCP (JSON-RPC), or ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from policy.decide import STATUS, TRANSIENT, Verdict
from policy.money import format_usd
from proxy.jsontext import dumps
from proxy.ledger.port import Agent

Dialect = Literal["openai", "anthropic", "gemini", "bedrock", "cohere", "mistral", "mcp", "plain"]

MCP_DENIED = -32003

_PASSING = TRANSIENT | {"overloaded", "shutting_down"}

_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
_TYPES |= {413: "request_too_large", 429: "rate_limit_error"}
_GOOGLE = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
_GOOGLE |= {413: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}
# boto3 raises the exception of this name: https://docs.aws.amazon.com/bedrock/latest/APIReference/CommonErrors.html
_AWS = {400: "ValidationException", 401: "UnrecognizedClientException", 403: "AccessDeniedException"}
_AWS |= {404: "ResourceNotFoundException", 413: "ValidationException", 429: "ThrottlingException"}
_AWS |= {503: "ServiceUnavailableException"}


class Refused(Exception):
    """A call that ends here. ``code`` is a reason of the decision table, or names what was wrong with the request."""

    def __init__(self, status: int, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s: int | None = details.pop("retry_after_s", None)
        self.request: Any = details.pop("request", None)  # the parsed body, where it was read before this was found
        self.details = {name: value for name, value in details.items() if value is not None}

    @property
    def retryable(self) -> bool:
        """SDKs retry 408, 409, 429 and 5xx by themselves: only what may pass in a moment may be retried."""
        return self.code in _PASSING or self.code.startswith("upstream_")


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


def iso(at_ms: int) -> str:
    """Unix ms as ISO 8601, UTC, with milliseconds: ``2026-11-22T19:18:54.000Z``."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def refused(
    verdict: Verdict,
    agent: Agent | None,
    estimate: int | None,
    action_id: str | None = None,
    unmetered: str | None = None,
) -> Refused:
    """The refusal that a denial of the ledger's is told as. ``unmetered`` is the work that no answer tells
    the usage of, where that is why it has no price."""
    return Refused(
        STATUS[verdict.reason],
        verdict.reason,
        sentence(verdict, agent, estimate, unmetered),
        budget=verdict.budget if verdict.reason.startswith("budget") else None,
        limit=verdict.budget if verdict.reason == "rate_limited" else None,
        resetsAt=None if verdict.resets_at_ms is None else iso(verdict.resets_at_ms),
        actionId=action_id,
        retry_after_s=verdict.retry_after_s if verdict.reason in TRANSIENT else None,
    )


def sentence(verdict: Verdict, agent: Agent | None, estimate: int | None, unmetered: str | None = None) -> str:
    """Why, for the agent's developer; amounts in USD, and what would help."""
    who = f"agent {agent.id}" if agent else "this agent"
    cost = f"this call may cost up to {format_usd(estimate or 0)}"
    why = f" ({agent.paused_reason})" if agent and agent.paused_reason else ""
    left = format_usd(verdict.available or 0)
    until = f" It resets at {iso(verdict.resets_at_ms)}." if verdict.resets_at_ms is not None else ""
    texts = {
        "agent_paused": f"{who} is paused{why}; an operator can resume it.",
        "unpriced": f"{unmetered} is billed after its answer, which can't tell its cost; an operator can add a price "
        "per request."
        if unmetered
        else "no price of the policy covers this call, or its model is not in the price catalog; an operator can add a "
        "price.",
        "per_action_limit_exceeded": f"{cost}, more than the per-action limit of {left} of {who}.",
        "budget_exceeded": f"{cost}, and budget {verdict.budget} has {left} available.{until}",
        "budget_reserved": f"{cost}, and budget {verdict.budget} has {left} available until calls in flight end; "
        "try again in a moment.",
        "rate_limited": f"{who} is over limit {verdict.budget}; try again in {verdict.retry_after_s} s.",
    }
    return "Agent Ledger: " + texts[verdict.reason]


def dialect_of(wire: str | None) -> Dialect:
    """The dialect of what speaks that wire format."""
    return _DIALECTS.get(wire, "plain")


def reply(dialect: Dialect, refusal: Refused, request: Any = None) -> Reply:
    """The refusal as an answer. ``request`` is the parsed request body: MCP echoes its id."""
    headers = [(b"content-type", b"application/json")]
    if not refusal.retryable:
        headers.append((b"x-should-retry", b"false"))
    elif refusal.retry_after_s is not None:
        headers.append((b"retry-after", str(refusal.retry_after_s).encode()))
    if dialect == "mcp" and (answer := _mcp(refusal, request)) is not None:
        return Reply(answer[0], headers, answer[1])
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if dialect == "bedrock":
        headers.append((b"x-amzn-errortype", _AWS.get(refusal.status, "InternalServerException").encode()))
    return Reply(refusal.status, headers, dumps(_BODIES[dialect](refusal)).encode())


def _openai(refusal: Refused) -> Mapping[str, Any]:
    kind = _TYPES.get(refusal.status, "api_error")
    error = {"message": refusal.message, "type": kind, "param": None, "code": refusal.code}
    return {"error": error | refusal.details}


def _anthropic(refusal: Refused) -> Mapping[str, Any]:
    error = {"type": _TYPES.get(refusal.status, "api_error"), "message": refusal.message, "code": refusal.code}
    return {"type": "error", "error": error | refusal.details}


def _gemini(refusal: Refused) -> Mapping[str, Any]:
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": refusal.code.upper(),
        "domain": "agent-ledger",
        "metadata": {name: str(value) for name, value in refusal.details.items()},
    }
    status = _GOOGLE.get(refusal.status, "INTERNAL")
    return {"error": {"code": refusal.status, "message": refusal.message, "status": status, "details": [info]}}


def _top_level(refusal: Refused) -> Mapping[str, Any]:
    """Bedrock's and Cohere's: boto3 shows an empty reason for a message that stands anywhere else."""
    return {"message": refusal.message, "code": refusal.code} | refusal.details


def _mistral(refusal: Refused) -> Mapping[str, Any]:
    kind = _TYPES.get(refusal.status, "api_error")
    error = {"object": "error", "message": refusal.message, "type": kind, "param": None, "code": refusal.code}
    return error | refusal.details


def _plain(refusal: Refused) -> Mapping[str, Any]:
    return {"error": {"code": refusal.code, "message": refusal.message} | refusal.details}


_BODIES: Final[Mapping[Dialect, Callable[[Refused], Mapping[str, Any]]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "bedrock": _top_level,
    "cohere": _top_level,
    "mistral": _mistral,
    "mcp": _plain,
    "plain": _plain,
}
_DIALECTS: Final[Mapping[str | None, Dialect]] = {
    **{dialect: dialect for dialect in _BODIES},
    **dict.fromkeys(("groq", "deepseek", "openrouter"), "openai"),
}


def _mcp(refusal: Refused, request: Any) -> tuple[int, bytes] | None:
    """(status, body) of a JSON-RPC request, batch or notification; None for anything else."""
    messages = request if isinstance(request, list) else [request]
    if not all(isinstance(message, dict) and "method" in message for message in messages) or not messages:
        return None
    data = {"reason": refusal.code} | refusal.details
    if refusal.retry_after_s is not None:
        data["retryAfter"] = refusal.retry_after_s
    error = {"code": MCP_DENIED, "message": refusal.message, "data": data}
    answers = [{"jsonrpc": "2.0", "id": m["id"], "error": error} for m in messages if "id" in m]
    if not answers:
        return 202, b""
    return 200, json.dumps(answers if isinstance(request, list) else answers[0]).encode()
