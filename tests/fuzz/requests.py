"""Requests: targets, Hosts, credentials, forms, JSON, what is written into it, and what the API reads."""

from __future__ import annotations

import ipaddress
import json
import random
import re
import zlib
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers, QueryParams

from policy.cap import rewritten
from policy.catalog import Catalog
from policy.match import PriceIndex, misses
from policy.parse import parse_policy
from proxy.access import Access
from proxy.api.fields import Fields, Query
from proxy.denials import Refused
from proxy.forms import PARTS_MAX, TEXT_MAX, Form, FormError, form_of
from proxy.framing import path_problem
from proxy.identify import Caller, digest, identify
from proxy.jsontext import JsonError, dumps, loads
from proxy.ledger.port import Agent
from proxy.metering import ask_for_usage
from proxy.quote import TARGET_MAX, quote
from proxy.receive import receive_head
from proxy.request import ProxyRequest
from proxy.rewriting import written
from proxy.rules import Rules
from proxy.settings import Settings
from tests.fuzz.material import WORDS

KEY = "alk_of-the.agent_and+no/other"
POLICY = parse_policy(
    """
version: 1
upstreams:
  openai: {url: "https://api.openai.com"}
  anthropic: {url: "https://api.anthropic.com"}
  gemini: {url: "https://generativelanguage.googleapis.com"}
  bedrock: {url: "https://bedrock-runtime.us-east-1.amazonaws.com"}
  tools: {url: "http://127.0.0.1:9", meter: mcp}
  any: {url: "http://127.0.0.1:9"}
prices:
  - name: search
    match: {upstream: tools, body: {method: tools/call, params.name: ["web*", 7, true]}}
    rates: {request: 0.01}
  - name: folders
    match: {upstream: any, path: ["/a/**/z", "/*/b*", "/v1/models/*:run", "/**%2F*"]}
    rates: {request: 1}
  - {name: capped, match: {upstream: [openai, anthropic], path: "/v1/**"}, cap_output: true, rates: catalog}
  - name: frames
    match: {upstream: any, path: "/frames"}
    usage: {frames: {request: options.0.n}}
    rates: {frames: 0.1}
    estimate: {frames: 3}
  - {name: rest, match: {path: "/**"}, rates: {input_mtok: 1, output_mtok: 2, cache_write_mtok: 3}}
""",
    name="policy.yaml",
    env={},
    read_file=str,
).policy
RULES = Rules(POLICY, PriceIndex(POLICY), Catalog())

_UNRESERVED = re.compile(rb"%(?:4[1-9a-f]|5[0-9a]|6[1-9a-f]|7[0-9a]|3[0-9]|2[de]|5f|7e)", re.I)


def fuzz_target(data: bytes) -> None:
    """A path that is taken has one reading, climbs nowhere, goes on byte for byte, and is priced by its first rule."""
    path, _, query = data.partition(b"?")
    if not path.startswith(b"/") or path_problem(b"/any" + path) is not None:
        return
    assert path.isascii()
    assert _UNRESERVED.search(path) is None
    read = unquote_to_bytes(path)
    assert min(read, default=32) >= 32
    assert 127 not in read
    segments = {segment.partition(b";")[0] for segment in re.split(rb"[/\\]", read)}
    assert not {b".", b".."} & segments
    head = {"raw_path": b"/any" + path, "method": "POST", "query_string": query, "headers": []}
    incoming = receive_head(head, POLICY)
    assert incoming.path.encode("latin-1") == path
    candidates = RULES.prices.candidates("any", "POST", incoming.path)
    price = RULES.prices.first(candidates, None)
    assert price is POLICY.prices[len(misses(POLICY, "any", "POST", incoming.path, None))]


def fuzz_host(data: bytes) -> None:
    """No Host but a loopback's own spelling is answered for, and no Origin but that Host's."""
    host, _, origin = data.partition(b"\n")
    sent = [(b"host", host)] + ([(b"origin", origin)] if origin else [])
    sidecar: Any = SimpleNamespace(settings=Settings(policy=None, data=None))  # type: ignore[arg-type]  # not asked for
    if Access(sidecar).refuse("POST", Headers(raw=sent)) is not None:
        return
    name = host.decode("ascii").lower().rpartition(":")[0] if re.search(rb":\d+$", host) else host.decode().lower()
    assert name in ("localhost", "[::1]") or ipaddress.IPv4Address(name).is_loopback
    assert origin.lower() in (b"", b"http://" + host.lower(), b"https://" + host.lower())


