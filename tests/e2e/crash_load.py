"""The load of a crash campaign: an upstream that logs every call it gets, clients that note every answer they get."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import httpx

from tests.e2e.crash_audit import check
from tests.sidecar import ADMIN_HEADERS

AGENTS = ("w0", "w1", "w2", "poor")
STREAM_PARTS = 4
AGENTS_MADE_MAX = 40


def number_of(model: str) -> int:
    """Models are named `m<life>-<number>`: how the upstream answers a call follows from the number alone."""
    return int(model.rpartition("-")[2])


def usage_of(model: str) -> tuple[int, int]:
    """(prompt, completion) tokens; now and then more than the request allows for."""
    number = number_of(model)
    return 20 + number % 50, 400 if number % 41 == 0 else number % 100


def charge_of(model: str) -> int:
    """At the policy's 1 and 2 USD per million tokens, in nano-dollars."""
    prompt, completion = usage_of(model)
    return prompt * 1000 + completion * 2000


def nano(usd: str) -> int:
    return int(Decimal(usd) * 10**9)


class Upstream:
    """Speaks just enough HTTP. ``received`` has the model of every call, in order."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.url = ""
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Upstream:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *raised: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*self._open)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                body = json.loads(await reader.readexactly(length))
                self.received.append(body["model"])
                await self._answer(body, writer)
        except (asyncio.IncompleteReadError, ConnectionError, RuntimeError):
            pass  # its sidecar was killed (RuntimeError: uvloop's, of a write to a connection that was closed)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            del self._open[task]

    async def _answer(self, body: dict, writer: asyncio.StreamWriter) -> None:
        number = number_of(body["model"])
        prompt, completion = usage_of(body["model"])
        usage = {"prompt_tokens": prompt, "completion_tokens": completion}
        await asyncio.sleep(0.5 if number % 13 == 0 else number % 5 / 200)
        if number % 19 == 0:
            raise ConnectionResetError
        if number % 17 == 0:
            writer.write(b"HTTP/1.1 500 Down\r\ncontent-length: 2\r\n\r\n{}")
        elif body.get("stream"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            said = [{"choices": [{"delta": {"content": "hi"}}]}] * STREAM_PARTS + [{"choices": [], "usage": usage}]
            for part in [*map(json.dumps, said), "[DONE]"]:
                event = f"data: {part}\n\n".encode()
                writer.write(b"%x\r\n%b\r\n" % (len(event), event))
                await writer.drain()
                await asyncio.sleep(number % 3 / 200)
            writer.write(b"0\r\n\r\n")
        else:
            text = json.dumps({"model": body["model"], "choices": [], "usage": usage}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(text))
            writer.write(text)
        await writer.drain()


class _Transport(httpx.AsyncHTTPTransport):
    """A connection that the kill closes while it is made fails as any other: uvloop then has no socket for anyio."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except AttributeError as error:
            if error.name != "getpeername":
                raise
            raise httpx.ConnectError(str(error), request=request) from error


@dataclass
class Report:
    """A self-reported action under its Idempotency-Key; ``answer`` is (status, body), once there was one."""

    key: str
    body: bytes
    answer: tuple[int, bytes] | None = None


@dataclass
class Notes:
    """What the clients of one life were told."""

    begun: dict[str, str] = field(default_factory=dict)  # the action of each model, from its answer's head
    settled: dict[str, int] = field(default_factory=dict)  # the charge of each action, from its answer's end
    voided: set[str] = field(default_factory=set)
    denied: dict[str, str] = field(default_factory=dict)  # reason by action
    made: dict[str, str] = field(default_factory=dict)  # agent ids and their keys
    acknowledged: set[str] = field(default_factory=set)
    answered: list[Report] = field(default_factory=list)
    policy: int | None = None  # the variant that was put in force


