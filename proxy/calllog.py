"""One line a call in the log: who called what, how it ended and what it cost. Of what was sent, its ids alone.

A line is put with those that gather, and a thread writes them: a log that nobody reads holds up no call. Lines that
then find no room are dropped, and counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from time import time
from typing import Literal

import msgspec

from policy.money import shortest_usd
from proxy.denials import Refused, iso
from proxy.ledger.port import Action
from proxy.settings import Style

_GATHER_S = 0.1
_WAITING_MAX = 20_000  # lines, of some 300 bytes
_CLOSE_S = 2.0
_ENCODER = msgspec.json.Encoder()


class Line(msgspec.Struct, omit_defaults=True, rename="camel"):
    """``time`` is ISO 8601, UTC. ``status`` is what the upstream answered, or what a refused caller was."""

    time: str
    level: str
    event: Literal["call", "refused"]
    agent: str | None = None
    target: str | None = None
    outcome: str | None = None
    reason: str | None = None
    status: int | None = None
    cost_usd: str | None = None
    unconfirmed: bool = False
    duration_ms: int | None = None
    action_id: str | None = None
    request_id: str | None = None
    trace_id: str | None = None


class CallLog:
    """``write`` takes whole lines and may block. Made in the loop that it is used from."""

    def __init__(self, style: Style, write: Callable[[bytes], object]) -> None:
        self.dropped = 0
        self._render: Callable[[Line], bytes] = _json if style == "json" else _text
        self._write = write
        self._lines: list[bytes] = []
        self._gathering: asyncio.TimerHandle | None = None
        self._handed: SimpleQueue[bytes | None] = SimpleQueue()
        self._idle = True
        # A daemon: the process may end while its log takes nothing.
        self._writer = Thread(target=self._write_forever, name="call-log", daemon=True)
        self._writer.start()
        self._loop = asyncio.get_running_loop()
        self._second = (0, "")

    def ended(self, action: Action, request_id: str | None, trace_id: str | None) -> None:
        """A call that was forwarded, and has ended."""
        self._add(
            Line(
                self._now(),
                "INFO",
                "call",
                action.agent_id,
                action.target,
                action.outcome,
                None,
                action.upstream_status,
                shortest_usd(action.cost),
                action.unconfirmed,
                action.duration_ms,
                action.id,
                request_id,
                trace_id,
            )
        )

    def refused(
        self,
        refusal: Refused,
        agent_id: str | None,
        target: str | None,
        request_id: str | None,
        trace_id: str | None,
    ) -> None:
        """A call that was denied, or that its request or its upstream failed."""
        self._add(
            Line(
                self._now(),
                "INFO",
                "refused",
                agent_id,
                target,
                reason=refusal.code,
                status=refusal.status,
                action_id=refusal.details.get("actionId"),
                request_id=request_id,
                trace_id=trace_id,
            )
        )

    async def close(self) -> None:
        """Write what has gathered, unless nothing takes it."""
        if self._gathering is not None:
            self._gathering.cancel()
        self._handed.put(b"".join(self._lines))
        self._handed.put(None)
        await asyncio.to_thread(self._writer.join, _CLOSE_S)

    def _add(self, line: Line) -> None:
        if len(self._lines) >= _WAITING_MAX:
            self.dropped += 1
            return
        self._lines.append(self._render(line))
        if self._gathering is None:
            self._gathering = self._loop.call_later(_GATHER_S, self._hand_over)

    def _hand_over(self) -> None:
        if not self._idle:
            self._gathering = self._loop.call_later(_GATHER_S, self._hand_over)
            return
        lines, self._lines = self._lines, []
        self._gathering, self._idle = None, False
        self._handed.put(b"".join(lines))

    def _write_forever(self) -> None:
        while (lines := self._handed.get()) is not None:
            try:
                self._write(lines)
            except OSError:
                self.dropped += lines.count(b"\n")  # nobody is left to tell
            self._idle = True

    def _now(self) -> str:
        """`iso` of now, of which all but the milliseconds is made once a second."""
        now = int(time() * 1000)
        second, ms = divmod(now, 1000)
        if second != self._second[0]:
            self._second = (second, iso(second * 1000)[:-4])
        return f"{self._second[1]}{ms:03d}Z"


def _json(line: Line) -> bytes:
    return _ENCODER.encode(line) + b"\n"


def _text(line: Line) -> bytes:
    """For people at a terminal."""
    words = [line.time[11:-1], line.agent or "-", line.target or "-", line.outcome or f"refused {line.reason}"]
    if line.cost_usd is not None:
        words.append(f"${line.cost_usd}")
    words += [str(line.status or "no answer")]
    if line.duration_ms is not None:
        words.append(f"{line.duration_ms} ms")
    return " ".join([*words, line.action_id or ""]).rstrip().encode() + b"\n"