class Agents:
    """The look-ups of the ledger that identity needs."""

    def agent(self, agent_id: str) -> Agent | None:
        return Agent(agent_id, "", "", "", 0, None, 0) if agent_id == "named" else None

    def agent_by_key(self, found: str) -> Agent | None:
        return Agent("keyed", "", "", "", 0, None, 0, keys=(found,)) if found == digest(KEY) else None


_SLOTS = (b"x-ledger-key", b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key")


def fuzz_identity(data: bytes) -> None:
    """Only the key itself makes its agent; no credential of ours goes on; all else goes on as it came."""
    query, *lines = data.split(b"\n")
    headers = [(name.lower(), value) for name, _, value in (line.partition(b":") for line in lines)]
    ledger: Any = Agents()
    try:
        caller = identify(ledger, headers, query, None)
    except Refused as refusal:
        _assert_told(refusal, 401, 404)
        return
    assert (caller.agent.id == "keyed") <= (KEY.encode() in unquote_to_bytes(data))
    _assert_stripped(caller, headers, query)


def _assert_stripped(caller: Caller, headers: list[tuple[bytes, bytes]], query: bytes) -> None:
    for name, value in caller.headers:
        assert name not in (b"x-ledger-key", b"x-agent-id")
        assert name not in _SLOTS or not any(word.startswith(b"alk_") for word in value.split()[:1])
        assert name != b"authorization" or KEY.encode() not in value.split()
        cookies = value.split(b";") if name == b"cookie" else []
        assert not any(cookie.strip().startswith(b"agent_ledger_session=") for cookie in cookies)
    came = iter(header for header in headers if header[0] != b"cookie")
    assert all(header in came for header in caller.headers if header[0] != b"cookie")
    parts = iter(query.split(b"&"))
    assert all(part in parts for part in caller.query.split(b"&") if caller.query)
    assert not any(
        unquote_to_bytes(part).startswith(b"key=alk_") for part in caller.query.split(b"&") if part[:4] == b"key="
    )


TYPES = (
    "multipart/form-data; boundary=b",
    'multipart/form-data; boundary="b c"',
    "multipart/form-data; boundary=b; boundary=c",
    "application/x-www-form-urlencoded",
    "application/x-www-form-urlencoded; charset=utf-8",
    "multipart/form-data",
    "text/plain",
)


def fuzz_form(data: bytes) -> None:
    """Any body under any Content-Type is a form within bounds, none, or refused; a plain one is read as it was made."""
    kind, data = TYPES[data[0] % len(TYPES)] if data else TYPES[0], data[1:]
    try:
        form = form_of(kind, data)
    except FormError:
        return
    if form is None:
        assert not kind.startswith(("multipart/form-data", "application/x-www"))
        return
    assert 0 <= form.file_bytes <= len(data)
    assert len(form.fields) <= PARTS_MAX
    assert all(len(text.encode()) <= TEXT_MAX for text in form.fields.values())
    plain = {name: text for name, text in form.fields.items() if name.isidentifier() and not {"\0", "\n"} & set(text)}
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), text.encode())
        for name, text in plain.items()
    ]
    assert form_of(TYPES[0], b"".join(parts) + b"--b--") == Form(plain)


def fuzz_json(data: bytes) -> None:
    """Exact JSON, or a JsonError; what is written of it is read back the same."""
    try:
        value = loads(data)
    except JsonError:
        return
    json.loads(data)  # to no other reader is it anything but JSON
    assert loads(dumps(value).encode()) == value


def fuzz_writes(data: bytes) -> None:
    """After any writes it is the document that was meant, and no byte outside the values has changed."""
    try:
        document = loads(data)
    except JsonError:
        return
    if not isinstance(document, dict):
        return
    draw = random.Random(zlib.crc32(data))
    names = [name for name in document if isinstance(document[name], dict)] + list(document)[:3] + list(WORDS[-4:])
    for _ in range(3):
        path = tuple(draw.choice(names) for _ in range(draw.randint(1, 3)))
        value = draw.choice((True, 7, 10**18))
        result = written(data, [(path, value)])
        assert loads(result) == rewritten(document, [(path, value)])  # type: ignore[list-item]  # true is written too
        _assert_only_one_place(data, result, len(json.dumps(path)) + 40)
        data, document = result, loads(result)


