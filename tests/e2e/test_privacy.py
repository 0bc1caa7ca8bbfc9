"""Promise 10, over a whole life of the real command: whatever is said to it in confidence, it tells nobody.

Every secret planted has MARK in it, and a name of its own that says where it was planted.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.proxy.line.governed import FullDisk, governed, post, until
from tests.proxy.rawhttp import Answer, Raw, ask
from tests.proxy.upstreams import Line, ScriptedUpstream, Seen, answer
from tests.sidecar import Process

MARK = b"zq7x"
ADMIN = "zq7x-admin-token"
METRICS = "zq7x-metrics-token"
AGENT_KEY = "alk_zq7x-agent-key"
ENV = {
    "AGENT_LEDGER_ADMIN_TOKEN": ADMIN,
    "AGENT_LEDGER_METRICS_TOKEN": METRICS,
    "PROVIDER_KEY": "zq7x-provider-key",
    "WORKER_KEY": AGENT_KEY,
}
POLICY = """
version: 1
upstreams:
  up:
    url: "URL"
    meter: openai
    set_headers: {authorization: "Bearer ${env:PROVIDER_KEY}", x-more: "${file:FOLDER/key}"}
  open: {url: "URL", meter: openai, timeout: 1s}
  claude: {url: "URL", meter: anthropic, set_headers: {x-api-key: "zq7x-literal-key"}}
  gemini: {url: "URL", meter: gemini}
  tools: {url: "URL", meter: mcp}
  down: {url: "http://127.0.0.1:1", meter: openai}
  tls: {url: "TLS", meter: openai}
agents:
  - {id: worker, monthly_budget: 1000, per_action_limit: 5, key: "${env:WORKER_KEY}"}
  - {id: broke, monthly_budget: 0.000001}
  - {id: tight, monthly_budget: 0.1}
  - {id: hasty, monthly_budget: 10}
prices:
  - {name: tool, match: {upstream: tools, body: {method: tools/call}}, rates: {request: 0.001}}
  - {name: upload, match: {path: /uploads}, rates: {request: 0.001}}
  - {name: chat, match: {path: "/v1**"}, rates: {input_mtok: 1, output_mtok: 2}}
limits:
  - {name: once, match: {agent: hasty}, requests: 1, period: day}
alerts:
  thresholds: [1%]
  webhooks: [{url: "https://hooks.example/zq7x-hook", types: [overrun]}]
