"""One JSON call, step by step as the gate takes it, by a policy as large as is asked for; no sockets."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from policy.settlement import conclude
from proxy.app import App
from proxy.call import CLIENT
from proxy.denials import dialect_of
from proxy.forward import Forwarder
from proxy.headers import request_headers, response_headers
from proxy.identify import Caller, identify
from proxy.ledger.port import Action, Admission, Settlement
from proxy.metering import Metered, StreamReader, UsageStripper, reader_for
from proxy.metering.formats import wire_format
from proxy.quote import Quote, quote
from proxy.receive import Incoming, receive_body, receive_head, turn_away
from proxy.request import ProxyRequest
from tests.bench import calls
from tests.bench.targets import KEY
from tests.bench.upstream import ANSWER, STREAM_WITH_USAGE

_PATH = "/v1/chat/completions"
_ANSWERED = [
    (b"date", b"Mon, 23 Nov 2026 05:00:00 GMT"),
    (b"openai-processing-ms", b"500"),
    (b"openai-version", b"2020-10-01"),
    (b"x-request-id", b"req_1"),
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(ANSWER)),
]
_EVENTS = [chunk.partition(b"\r\n")[2].removesuffix(b"\r\n") for chunk in STREAM_WITH_USAGE]


@dataclass(frozen=True)
class Size:
    """How many of each a policy has."""

    prices: int = 10
    agents: int = 10
    budgets: int = 10


def policy_text(size: Size) -> str:
    """Those that this call is about stand last; the others are as like them as another's would be."""
    others = [f"{{name: path-{n}, match: {{path: /v1/other-{n}}}, rates: catalog}}" for n in range(size.prices // 2)]
    others += [
        f"{{name: model-{n}, match: {{path: /v1/chat/completions, body: {{model: gpt-{n}}}}}, rates: catalog}}"
        for n in range(size.prices - len(others) - 1)
    ]
    prices = [*others, '{name: models, match: {upstream: openai, path: "/v1/**"}, rates: catalog}']
    agents = [f"{{id: a{n}, owner_id: o{n}, monthly_budget: 100, key: {KEY}-{n}}}" for n in range(size.agents - 1)] + [
        f"{{id: bench, owner_id: team, monthly_budget: 10000000, per_action_limit: 10, key: {KEY}}}"
    ]
    budgets = [
        f"{{name: b{n}, amount: 100, period: day, match: {{owner_id: o{n}}}}}" for n in range(size.budgets - 3)
    ] + [
        "{name: agent-day, amount: 10000000, period: day, each: agent}",
        "{name: team-month, amount: 10000000, period: month, match: {owner_id: team}}",
        "{name: upstream-week, amount: 10000000, period: week, match: {upstream: openai}}",
    ]
    limits = [
        "{name: rate, requests: 100000000, period: minute, each: agent}",
        "{name: parallel, concurrent: 10000, each: agent}",
    ]
    parts = {"prices": prices, "agents": agents, "budgets": budgets, "limits": limits}
    listed = "\n".join(f"{name}:\n" + "".join(f"  - {each}\n" for each in part) for name, part in parts.items())
    return f"version: 1\nupstreams: {{openai: {{url: 'http://127.0.0.1:9', meter: openai}}}}\n{listed}"


class Canned(httpx.AsyncBaseTransport, httpx.AsyncByteStream):
    """The transport whose answer is there at once; always the same."""

    def __init__(self) -> None:
        self._answer = httpx.Response(200, headers=_ANSWERED, stream=self)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self._answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield ANSWER

    async def aclose(self) -> None:
        pass


class Client:
    """Of a request that is there, whole; its client stays."""

    whole_body = calls.body(1000)
    written_at = 0.0

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        pass


class Line:
    """One call; its steps in order, each called with what those before it made."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.sidecar = app.sidecar
        self.sidecar.places.forwarder = Forwarder(transport_for=lambda upstream: Canned())
        self.rules = self.sidecar.policy_file.rules
        self.scope = _scope()
        self.incoming: Incoming = receive_head(self.scope, self.rules.policy)
        self.caller: Caller = self.identify()
        self.quoted: Quote = self.quote()
        self.metered: Metered = self.meter()

    async def whole(self) -> None:
        """All of it, as the server calls it."""
        await self.app(self.scope, _never, _nowhere)

    async def transport(self) -> None:
        """What of the whole is not the gate's: a request made for the stand-in of the transport, and its answer."""
        upstream, headers = self.incoming.upstream, self.caller.headers
        answer = await self.sidecar.places.forwarder.send(upstream, "POST", b"/v1/x", headers, Client.whole_body)
        async for _ in answer.chunks:
            pass
        await answer.aclose()

    def receive_head(self) -> None:
        incoming = receive_head(self.scope, self.rules.policy)
        dialect_of(wire_format(incoming.upstream.meter, incoming.path))
        turn_away(self.scope, self.sidecar.load)

    def identify(self) -> Caller:
        return identify(self.sidecar.ledger, self.incoming.headers, self.incoming.query, None)

    def match(self) -> Any:
        return self.rules.prices.candidates("openai", "POST", self.incoming.path)

    async def receive_body(self) -> None:
        with self.sidecar.load.hold() as hold:
            await receive_body(self.incoming, self.match(), "openai", _never, Client.whole_body, hold)

    def quote(self) -> Quote:
        kind = self.incoming.header(b"content-type")
        request = ProxyRequest(self.incoming.upstream, "POST", self.incoming.path, Client.whole_body, kind)
        now, limit = int(time.time() * 1000), self.caller.agent.per_action_limit
        return quote(self.rules, request, self.match(), now, limit)

    async def authorize(self) -> Admission:
        call = self.quoted.call(self.caller.agent.id, self.rules.policy.hash)
        admitted = await self.sidecar.ledger.authorize(call)
        assert isinstance(admitted, Admission), admitted
        return admitted

    def headers(self) -> None:
        request_headers(self.caller.headers, {"accept-encoding": "gzip, deflate"})
        response_headers(_ANSWERED)

    def meter(self) -> Metered:
        reader = self._reader("application/json")
        reader.feed(ANSWER)
        return reader.finish()

    def settlement(self, admitted: Admission) -> Settlement:
        concluded = conclude(
            rates=self.quoted.charged(self.metered),
            usage=self.metered.usage,
            status=200,
            complete=True,
            charge_errors=False,
            reserved=admitted.reserved,
        )
        usage = dict(self.metered.usage or {})
        return Settlement(concluded.charge, "success", usage, upstream_status=200, duration_ms=420)

    async def settle(self, admitted: Admission) -> Action:
        return await self.sidecar.ledger.settle(admitted.action_id, self.settlement(admitted))

    def count(self, action: Action) -> None:
        self.sidecar.metrics.ended(action)

    def log(self, action: Action) -> None:
        assert self.sidecar.calls is not None
        self.sidecar.calls.ended(action, None, None)

    def meter_stream(self) -> None:
        reader = self._reader("text/event-stream")
        for event in _EVENTS:
            reader.feed(event)
        reader.finish()

    def meter_and_strip_stream(self) -> None:
        reader = self._reader("text/event-stream")
        assert isinstance(reader, StreamReader)
        stripper = UsageStripper(reader)
        for event in _EVENTS:
            stripper.feed(event)
        stripper.flush()
        reader.finish()

    def _reader(self, kind: str) -> Any:
        return reader_for("openai", self.incoming.path, 200, kind, "", (), _ANSWERED, self.quoted.body)


def _scope() -> dict[str, Any]:
    head = {name.lower().encode(): value.encode() for name, value in calls.HEADERS.items()}
    head |= {b"host": b"127.0.0.1:8080", b"content-length": b"%d" % len(Client.whole_body)}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": f"/openai{_PATH}",
        "raw_path": f"/openai{_PATH}".encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(head.items()),
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8080),
        "state": {},
        "extensions": {CLIENT: Client()},
    }


async def _never() -> Any:
    raise AssertionError("the body is there already")


async def _nowhere(message: Any) -> None:
    pass