def _assert_only_one_place(before: bytes, after: bytes, most: int) -> None:
    """What was put in is a value or a member, what it replaced a value or nothing: all else is common."""
    shorter = min(len(before), len(after))
    head = next((at for at in range(shorter) if before[at] != after[at]), shorter)
    tail = next((at for at in range(shorter - head) if before[-1 - at] != after[-1 - at]), shorter - head)
    assert head + tail <= shorter
    assert len(after) - head - tail <= most


PLACES = (
    ("openai", "/v1/chat/completions"),
    ("openai", "/v1/responses"),
    ("openai", "/v1/completions"),
    ("openai", "/v1/embeddings"),
    ("openai", "/v1/images/edits"),
    ("openai", "/v1/audio/transcriptions"),
    ("anthropic", "/v1/messages"),
    ("gemini", "/v1/models/gemini-2.5-pro:generateContent"),
    ("bedrock", "/model/anthropic.claude-opus-4/invoke"),
    ("bedrock", "/model/amazon.nova-pro-v1%3A0/converse"),
    ("tools", "/mcp"),
    ("any", "/frames"),
    ("any", "/v2/chat"),
)
LIMITS = (None, 0, 1_000_000, 10**9)


def fuzz_quote(data: bytes) -> None:
    """Any body is estimated or refused (400); with what is written into it, it is still what was priced."""
    choice, data = data[0] if data else 0, data[1:]
    upstream, path = PLACES[choice % len(PLACES)]
    limit = LIMITS[choice // len(PLACES) % len(LIMITS)]
    kind = TYPES[0] if choice > 200 else "application/json"
    request = ProxyRequest(POLICY.upstreams[upstream], "POST", path, data, kind)
    candidates = RULES.prices.candidates(upstream, "POST", path)
    try:
        quoted = quote(RULES, request, candidates, 1_790_000_000_000, limit)
    except Refused as refusal:
        _assert_told(refusal, 400)
        return
    assert len(quoted.target) <= TARGET_MAX
    assert quoted.target.isprintable()
    assert quoted.estimate is None or 0 <= quoted.estimate < 2**63
    assert all(0 <= quantity < 2**63 for quantity in quoted.usage.values())
    body = data
    if quoted.writes:
        body = written(data, quoted.writes)
        assert loads(body) == rewritten(quoted.body, quoted.writes)
    asked = ask_for_usage(path, body, quoted.body) if kind != TYPES[0] else None
    if asked is not None:
        assert loads(asked)["stream_options"]["include_usage"] is True


def fuzz_fields(data: bytes) -> None:
    """What the API reads of any body and any query is within its bounds, or refused (400, 422) in words of ours."""
    query, _, body = data.partition(b"\n")
    try:
        fields = Fields(body)
        texts = [fields.text("text"), fields.line("line"), fields.json_text("metadata", 64) or "x"]
        amounts = [fields.money("cost"), fields.money_or_null("limit") or 0]
        fields.choice("outcome", ("success", "failure"))
        fields.flag("flag")
        fields.done()
        assert all(text and "\0" not in text and text.encode() for text in texts)
        assert all(0 <= nano <= 10**18 for nano in amounts)
    except Refused as refusal:
        _assert_told(refusal, 400, 422)
    asked = Query(QueryParams(query))
    try:
        asked.text("agentId")
        assert 1 <= asked.count("limit", 100, 1000) <= 1000
        asked.choices("groupBy", ("agent", "day"))
        asked.choice("outcome", ("success",))
        asked.time("since")
        asked.time("until")
        asked.done()
    except Refused as refusal:
        _assert_told(refusal, 400, 422)


def _assert_told(refusal: Refused, *statuses: int) -> None:
    assert refusal.status in statuses
    assert KEY not in refusal.message
    assert len(dumps({"message": refusal.message, **refusal.details}).encode()) < 100_000