class Load:
    """Clients of one life. They end with the sidecar; what they leave behind is in ``notes`` and the arguments."""

    def __init__(
        self,
        url: str,
        life: int,
        rng: random.Random,
        reports: list[Report],
        keys: dict[str, str],
        budgets: dict[str, set[str]],
        change_policy: Callable[[], int],
        hang_up: Callable[[], None],
    ) -> None:
        """``reports`` of this life and those before, to be tried again; ``keys`` of agents made; ``budgets`` that these
        may have: the last one acknowledged and those tried since. ``change_policy`` writes another variant of the file,
        and ``hang_up`` sends SIGHUP."""
        self.notes = Notes()
        self._url = url
        self._life = life
        self._rng = rng
        self._reports = reports
        self._keys = keys
        self._budgets = budgets
        self._change_policy = change_policy
        self._hang_up = hang_up
        self._number = 0

    async def run(self) -> None:
        """Until cancelled, or the sidecar has gone."""
        async with httpx.AsyncClient(base_url=self._url, timeout=20, transport=_Transport(verify=False)) as client:
            self._client = client
            work = [*[self._call] * 6, self._report, self._administer]
            tasks = [asyncio.ensure_future(self._forever(each)) for each in work]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except httpx.TransportError:
                return  # killed

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _expect(self, answer: httpx.Response, *statuses: int) -> None:
        check(answer.status_code in statuses, answer.request.method, answer.request.url.path, answer, answer.text)

    async def _post(self, path: str, body: dict | bytes, method: str = "POST", **headers: str) -> httpx.Response:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        told = ADMIN_HEADERS | {"content-type": "application/json"} | headers
        return await self._client.request(method, path, content=text, headers=told)

    async def _call(self) -> None:
        """A model call: whole or streamed, by a file's agent or one that was made, some of them alike and denied."""
        rng, notes = self._rng, self.notes
        made = list(self._keys)
        agent_id = rng.choice([*AGENTS, "w0", "w0", "w0", *rng.sample(made, min(2, len(made)))])  # one is crowded
        alike = agent_id == "poor" and rng.random() < 0.7
        model = f"m0-{self._life}" if alike else f"m{self._life}-{self._next()}"
        body = {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "hi " * rng.randrange(40)}]}
        if alike:
            body["max_tokens"] = 1_000_000  # above its budget, always
        if rng.random() < 0.4:
            body["stream"] = True
        who = {"x-ledger-key": self._keys[agent_id]} if agent_id in self._keys else {"x-agent-id": agent_id}
        async with self._client.stream("POST", "/up/v1/chat/completions", json=body, headers=who) as answer:
            action_id = answer.headers.get("x-ledger-action-id")
            if action_id is not None and answer.status_code in (200, 500):
                notes.begun[model] = action_id
            text = await answer.aread()
        self._expect(answer, 200, 403, 429, 500, 502)
        if answer.status_code == 200 and action_id is not None:
            notes.settled[action_id] = charge_of(model)
        elif answer.status_code == 500 and action_id is not None:
            notes.voided.add(action_id)
        elif answer.status_code in (403, 429):
            error = json.loads(text)["error"]
            notes.denied[error["actionId"]] = error["code"]
            await asyncio.sleep(0.02)

    async def _report(self) -> None:
        """A self-reported action: a new one, or one of before under its key, which must be answered as it was."""
        rng = self._rng
        if self._reports and rng.random() < 0.3:
            report = rng.choice(self._reports)
        else:
            cost = f"0.{rng.randrange(100_000):09d}"
            said = f'"agentId":"{rng.choice(AGENTS)}","actionType":"tool","target":"t:x","outcome":"success"'
            body = f'{{{said},"cost":{cost}}}'
            report = Report(f"k{self._life}-{self._next()}", body.encode())
            self._reports.append(report)
        answer = await self._post("/api/actions", report.body, **{"idempotency-key": report.key})
        self._expect(answer, 201, 403, 429)
        told = answer.status_code, answer.content
        if answer.status_code == 429:
            pass  # passes: the same key may try again
        elif report.answer is None:
            report.answer = told
            self.notes.answered.append(report)
        else:
            again = told == report.answer and "idempotency-replayed" in answer.headers
            check(again, "key", report.key, "was answered", report.answer, "then", told)
        await asyncio.sleep(rng.random() * 0.02)

    async def _administer(self) -> None:
        """One thing an operator does."""
        rng = self._rng
        await rng.choice([self._resume, self._resume, self._make, self._budget, self._acknowledge, self._reload])()
        await asyncio.sleep(rng.random() * 0.04)

    async def _resume(self) -> None:
        agent_id = self._rng.choice([*AGENTS, *self._keys])
        self._expect(await self._post(f"/api/agents/{agent_id}", {"status": "active"}, "PATCH"), 200)

    async def _make(self) -> None:
        if len(self._keys) >= AGENTS_MADE_MAX:
            return
        budget = f"0.00{self._rng.randrange(10, 99)}"
        said = f'"name":"made {self._next()}","role":"r","ownerId":"o","perActionLimit":null'
        answer = await self._post("/api/agents", f'{{{said},"monthlyBudget":{budget}}}'.encode())
        self._expect(answer, 201)
        made = json.loads(answer.content)
        self._keys[made["id"]] = self.notes.made[made["id"]] = made["key"]
        self._budgets[made["id"]] = {budget}

    async def _budget(self) -> None:
        if not self._keys:
            return
        agent_id = self._rng.choice(list(self._keys))
        budget = f"0.00{self._rng.randrange(10, 99)}"
        self._budgets[agent_id].add(budget)
        answer = await self._post(f"/api/agents/{agent_id}", f'{{"monthlyBudget":{budget}}}'.encode(), "PATCH")
        self._expect(answer, 200)
        self._budgets[agent_id] = {budget}

    async def _acknowledge(self) -> None:
        answer = await self._client.get("/api/alerts", headers=ADMIN_HEADERS)
        self._expect(answer, 200)
        waiting = [alert["id"] for alert in json.loads(answer.content) if alert["acknowledgedAt"] is None]
        for alert_id in self._rng.sample(waiting, min(2, len(waiting))):
            acknowledged = await self._post(f"/api/alerts/{alert_id}/acknowledge", {})
            self._expect(acknowledged, 200)
            self.notes.acknowledged.add(alert_id)

    async def _reload(self) -> None:
        """By SIGHUP, which acknowledges nothing, or by the API, which does."""
        variant, self.notes.policy = self._change_policy(), None
        if variant % 3:
            self._expect(await self._post("/api/policy/reload", {}), 200)
            self.notes.policy = variant
        else:
            self._hang_up()