"""
# Each is refused, at a place near a secret.
BROKEN = (
    POLICY.replace("x-more:", '"x more: zq7x-header":'),
    POLICY.replace('x-api-key: "zq7x-literal-key"', 'x-api-key: "zq7x-literal-key", x-api-key: "zq7x-again"'),
    POLICY.replace('"zq7x-literal-key"', "[zq7x-literal-key"),
    POLICY.replace('"zq7x-literal-key"', '"zq7x-literal-key\\u0001"'),
    POLICY.replace("${env:PROVIDER_KEY}", "${env:NO_SUCH_KEY} zq7x-beside"),
    POLICY.replace("${file:FOLDER/key}", "${file:FOLDER/nowhere} zq7x-beside"),
    POLICY.replace('"${env:WORKER_KEY}"', "alk_zq7x bad"),
    POLICY.replace('key: "${env:WORKER_KEY}"', 'key: "${env:PROVIDER_KEY}"'),
    POLICY.replace('url: "URL", meter: gemini', 'url: "https://zq7x-user:zq7x-password@host/?key=zq7x", meter: gemini'),
    POLICY.replace("thresholds:", "\tthresholds:"),
    "zq7x-no-mapping",
)
CHAT = {
    "model": "m",
    "user": "zq7x-user",
    "metadata": {"note": "zq7x-metadata"},
    "messages": [
        {"role": "system", "content": "zq7x-system"},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,enE3eC1pbWFnZQ=="}}],
        },
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"q": "zq7x-argument"}'}}]},
        {"role": "user", "content": [{"type": "file", "file": {"filename": "zq7x-file.pdf", "file_data": "zq7x"}}]},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "description": "zq7x-description"}}],
}
MESSAGE = {
    "model": "m",
    "max_tokens": 9,
    "system": "zq7x-system",
    "messages": [{"role": "user", "content": "zq7x-claude"}],
}
CONTENTS = {"contents": [{"parts": [{"text": "zq7x-gemini"}, {"inlineData": {"data": "enE3eC1pbmxpbmU="}}]}]}
CALL = {"jsonrpc": "2.0", "id": "zq7x-id", "method": "tools/call"}
CALL |= {"params": {"name": "search", "arguments": {"query": "zq7x-query"}}}
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="zq7x-name.mp3"\r\n\r\nzq7x-sound\r\n'
    b'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nzq7x-prompt\r\n--b--\r\n'
)
KEY = f"X-Ledger-Key: {AGENT_KEY}".encode()
OWN = (
    b"Authorization: Bearer zq7x-own-key",
    b"Cookie: zq7x-cookie=zq7x",
    b"X-Trace: zq7x-trace",
    b"Content-Type: application/json",
)
SLOTS = ("X-Ledger-Key: ", "Authorization: Bearer ", "Authorization: ", "x-api-key: ", "api-key: ", "x-goog-api-key: ")
SAID = json.dumps(
    {"id": "zq7x-id", "choices": [{"message": {"content": "zq7x-answer"}}], "usage": {"prompt_tokens": 9}}
)
STREAM = (
    b'data: {"id":"zq7x-answer","choices":[{"delta":{"content":"zq7x-streamed"}}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":7000000,"completion_tokens":9}}\n\ndata: [DONE]\n\n',
)
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Said: zq7x\r\n"


async def talkative(seen: Seen, line: Line) -> None:
    """An upstream whose answers are full of secrets; its query says how it answers."""
    how = seen.target.partition(b"how=")[2].partition(b"&")[0]
    if how == b"stream":
        await line.say(SSE + b"Connection: close\r\n\r\n", *STREAM)
        line.close()
    elif how in (b"torn", b"waits"):
        await line.say(SSE + b"Content-Length: 9000\r\n\r\n", STREAM[0])
        await (line.gone() if how == b"waits" else asyncio.sleep(0))
        line.close()
    elif how == b"silent":
        await line.gone()
    elif how == b"malformed":
        await line.say(b"HTTP/1.1 200 OK\r\nBad zq7x-header\r\n\r\n")
    elif how == b"moved":
        await line.say(answer(SAID.encode(), "302 Found", b"Location: http://h/zq7x-place", b"Set-Cookie: zq7x-set=1"))
    elif how == b"error":
        await line.say(answer(b'{"error":{"message":"zq7x-error %s"}}' % seen.body[:2000], "400 zq7x-reason"))
    else:
        await line.say(answer(SAID.encode(), "200 OK", b"Content-Type: application/json", b"Set-Cookie: zq7x-set=1"))


def call(how: str = "", upstream: str = "up", path: str = "/v1/chat/completions", more: str = "") -> str:
    return f"/{upstream}{path}?q=zq7x-query&how={how}{more}"


@dataclass
class Told:
    """What was told to anyone, by where: searched for MARK at the end."""

    shown: dict[str, bytes] = field(default_factory=dict)

    def refusal(self, what: str, got: Answer, status: int) -> None:
        assert got.status == status, (what, got)
        self.shown[f"refusal {what}"] = b"%r" % (got.headers,) + got.body

    def leaks(self) -> list[tuple[str, bytes]]:
        return [(where, text[max(0, at - 80) :][:200]) for where, text in self.shown.items() if (at := find(text)) >= 0]


def find(text: bytes) -> int:
    """Where a secret begins, as it was or in base64."""
    places = [text.find(form) for form in (MARK, base64.b64encode(MARK + b"-")[:6], MARK.hex().encode())]
    return max(places)


def keep_files(told: Told, folder: Path, stage: str) -> None:
    """Every file of the ledger's, and whatever else its process wrote."""
    for path in folder.rglob("*"):
        if path.is_file():
            told.shown[f"{stage}: {path.relative_to(folder)}"] = path.read_bytes()


async def serve_all(port: int) -> None:
    """Calls that go through, each in its way."""
    for how in ("", "stream", "torn", "moved", "error"):
        await ask(port, post(call(how), {**CHAT, "stream": how == "stream"}, KEY, *OWN))
        await ask(port, post(call(how, "open"), CHAT, KEY, *OWN))
    for slot in SLOTS:
        got = await ask(port, post(call(), CHAT, f"{slot}{AGENT_KEY}".encode()))
        assert got.status == 200, slot
    assert (await ask(port, post(call(more=f"&key={AGENT_KEY}"), CHAT, b"Accept: */*"))).status == 200
    others = [
        (call("", "claude", "/v1/messages"), MESSAGE),
        (call("", "gemini", "/v1/models/g:generateContent", "&key=zq7x-own-key"), CONTENTS),
        (call("", "tools", "/mcp"), CALL),
    ]
    for target, body in others:
        assert (await ask(port, post(target, body, KEY, *OWN))).status == 200
    form = b"Content-Type: multipart/form-data; boundary=b"
    assert (await ask(port, post(call("", "up", "/v1/audio/transcriptions"), FORM, KEY, form))).status == 200
    assert (await ask(port, post(call("", "up", "/uploads"), b"zq7x-uploaded", KEY))).status == 200


