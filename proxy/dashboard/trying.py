"""The try-it form: a call as an agent would make it, and how it would be priced and decided. Nothing of it is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlencode

from policy.model import Policy, Upstream
from policy.names import line_problem, text_problem
from policy.parse.upstreams import DEMO
from proxy.dashboard.arithmetic import Arithmetic, arithmetic
from proxy.denials import Refused
from proxy.explanation import sum_of
from proxy.ledger.port import AgentUnknown
from proxy.state import Sidecar
from proxy.whatif import WhatIf, asked, what_if

FORM_MAX_BYTES = 1024 * 1024
AGENTS_OFFERED = 200
MISSES_SHOWN = 40
METHODS = ("POST", "GET", "PUT", "PATCH", "DELETE")

_PATH_MAX = 8192
_EXAMPLES_SHOWN = 4
_HELLO = [{"role": "user", "content": "Say hello."}]
_SEARCH = {"name": "web_search", "arguments": {"query": "the weather in Lisbon"}}
# A call to each meter's API: what it is, its path, its body.
_CALLS = {
    "openai": ("chat", "/v1/chat/completions", {"model": "gpt-4o-mini", "max_tokens": 500, "messages": _HELLO}),
    "anthropic": ("message", "/v1/messages", {"model": "claude-sonnet-4-5", "max_tokens": 500, "messages": _HELLO}),
    "gemini": (
        "answer",
        "/v1beta/models/gemini-2.5-flash:generateContent",
        {"contents": [{"parts": [{"text": "Say hello."}]}], "generationConfig": {"maxOutputTokens": 500}},
    ),
    "mistral": (
        "chat",
        "/v1/chat/completions",
        {"model": "mistral-small-latest", "max_tokens": 500, "messages": _HELLO},
    ),
    "mcp": ("tool call", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": _SEARCH}),
}


@dataclass(frozen=True, slots=True)
class Typed:
    """What stands in the form's fields."""

    upstream: str = ""
    method: str = "POST"
    path: str = ""
    agent: str = ""
    body: str = ""

    @property
    def query(self) -> str:
        """The part of the page's url after its ?, for the form so filled."""
        fields = {"upstream": self.upstream, "method": self.method, "path": self.path, "body": self.body}
        return urlencode({name: value for name, value in fields.items() if value})


class Tried(NamedTuple):
    """``matched`` is the first price that matches, even where it knows no rates for the call, and ``below`` how many
    stand after it; ``sum`` None: nothing could be estimated; ``message`` is what the agent would be told.
    """

    told: WhatIf
    matched: str | None
    below: int
    sum: Arithmetic | None
    message: str | None


class Example(NamedTuple):
    name: str
    query: str


def typed(fields: Mapping[str, str]) -> Typed:
    """As a form, or a url's query, has it."""
    return Typed(
        upstream=fields.get("upstream", ""),
        method=fields.get("method", "POST"),
        path=fields.get("path", "").strip(),
        agent=fields.get("agent", "").strip(),
        # Browsers send a text's line breaks as CRLF; what was pasted had none of the CR, and each is a byte to price.
        body=fields.get("body", "").replace("\r\n", "\n"),
    )


async def tried(sidecar: Sidecar, form: Typed) -> tuple[Tried | None, Mapping[str, str]]:
    """How the call would be priced and decided; or what is wrong with it, by the field that each is told at."""
    rules = sidecar.policy_file.rules
    if problems := _problems(form, rules.policy):
        return None, problems
    path = form.path.partition("?")[0]  # prices match without the query
    request = asked(rules, form.upstream, form.method, path, form.body if form.body.strip() else None)
    try:
        told = await what_if(sidecar, rules, request, form.agent or None)
    except Refused as refusal:
        return None, {"body": _plain(refusal.message)}
    except AgentUnknown:
        return None, {"agent": "No agent has this id."}
    quoted, prices, place = told.quoted, rules.policy.prices, len(told.missed)
    return Tried(
        told=told,
        matched=prices[place].name if place < len(prices) else None,
        below=max(0, len(prices) - place - 1),
        sum=None if quoted.estimate is None else arithmetic(sum_of(quoted.rates, quoted.usage)),
        message=_plain(told.decision.message) if told.decision and told.decision.message else None,
    ), {}


def examples(policy: Policy) -> Sequence[Example]:
    """Calls to the policy's own upstreams, for who has none at hand."""
    found: list[Example] = []
    for upstream in policy.upstreams.values():
        if (call := _CALLS.get(_speaks(upstream))) and len(found) < _EXAMPLES_SHOWN:
            name, path, body = call
            text = json.dumps(body, indent=2)
            found.append(Example(f"a {name} of {upstream.name}", Typed(upstream.name, path=path, body=text).query))
    return found


def _speaks(upstream: Upstream) -> str:
    return "openai" if upstream.url == DEMO else upstream.meter or ""


def _problems(form: Typed, policy: Policy) -> dict[str, str]:
    found = {}
    if form.upstream not in policy.upstreams:
        found["upstream"] = "Choose one of the policy's upstreams."
    if form.method not in METHODS:
        found["method"] = f"Choose one of {', '.join(METHODS)}."
    if not form.path.startswith("/"):
        found["path"] = "A path begins with /, as /v1/chat/completions."
    elif problem := text_problem(form.path, _PATH_MAX):
        found["path"] = f"The path {problem}."
    if form.agent and (problem := line_problem(form.agent)):
        found["agent"] = f"The id {problem}."
    if form.body and (problem := text_problem(form.body, FORM_MAX_BYTES)):
        found["body"] = f"The body {problem}."
    return found


def _plain(message: str) -> str:
    """A refusal's words without the name they begin with."""
    text = message.removeprefix("Agent Ledger: ")
    return text[:1].upper() + text[1:]
