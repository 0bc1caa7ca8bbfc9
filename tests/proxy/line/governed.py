"""The line, whole: a real sidecar before a scripted upstream, both on real sockets, watched from both sides."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from policy.decide import Standing
from proxy.app import App
from proxy.attendance import Drains
from proxy.ledger.port import Action, ActionFilter, Admission, Alert, Call, Denial, Ledger, Settlement
from proxy.load import Load
from tests.proxy.rawhttp import WAIT_S, Answer, Raw
from tests.proxy.upstreams import Script, ScriptedUpstream
from tests.sidecar import ADMIN_HEADERS, in_process

AS_WORKER = (b"X-Agent-Id: worker",)


class Witness:
    """Stands before the ledger: which reservations were made, and each end of one as it is recorded."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.admitted: list[str] = []
        self.ended: list[str] = []
        self.endings: asyncio.Queue[Action] = asyncio.Queue()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def authorize(self, call: Call) -> Admission | Denial:
        answer = await self._ledger.authorize(call)
        if isinstance(answer, Admission):
            self.admitted.append(answer.action_id)
        return answer

    async def settle(self, action_id: str, settlement: Settlement) -> Action:
        return self._note(await self._ledger.settle(action_id, settlement))

    async def void(self, action_id: str, settlement: Settlement) -> Action:
        return self._note(await self._ledger.void(action_id, settlement))

    def _note(self, action: Action) -> Action:
        self.ended.append(action.id)
        self.endings.put_nowait(action)
        return action


@dataclass
class Governed:
    """A sidecar in this loop, and what stands behind it. ``policy`` is its file; ``URL`` in it is the upstream's."""

    app: App
    url: str
    policy: Path
    upstream: ScriptedUpstream
    witness: Witness
    data: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def drains(self) -> Drains:
        return self.app._gate._drains  # type: ignore[attr-defined, no-any-return]

    @property
    def load(self) -> Load:
        return self.app.sidecar.load

    @property
    def ledger(self) -> Ledger:
        return self.app.sidecar.ledger

    def connect(self) -> Any:
        """A connection of one's own, as `async with`."""
        return Raw.connect(self.port)

    async def post(self, target: str, body: Any, *headers: bytes) -> Answer:
        """The answer to a POST; ``body`` is JSON, or bytes as they stand. From ``worker``, unless headers are given."""
        async with self.connect() as raw:
            await raw.send(post(target, body, *headers))
            return await raw.answer()

    async def get(self, target: str, *headers: bytes, method: str = "GET") -> Answer:
        async with self.connect() as raw:
            await raw.send(request(method, target, *headers))
            return await raw.answer(method)

    async def ended(self) -> Action:
        """The next reservation's end, as it was recorded."""
        async with asyncio.timeout(WAIT_S):
            return await self.witness.endings.get()

    async def hung_up(self) -> None:
        """Until the sidecar knows that the client of one call has gone."""
        await until(lambda: self.drains.open == 1)

    def standing(self, budget: str = "monthly_budget", agent: str = "worker") -> Standing:
        return next(each for each in self.ledger.standings(agent) if each.budget.name == budget)

    async def actions(self) -> Sequence[Action]:
        return (await self.ledger.actions(ActionFilter())).items

    async def alerts(self) -> Sequence[Alert]:
        return await self.ledger.alerts()

    async def api(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Of the admin's."""
        async with httpx.AsyncClient(base_url=self.url, headers=ADMIN_HEADERS) as client:
            return await client.request(method, path, **more)

    def write_policy(self, text: str) -> None:
        self.policy.write_text(text.replace("URL", self.upstream.url))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():
            await asyncio.sleep(0.005)


class FullDisk:
    """From `begin` to `end` no byte more can be written to a file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    def begin(self) -> None:
        def write(fd: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self._patch.setattr("proxy.ledger.journal.os.write", write)

    def end(self) -> None:
        self._patch.undo()


def request(method: str, target: str, *headers: bytes, body: bytes = b"") -> bytes:
    head = [f"{method} {target} HTTP/1.1".encode(), b"Host: localhost", *(headers or AS_WORKER)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def post(target: str, body: Any, *headers: bytes) -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request("POST", target, b"Content-Length: %d" % len(raw), *(headers or AS_WORKER), body=raw)


@asynccontextmanager
async def governed(
    folder: Path, policy: str, script: Script, *, left_open: int = 0, **settings: Any
) -> AsyncIterator[Governed]:
    """Promise 3 is asked of every test: at its end each reservation made has ended, once, but for ``left_open``."""
    async with ScriptedUpstream(script) as upstream:
        file = folder / "policy.yaml"
        file.write_text(policy.replace("URL", upstream.url))
        async with in_process(file, folder / "data", **settings) as (app, url):
            witness = Witness(app.sidecar.ledger)
            app.sidecar.ledger = witness  # type: ignore[assignment]
            yield Governed(app, url, file, upstream, witness, folder / "data")
        still_open = [reservation.action_id for reservation in witness.reservations()]
        assert sorted(witness.ended + still_open) == sorted(witness.admitted)
        assert len(still_open) == left_open
        assert not any(in_flight for _, in_flight, _ in app.sidecar.places.standings()), "each place is given back"
