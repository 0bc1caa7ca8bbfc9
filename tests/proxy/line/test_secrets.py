"""Promise 10 and hazard 34: no credential and no word of a prompt in logs, ledger, alerts, errors or policy dumps."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from tests.proxy.line.governed import Governed, governed
from tests.proxy.upstreams import Line, Seen, answer

AGENT_KEY = "alk_planted_agent_key"
WRONG_KEY = "alk_planted_wrong_key"
SECRETS = {
    "agent key": AGENT_KEY,
    "wrong key": WRONG_KEY,
    "agent's own provider key": "sk-planted-own",
    "sidecar's provider key": "sk-planted-sidecar",
    "webhook": "planted-hook-path",
    "webhook's secret": "planted-signing-secret",
    "prompt": "planted-prompt",
    "answer": "planted-answer",
    "query": "planted-query",
    "cookie": "planted-cookie",
    "metadata": "planted-metadata",
}
POLICY = """
version: 1
upstreams:
  up: {url: "URL", meter: openai, set_headers: {authorization: "Bearer sk-planted-sidecar"}}
  open: {url: "URL", meter: openai}
  down: {url: "http://127.0.0.1:1"}
agents:
  - {id: worker, monthly_budget: 1000, key: alk_planted_agent_key}
  - {id: broke, monthly_budget: 0.000001}
prices:
  - {name: chat, match: {path: "/v1/**"}, rates: {input_mtok: 1, output_mtok: 2}}
alerts:
  thresholds: [1%]
  webhooks: [{url: "http://127.0.0.1:1/planted-hook-path", types: [overrun], secret: planted-signing-secret}]
"""
CHAT = {
    "model": "m",
    "metadata": {"x": "planted-metadata"},
    "messages": [{"role": "user", "content": "planted-prompt"}],
}
SLOTS = ["X-Ledger-Key: ", "Authorization: Bearer ", "x-api-key: ", "api-key: ", "x-goog-api-key: "]


async def echoing(seen: Seen, line: Line) -> None:
    """An upstream whose errors quote the key and the prompt that it was sent, as some do."""
    quoted = f"planted-answer {seen.header('authorization')} {seen.body.decode()}"
    if b"tear" in seen.target:
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\nX-Echo: planted-answer\r\n\r\n", quoted.encode())
        line.close()
    elif b"malformed" in seen.target:
        await line.say(b"HTTP/1.1 200 OK\r\nBad planted-answer: sk-planted-own\r\n\r\n")
    elif b"error" in seen.target:
        await line.say(answer(json.dumps({"error": quoted}).encode(), "401 Unauthorized"))
    else:
        await line.say(answer(json.dumps({"choices": quoted, "usage": {"prompt_tokens": 9_000_000}}).encode()))


async def run(line: Governed) -> list[bytes]:
    """Every way a call can go, with a secret wherever there is place; our own errors."""
    path = "/v1/chat/completions?q=planted-query"
    cookie = b"Cookie: a=planted-cookie"
    for slot in SLOTS:
        await line.post("/up" + path, CHAT, f"{slot}{AGENT_KEY}".encode(), cookie)
    own = [f"X-Ledger-Key: {AGENT_KEY}".encode(), b"Authorization: Bearer sk-planted-own"]
    await line.post(f"/up{path}&key={AGENT_KEY}", CHAT, b"X-Other: 1")
    for ending in ("error", "tear"):
        await line.post(f"/open{path}&{ending}", CHAT, *own)
    wrong = [f"{slot}{WRONG_KEY}".encode() for slot in SLOTS]
    refusals = [
        *[await line.post("/up" + path, CHAT, header, cookie) for header in wrong],
        await line.post(f"/up{path}&key={WRONG_KEY}", CHAT, b"X-Other: 1"),
        await line.post(f"/open{path}&malformed", CHAT, *own),
        await line.post("/down" + path, CHAT, *own),
        await line.post("/open/elsewhere?q=planted-query", CHAT, *own),
        await line.post("/open" + path, CHAT, b"X-Agent-Id: broke", b"Authorization: Bearer sk-planted-own"),
        await line.post("/open" + path, b'{"model": "planted-prompt" planted', *own, b"Content-Type: application/json"),
        await line.post(
            "/open" + path, b'{"planted-prompt": 1, "planted-prompt": 2}', *own, b"Content-Type: text/json"
        ),
        await line.post("/open/planted-query/%2e%2e", CHAT, *own),
        await line.post("/open" + path, CHAT, *own, b"Authorization: Bearer sk-planted-own"),
    ]
    assert all(refusal.status >= 400 for refusal in refusals)
    return [refusal.body for refusal in refusals]


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """All that any library says, too."""
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, logger="agent_ledger")
    return caplog


async def test_promise_10_hazard_34_no_secret_and_no_prompt_is_kept_or_shown(
    tmp_path: Path, everything_logged: pytest.LogCaptureFixture
) -> None:
    async with governed(tmp_path, POLICY, echoing) as line:
        shown = {"refusals": b"\n".join(await run(line))}
        assert len(line.witness.admitted) >= 9
        line.write_policy(POLICY.replace("thresholds: [1%]", "thresholds: [oops]"))
        for method, path in [
            ("POST", "/api/policy/reload"),
            ("GET", "/api/policy"),
            ("GET", "/api/actions"),
            ("GET", "/api/alerts"),
            ("GET", "/api/deliveries"),
            ("POST", "/api/alerts/test"),
            ("GET", "/api/agents"),
            ("GET", "/api/agents/worker"),
            ("GET", "/api/export?format=csv"),
            ("GET", "/metrics"),
            ("GET", "/readyz"),
            ("GET", "/"),
        ]:
            shown[path] = (await line.api(method, path)).content
        assert b"connection refused" in shown["/api/alerts/test"]
        assert b"127.0.0.1:1" in shown["/api/deliveries"]
        assert {alert.type for alert in await line.alerts()} >= {"overrun", "action_failed", "budget_exceeded"}
    kept = {str(path): path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}
    assert any("journal" in name and b"worker" in text for name, text in kept.items())
    logged = {"log": everything_logged.text.encode()}
    assert b"agent_ledger" in logged["log"]
    leaks = [
        (where, what)
        for where, text in {**shown, **kept, **logged}.items()
        for what, secret in SECRETS.items()
        if secret.encode() in text
    ]
    assert leaks == []
