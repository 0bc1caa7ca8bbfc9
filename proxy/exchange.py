"""One admitted call: forward → meter → settle. The reservation that let it through ends here, exactly once."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from decimal import Decimal
from time import monotonic

from starlette.types import Receive, Send

from policy.money import format_usd, shortest_usd
from policy.pricing import dump_rates
from policy.settlement import Conclusion, at_least, conclude, needs_usage
from proxy.attendance import Attendance
from proxy.denials import Refused
from proxy.forward import ForwardError, NotSent, Uncertain, UpstreamAnswer
from proxy.headers import request_headers, response_headers
from proxy.identify import Caller
from proxy.ledger.port import Admission, LedgerUnavailable, Settlement
from proxy.metering import StreamReader, UsageStripper, ask_for_usage, decodable, reader_for
from proxy.metering.base import FAILED, Metered, Usage, UsageReader
from proxy.places import Place
from proxy.quote import Quote
from proxy.receive import Incoming, request_id, stream_body, trace_id
from proxy.rewriting import written
from proxy.state import Sidecar

log = logging.getLogger("agent_ledger")

_NOT_SENT = Conclusion(voided=True, charge=0)
_ASKED = frozenset(("openai", "deepseek"))  # the others tell the usage of a stream unasked


class Exchange:
    """From the first upstream byte to the settlement. ``body`` None: it is streamed as it comes.

    ``received_at`` is when all of the request was there that is waited for, in seconds of `time.monotonic`.
    """

    __slots__ = (
        "_admission", "_asked", "_began", "_body", "_caller", "_client", "_ended", "_endless", "_incoming", "_metered",
        "_place", "_quoted", "_reader", "_received_at", "_received_bytes", "_sent_bytes", "_sidecar", "_status",
        "_wire",
    )  # fmt: skip

    def __init__(
        self,
        sidecar: Sidecar,
        place: Place,
        client: Attendance,
        incoming: Incoming,
        caller: Caller,
        quoted: Quote,
        admission: Admission,
        body: bytes | None,
        wire: str | None,
        received_at: float,
    ) -> None:
        self._sidecar = sidecar
        self._place = place
        self._client = client
        self._incoming = incoming
        self._caller = caller
        self._quoted = quoted
        self._admission = admission
        self._body = body
        self._wire = wire
        self._received_at = received_at
        self._metered = quoted.by_model or needs_usage(quoted.rates) or quoted.calls_tool(wire)
        self._began = monotonic()
        self._status: int | None = None  # the upstream's, once its answer began
        self._reader: UsageReader | None = None
        self._asked = False  # for usage that the client did not ask for
        self._endless = False  # events of which none is metered, as MCP's standing stream
        self._sent_bytes = len(body or b"")
        self._received_bytes = 0
        self._ended = False

    async def run(self, receive: Receive, send: Send) -> None:
        """Raises Refused where no answer of the upstream's could be begun."""
        metrics = self._sidecar.metrics
        try:
            async with self._client as client:
                if self._body is not None:
                    client.watch()
                answer = await self._forward(receive)
                client.drained = self._metered
                client.watch()
                metrics.open_streams += 1
                try:
                    await self._relay(answer, send)
                finally:
                    metrics.open_streams -= 1
                    self._time()
                    await answer.aclose()
        except NotSent as error:
            await self._end(complete=False, sent=False)
            raise self._refused("upstream_unreachable", error) from error
        except Uncertain as error:
            begun = self._status is not None
            await self._end(complete=False)
            if begun:
                # The server closes the connection: a torn answer must not look whole to the client.
                raise ConnectionAbortedError from error
            raise self._refused("upstream_failed", error) from error
        except TimeoutError:
            if self._endless:
                await self._end(complete=True)  # such a stream has no other end than that its client leaves, or we stop
            if self._client.gone:
                action_id = self._admission.action_id
                log.info("action %s: its client left, and the upstream was not read to its end", action_id)
            raise ConnectionAbortedError from None
        finally:
            # Whatever went wrong above, cancellation included, a reservation is never left behind.
            await self._end(complete=False)

    def _time(self) -> None:
        place, written_at = self._place, self._client.written_at
        metrics, upstream = self._sidecar.metrics, self._incoming.upstream.name
        metrics.timed(upstream, self._received_at, place.sent_at, place.answered_at, written_at)

    def _refused(self, code: str, error: ForwardError) -> Refused:
        return Refused(error.status, code, f"Agent Ledger: {error}", actionId=self._admission.action_id)

    async def _forward(self, receive: Receive) -> UpstreamAnswer:
        """Send it on, byte for byte but for the headers and the rewritings that the design names."""
        incoming, upstream, quoted = self._incoming, self._incoming.upstream, self._quoted
        body: bytes | AsyncIterator[bytes]
        if self._body is None:
            body = self._upload(receive)
        else:
            body = written(self._body, quoted.writes) if quoted.writes else self._body
        replace = dict(upstream.set_headers)
        if self._metered:
            # Metering reads a copy: only what the client accepts and we can decode.
            replace["accept-encoding"] = decodable(incoming.header(b"accept-encoding"))
        if self._metered and isinstance(body, bytes) and self._may_ask_usage():
            asked = ask_for_usage(incoming.path, body, quoted.body)
            if asked is not None:
                body = asked
                replace["accept-encoding"] = "identity"
                self._asked = True
        headers = request_headers(self._caller.headers, replace)
        target = incoming.path.encode("latin-1") + (b"?" + self._caller.query if self._caller.query else b"")
        return await self._place.send(incoming.method, target, headers, body)

    async def _upload(self, receive: Receive) -> AsyncIterator[bytes]:
        async for chunk in stream_body(receive):
            self._sent_bytes += len(chunk)
            yield chunk
        self._client.watch()

    def _may_ask_usage(self) -> bool:
        return self._incoming.upstream.ask_usage and self._wire in _ASKED

    async def _relay(self, answer: UpstreamAnswer, send: Send) -> None:
        """Stream the answer to the client as it comes, metering a copy; settle before its last byte is passed on."""
        client = self._client
        fields = {name.lower(): value for name, value in reversed(answer.headers)}
        kind = fields.get(b"content-type", b"").decode("latin-1")
        self._status = answer.status
        self._reader = reader = self._open_reader(answer, kind, fields) if self._metered else None
        self._endless = not self._metered and kind.startswith("text/event-stream")
        if self._endless and self._incoming.method == "GET":
            client.stand()
        stripper = UsageStripper(reader) if self._asked and isinstance(reader, StreamReader) else None
        left = -1 if stripper else _content_length(answer.status, fields, self._incoming.method)
        if left == 0:
            await self._end(complete=True)
        await send({"type": "http.response.start", "status": answer.status, "headers": self._headers(answer, stripper)})
        drained, whole = 0, False
        async for chunk in answer.chunks:
            passed = chunk
            if stripper is not None:
                passed = stripper.feed(chunk)
            elif reader is not None:
                reader.feed(chunk)
            size = len(chunk)
            self._received_bytes += size
            left -= size
            if left == 0:
                await self._end(complete=True)
            if client.gone:
                drained += size
                if drained > client.bytes_max:
                    raise ConnectionAbortedError
            if passed:  # whoever only sends no more still gets it
                whole = left == 0
                await send({"type": "http.response.body", "body": passed, "more_body": not whole})
        if not whole:
            await self._end(complete=True)
            await send({"type": "http.response.body", "body": stripper.flush() if stripper else b""})

    def _headers(self, answer: UpstreamAnswer, stripper: UsageStripper | None) -> list[tuple[bytes, bytes]]:
        headers = response_headers(answer.headers)
        if stripper is not None:
            headers = [header for header in headers if header[0].lower() != b"content-length"]
        headers.append((b"x-ledger-action-id", self._admission.action_id.encode()))
        if self._quoted.output_cap is not None:
            headers.append((b"x-ledger-output-cap", b"%d" % self._quoted.output_cap))
        if self._admission.remaining is not None:
            headers.append((b"x-ledger-budget-remaining", shortest_usd(self._admission.remaining).encode()))
        return headers

    def _open_reader(self, answer: UpstreamAnswer, kind: str, fields: dict[bytes, bytes]) -> UsageReader | None:
        price = self._quoted.price
        return reader_for(
            self._incoming.upstream.meter,
            self._incoming.path,
            answer.status,
            kind,
            fields.get(b"content-encoding", b"").decode("latin-1"),
            price.usage if price else (),
            answer.headers,
            self._quoted.body,
            self._measure,
        )

    def _measure(self) -> dict[str, int | Decimal]:
        """What a rule may price that nobody states: the bodies' bytes as they passed, and how long the call took."""
        return {
            "seconds": Decimal(self._elapsed_ms()).scaleb(-3),
            "request_bytes": self._sent_bytes,
            "response_bytes": self._received_bytes,
        }

    def _elapsed_ms(self) -> int:
        return int((monotonic() - self._began) * 1000)

    async def _end(self, *, complete: bool, sent: bool = True) -> None:
        """Settle or void, once; a second call does nothing."""
        if self._ended:
            return
        self._ended, ended = True, complete
        metered = self._reader.finish() if self._reader else Metered()
        usage, complete = self._used(metered, complete)
        rates = self._quoted.charged(metered)
        conclusion = _NOT_SENT
        if sent:
            conclusion = conclude(
                rates=rates,
                usage=usage,
                status=self._status,
                complete=complete,
                charge_errors=self._incoming.upstream.charge_errors,
                reserved=self._admission.reserved,
            )
        settlement = Settlement(
            charge=conclusion.charge,
            outcome="success" if self._succeeded(ended, metered) else "failure",
            usage=dict(usage or {}),
            unconfirmed=conclusion.unconfirmed,
            flags=metered.flags,
            upstream_status=self._status,
            duration_ms=self._elapsed_ms(),
            rates=None if rates is self._quoted.rates else dump_rates(rates),
        )
        if not self._admission.recorded:
            self._tell_unrecorded(conclusion.charge)
            return
        ledger = self._sidecar.ledger
        try:
            if conclusion.voided:
                action = await ledger.void(self._admission.action_id, settlement)
            else:
                action = await ledger.settle(self._admission.action_id, settlement)
        except LedgerUnavailable as error:
            # The journal closed under this call: its reservation is found open at the next start, and expires.
            log.error("action %s could not be settled: %s", self._admission.action_id, error)
        else:
            self._sidecar.metrics.ended(action)
            if self._sidecar.calls is not None:
                fields = self._incoming.fields
                self._sidecar.calls.ended(action, request_id(fields), trace_id(fields))

    def _tell_unrecorded(self, cost: int) -> None:
        """The log line is all that is kept of it: enough for an `adjust` once the ledger can record again."""
        self._sidecar.metrics.unrecorded(cost)
        log.warning(
            "action %s of agent %s, %s, was let through unrecorded; it cost %s",
            self._admission.action_id,
            self._caller.agent.id,
            self._quoted.target,
            format_usd(cost),
        )

    def _used(self, metered: Metered, complete: bool) -> tuple[Usage | None, bool]:
        """What the call used, and whether that is all: of a stream that broke off, at least what was seen of it."""
        complete = complete and not metered.partial
        known = metered.usage is not None and complete
        if known or not metered.seen or self._status is None or self._status >= 400:
            return metered.usage, complete
        seen = metered.seen
        if self._quoted.output_cap is not None:
            seen = min(seen, int(self._quoted.usage["output_tokens"]))  # it was told to say no more
        return at_least(self._quoted.usage, metered.usage, seen), False

    def _succeeded(self, ended: bool, metered: Metered) -> bool:
        """Whether the upstream answered to its end, and as one that did what it was asked."""
        return ended and self._status is not None and self._status < 400 and FAILED.isdisjoint(metered.flags)


def _content_length(status: int, fields: dict[bytes, bytes], method: str) -> int:
    """How many body bytes will come; -1 where only the end tells."""
    if method == "HEAD" or status in (204, 304):
        return 0
    stated = fields.get(b"content-length", b"")
    return int(stated) if stated.isdigit() else -1