async def refuse_all(port: int, told: Told) -> None:
    """Every reason of a denial that a client can come by, and what is no call at all."""
    wrong = [f"{slot}alk_zq7x-wrong".encode() for slot in SLOTS]
    for header in (*wrong, b"X-Agent-Id: worker", b"Authorization: Basic enE3eC1iYXNpYzp4"):
        told.refusal(f"by {header!r}", await ask(port, post(call(), CHAT, header)), 401)
    told.refusal("key in query", await ask(port, post(call(more="&key=alk_zq7x-wrong"), CHAT, b"Accept: */*")), 401)
    asked = [
        ("unknown agent", 404, call(), CHAT, (b"X-Agent-Id: zq7x-nobody",)),
        ("unpriced", 403, call("", "up", "/zq7x-path"), CHAT, (KEY,)),
        ("above the limit", 400, call(), {**CHAT, "max_tokens": 9_000_000}, (KEY, *OWN)),
        ("over budget", 403, call(), CHAT, (b"X-Agent-Id: broke",)),
        ("paused", 403, call(), CHAT, (b"X-Agent-Id: broke",)),
        ("a tool", 200, call("", "tools", "/mcp"), CALL | {"id": 7}, (b"X-Agent-Id: broke",)),
        ("connect failure", 502, call("", "down"), CHAT, (KEY, *OWN)),
        ("TLS failure", 502, call("", "tls"), CHAT, (KEY, *OWN)),
        ("silence", 504, call("silent", "open"), CHAT, (KEY, *OWN)),
        ("malformed answer", 502, call("malformed", "open"), CHAT, (KEY, *OWN)),
        ("no JSON", 400, call(), b'{"zq7x-prompt": zq7x-prompt', (KEY, *OWN)),
        ("a key twice", 400, call(), b'{"zq7x-prompt": 1, "zq7x-prompt": 2}', (KEY, *OWN)),
        ("no UTF-8", 400, call(), b'{"model": "zq7x-prompt\xff"}', (KEY, *OWN)),
        ("no form", 400, call(), FORM[:-9], (KEY, b"Content-Type: multipart/form-data; boundary=b")),
        ("a deep body", 400, call(), b'{"a": "zq7x", "b":' + b"[" * 5000, (KEY, *OWN)),
        ("compressed", 415, call(), b"zq7x-gzip", (KEY, b"Content-Encoding: gzip")),
        ("no upstream", 404, "/zq7x-upstream/v1", CHAT, (KEY,)),
        ("a dot segment", 400, "/up/zq7x-path/%2e%2e", CHAT, (KEY,)),
        ("two keys", 400, call(), CHAT, (KEY, KEY)),
        ("no number", 400, call(), CHAT, (KEY, b"Content-Length: zq7x")),
        ("an upgrade", 501, call(), CHAT, (KEY, b"Upgrade: zq7x-protocol")),
    ]  # fmt: skip
    for what, status, target, body, headers in asked:
        told.refusal(what, await ask(port, post(target, body, *headers)), status)
    hasty = post(call(), CHAT, b"X-Agent-Id: hasty")
    assert (await ask(port, hasty)).status == 200
    told.refusal("rate limited", await ask(port, hasty), 429)
    head = b"POST /up/v1/zq7x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n" + KEY
    told.refusal("too large", await ask(port, head + b"\r\n\r\nzq7x-begin"), 413)
    told.refusal("a foreign Host", await ask(port, b"GET /api/agents HTTP/1.1\r\nHost: zq7x.example\r\n\r\n"), 421)
    origin = b"GET /api/agents HTTP/1.1\r\nHost: localhost\r\nOrigin: http://zq7x.example\r\n\r\n"
    told.refusal("a foreign Origin", await ask(port, origin), 403)
    token = b"GET /api/agents HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer zq7x-wrong-token\r\n\r\n"
    told.refusal("a wrong token", await ask(port, token), 401)
    form = (b"Content-Type: application/x-www-form-urlencoded", b"Origin: http://localhost")
    told.refusal("no sign-in", await ask(port, post("/ui/sign-in", b"token=zq7x-wrong-token", *form)), 401)
    told.refusal("no HTTP", await ask(port, b"zq7x-garbage\r\n\r\n"), 400)


