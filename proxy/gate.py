"""THE LINE: one call, top to bottom.

    receive → identify agent → match price → estimate → ledger.authorize → forward → meter → settle + record → alert

`Gate.__call__` says it whole. What comes after authorize, from the first upstream byte to the settlement, is an
`Exchange`; alerts are raised by the ledger, in the entry that settles.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, time
from typing import Any

from starlette.types import Receive, Scope, Send

from policy.model import Price, Upstream
from proxy.attendance import Attendance, Drains
from proxy.call import CLIENT
from proxy.denials import Dialect, Refused, Reply, dialect_of, refused, reply
from proxy.exchange import Exchange
from proxy.identify import Caller, identify
from proxy.jsontext import values_most
from proxy.ledger.port import Admission, AgentUnknown, Denial, LedgerUnavailable
from proxy.metering.formats import wire_format
from proxy.quote import Quote, quote
from proxy.receive import ClientGone, Incoming, receive_body, receive_head, request_id, trace_id, turn_away
from proxy.request import ProxyRequest
from proxy.rules import Rules
from proxy.state import Sidecar

# A body is read in the loop where that takes milliseconds at most: its values cost up to 3 µs each, its text little.
_READ_IN_LOOP_BYTES = 8 * 1024
_READ_IN_LOOP_BYTES_OF_TEXT = 256 * 1024
_READ_IN_LOOP_VALUES = 2048


class Gate:
    """The proxied calls, as an ASGI application: `/{upstream}/{rest}`."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._drains = Drains()
        # One, so that large bodies together don't slow the loop, and none of those that the ledger waits for.
        self._reader = ThreadPoolExecutor(1, "gate-reader")

    def close(self) -> None:
        self._reader.shutdown(cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sidecar, client = self._sidecar, scope["extensions"][CLIENT]
        rules = sidecar.policy_file.rules  # one snapshot, whatever is reloaded meanwhile
        dialect: Dialect = "plain"
        caller: Caller | None = None
        quoted: Quote | None = None
        exchange: Exchange | None = None
        upstream: Upstream | None = None
        received_at = monotonic()
        try:
            incoming = receive_head(scope, rules.policy)
            upstream = incoming.upstream
            wire = wire_format(upstream.meter, incoming.path)
            dialect = dialect_of(wire)
            turn_away(scope, sidecar.load)
            caller = identify(sidecar.ledger, incoming.headers, incoming.query, sidecar.settings.agent)
            candidates = rules.prices.candidates(upstream.name, incoming.method, incoming.path)
            with sidecar.load.hold() as hold:
                arrived = client.whole_body
                body = await receive_body(incoming, candidates, wire, receive, arrived, hold)
                if arrived is None and body is not None:
                    received_at = monotonic()  # until then the client was waited for
                quoted = await self._quote(rules, incoming, candidates, body, caller)
                async with sidecar.places.take(upstream) as place:
                    admission = await self._authorize(rules, caller, quoted)
                    attendance = Attendance(client, self._drains, upstream.name, sidecar.load)
                    exchange = Exchange(
                        sidecar, place, attendance, incoming, caller, quoted, admission, body, wire, received_at
                    )
                    await exchange.run(receive, send)
        except Refused as refusal:
            sidecar.metrics.refused(refusal.code, upstream.name if upstream else None)
            if exchange is None and sidecar.calls is not None:  # else its line was written as it ended
                agent_id, target = caller.agent.id if caller else None, quoted.target if quoted else None
                fields = dict(scope["headers"])
                sidecar.calls.refused(refusal, agent_id, target, request_id(fields), trace_id(fields))
            await _answer(send, reply(dialect, refusal, quoted.body if quoted else refusal.request))
        except ClientGone:
            return  # it left before its request was whole: nobody is there to answer

    async def _quote(
        self, rules: Rules, incoming: Incoming, candidates: tuple[Price, ...], body: bytes | None, caller: Caller
    ) -> Quote:
        kind = incoming.header(b"content-type")
        request = ProxyRequest(incoming.upstream, incoming.method, incoming.path, body, kind)
        now, limit = int(time() * 1000), caller.agent.per_action_limit
        if body is None or _read_in_loop(body):
            return quote(rules, request, candidates, now, limit)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader, quote, rules, request, candidates, now, limit)

    async def _authorize(self, rules: Rules, caller: Caller, quoted: Quote) -> Admission:
        """Decide and reserve in one step. Raises Refused with the denial."""
        ledger, call = self._sidecar.ledger, quoted.call(caller.agent.id, rules.policy.hash)
        try:
            try:
                answer = await ledger.authorize(call)
            except LedgerUnavailable:
                if rules.policy.ledger_unavailable == "deny":
                    raise
                answer = await ledger.unrecorded(call)
        except AgentUnknown as error:
            raise Refused(404, "agent_not_found", "Agent Ledger: no agent has this id.") from error
        except LedgerUnavailable as error:
            message = "Agent Ledger: the ledger can't record, so no call is let through."
            raise Refused(503, "ledger_unavailable", message, retry_after_s=5) from error
        if isinstance(answer, Denial):
            raise refused(
                answer.verdict, answer.agent or caller.agent, quoted.estimate, answer.action_id, quoted.unmetered
            )
        return answer


def _read_in_loop(body: bytes) -> bool:
    if len(body) <= _READ_IN_LOOP_BYTES:
        return True
    return len(body) <= _READ_IN_LOOP_BYTES_OF_TEXT and values_most(body) <= _READ_IN_LOOP_VALUES


async def _answer(send: Send, answer: Reply) -> None:
    headers: list[Any] = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