def amounts_of(variant: int) -> dict[str, str]:
    """The policy's own budgets, in USD; every other policy has one more."""
    amounts = {"all": f"0.01{variant % 5}", "hourly": f"0.00{15 + variant % 10}", "ever": "0.001"}
    return amounts if variant % 2 else {name: amounts[name] for name in ("all", "hourly")}


def write_policy(path: Path, url: str, durability: str, variant: int) -> None:
    """One of the campaign's policies, replaced whole."""
    terms = {"all": "period: day", "hourly": "period: hour, each: agent", "ever": "period: total, match: {agent: poor}"}
    lines = [
        "version: 1",
        f"defaults: {{durability: {durability}}}",
        f'upstreams: {{up: {{url: "{url}", meter: openai}}}}',
        "agents:",
        *(f"  - {{id: {agent}, monthly_budget: 0.00{5 + number}}}" for number, agent in enumerate(AGENTS)),
        "prices:",
        "  - {name: chat, match: {upstream: up}, rates: {input_mtok: 1, output_mtok: 2}}",
        "budgets:",
        *(f"  - {{name: {name}, amount: {usd}, {terms[name]}}}" for name, usd in amounts_of(variant).items()),
    ]
    temporary = path.with_suffix(".new")
    temporary.write_text("\n".join(lines) + "\n")
    temporary.replace(path)