async def leave_early(port: int, upstream: ScriptedUpstream, told: Told) -> None:
    """Clients that go before the answer, within it, and within their own upload; and what can't be had beside."""
    dear, before = {**CHAT, "max_tokens": 30_000}, len(upstream.seen)
    async with Raw.connect(port) as silent, Raw.connect(port) as waiting:
        await silent.send(post(call("silent"), dear, b"X-Agent-Id: tight", *OWN))
        await waiting.send(post(call("waits"), dear, KEY, *OWN))
        assert MARK in await waiting.reader.readuntil(b"streamed")
        await until(lambda: len(upstream.seen) == before + 2)
        told.refusal("reserved", await ask(port, post(call(), dear, b"X-Agent-Id: tight", *OWN)), 429)
    async with Raw.connect(port) as raw:
        await raw.send(post(call("", "up", "/uploads"), b"zq7x-uploaded" * 900, KEY)[:-20])


def get(port: int, path: str, token: str = ADMIN) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


async def look_everywhere(port: int, told: Told, stage: str) -> None:
    """Every page and path that shows something."""
    listed = (await ask(port, get(port, "/api/actions?limit=1000"))).json()["items"]
    assert {row["outcome"] for row in listed} == {"success", "failure", "denied"}
    paths = [
        "/api/agents",
        "/api/agents/worker",
        "/api/actions?limit=1000",
        "/api/export?format=csv",
        "/api/export",
        "/api/alerts",
    ]
    paths += [
        "/api/spend?groupBy=agent,target,price,outcome",
        "/api/reservations",
        "/api/policy",
        "/readyz",
        "/healthz",
        "/metrics",
    ]
    paths += ["/", "/openapi.json", *(f"/api/actions/{row['id']}" for row in listed)]
    for path in paths:
        got = await ask(port, get(port, path))
        assert got.status == 200, (path, got)
        told.shown[f"{stage}: GET {path}"] = b"%r" % (got.headers,) + got.body
    told.shown[f"{stage}: metrics"] = (await ask(port, get(port, "/metrics", METRICS))).body
    asked = {"upstream": "up", "method": "POST", "path": "/v1/chat/completions", "agentId": "worker", "body": CHAT}
    head = (f"Authorization: Bearer {ADMIN}".encode(), b"Content-Type: application/json")
    got = await ask(port, post("/api/explain", asked, *head))
    assert got.status == 200
    told.shown[f"{stage}: explain"] = got.body


async def reload_broken(sidecar: Process, port: int, policy: Path, texts: Iterable[str], told: Told) -> None:
    good = policy.read_text()
    head = (f"Authorization: Bearer {ADMIN}".encode(), b"Content-Type: application/json")
    for number, text in enumerate(texts):
        policy.write_text(text)
        told.refusal(f"broken policy {number}", await ask(port, post("/api/policy/reload", b"", *head)), 422)
        for path in ("/", "/readyz", "/api/policy"):
            told.shown[f"GET {path} after broken policy {number}"] = (await ask(port, get(port, path))).body
        policy.with_name(f"broken-{number}.yaml").write_text(text)
    policy.write_text(good)
    files = sorted(map(str, policy.parent.glob("*.yaml")))
    told.shown["check"] = checked = command("-c", CHECK, *files)
    assert checked.count(b"policy-error") == len(files) - 1
    before = sidecar.log.stat().st_size
    sidecar.process.send_signal(signal.SIGHUP)
    await until(lambda: b"in force" in sidecar.log.read_bytes()[before:])


CHECK = """
import sys
from proxy.cli import main
for file in sys.argv[1:]:
    print("policy-error" if main(["check", file]) else "loads")
"""


def command(*arguments: str, status: int = 0) -> bytes:
    """All that it prints."""
    done = subprocess.run([sys.executable, *arguments], env=os.environ | ENV, capture_output=True)
    assert done.returncode == status, done
    return done.stdout + done.stderr


@asynccontextmanager
async def no_tls() -> AsyncIterator[str]:
    """An upstream that answers a TLS hello with something else."""

    def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 zq7x\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_promise_10_hazard_34_nothing_said_in_confidence_is_kept_or_told(tmp_path: Path) -> None:
    told, policy, data = Told(), tmp_path / "policy.yaml", tmp_path / "data"
    (tmp_path / "key").write_text("zq7x-key-in-a-file")
    (tmp_path / "tmp").mkdir()
    env = ENV | {"TMPDIR": str(tmp_path / "tmp")}
    async with ScriptedUpstream(talkative) as upstream, no_tls() as tls:
        named = {"URL": upstream.url, "TLS": tls, "FOLDER": str(tmp_path)}
        good, *broken = (re.sub("URL|TLS|FOLDER", lambda found: named[found[0]], text) for text in (POLICY, *BROKEN))
        policy.write_text(good)
        with Process(policy, data, env=env) as sidecar:
            port = int(sidecar.url.rpartition(":")[2])
            await serve_all(port)
            await refuse_all(port, told)
            await leave_early(port, upstream, told)
            await reload_broken(sidecar, port, policy, broken, told)
            await look_everywhere(port, told, "first life")
            proc = Path(f"/proc/{sidecar.process.pid}")
            told.shown |= {"argv": (proc / "cmdline").read_bytes(), "title": (proc / "comm").read_bytes()}
            keep_files(told, data, "while it runs")
            async with Raw.connect(port) as raw:
                seen = len(upstream.seen)
                await raw.send(post(call("silent"), CHAT, KEY, *OWN))
                await until(lambda: len(upstream.seen) > seen)
                sidecar.kill()
        told.shown["first log"] = sidecar.log.read_bytes()
        keep_files(told, data, "after a crash")
        journal = next((data / "journal").glob("*.jsonl"))
        journal.write_bytes(journal.read_bytes() + b'{"v":1,"seq":')
        told.shown["verify of damage"] = command("-m", "proxy", "verify", "--data", str(data), status=1)
        with Process(policy, data, env=env) as sidecar:
            port = int(sidecar.url.rpartition(":")[2])
            await serve_all(port)
            await look_everywhere(port, told, "second life")
            action = (await ask(port, get(port, "/api/actions?limit=1"))).json()["items"][0]["id"]
            told.shown["explained"] = command("-m", "proxy", "explain", action, "--data", str(data))
            async with Raw.connect(port) as raw:
                await raw.send(post(call("waits"), {**CHAT, "stream": True}, KEY, *OWN))
                assert MARK in await raw.reader.readuntil(b"streamed")
                sidecar.process.send_signal(signal.SIGTERM)
                sidecar.wait_for_log("stopping")
                assert sidecar.stop() == 0
        assert sum(MARK in seen.body + seen.target for seen in upstream.seen) > 40
        assert any(seen.header("x-more") == "zq7x-key-in-a-file" for seen in upstream.seen)
    told.shown["verify"] = command("-m", "proxy", "verify", "--data", str(data))
    told.shown["log"] = sidecar.log.read_bytes()
    keep_files(told, data, "at the end")
    keep_files(told, tmp_path / "tmp", "temporary")
    assert {where.rpartition(".")[2] for where in told.shown} >= {"jsonl", "json", "sqlite"}
    assert b"WARNING" in told.shown["log"]
    assert told.leaks() == []


async def test_promise_10_what_fails_within_says_nothing_of_the_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    told, disk = Told(), FullDisk(monkeypatch)
    text = POLICY.replace("${env:PROVIDER_KEY}", "zq7x").replace("${file:FOLDER/key}", "zq7x")
    text = text.replace("${env:WORKER_KEY}", AGENT_KEY).replace("TLS", "http://127.0.0.1:1")

    def fails(*arguments: object, **more: object) -> None:
        raise ValueError(AGENT_KEY, arguments, more)

    async with governed(tmp_path, text, talkative) as line:
        with monkeypatch.context() as broken:
            broken.setattr("proxy.gate.quote", fails)
            told.refusal("internal error", await line.post(call(), CHAT, KEY, *OWN), 500)
        with monkeypatch.context() as broken:
            broken.setattr("proxy.exchange.reader_for", fails)
            told.refusal("internal error after authorize", await line.post(call(), CHAT, KEY, *OWN), 500)
        disk.begin()
        told.refusal("full disk", await line.post(call(), CHAT, KEY, *OWN), 503)
        disk.end()
    assert "ValueError in the application" in caplog.text
    told.shown["log"] = caplog.text.encode()
    keep_files(told, tmp_path / "data", "at the end")
    assert told.leaks() == []


def test_a_secret_is_found_as_it_was_and_in_base64() -> None:
    shown = {"a": b"...zq7x-prompt", "b": base64.b64encode(b"zq7x-prompt"), "c": b"nothing"}
    assert [where for where, _ in Told(shown).leaks()] == ["a", "b"]
