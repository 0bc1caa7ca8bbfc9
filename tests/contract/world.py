"""A ledger, its clock and its policy, driven by scripts: one line a step, with the exact result it must have.

authorize a 5.00 as x      → ok 95.00                      allowed; the least room left in a budget
authorize a 96.00          → budget_exceeded monthly_budget
settle x 4.00 | void x     → 4.00 | 0.00                   the action's cost; `unconfirmed`, if it is
record a 1.00 key k body b → ok 1.00 | replayed 1.00
balance agent-day a        → 4.00+0.00                     spent+reserved
alerts                     → budget_threshold overrun      types, oldest first, of what is new
patch a status=active      → active
forward 1d | restart | use NAME | clock 2026-11-30T23:59:59Z
… → NotOpen                                                 the error it raises, or the status of an agent
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from policy.model import Policy
from policy.money import NANO, format_usd, parse_usd
from proxy.ledger.port import Action, Admission, Alert, Call, Denial, Ledger, LedgerError, Settlement

START = "2026-10-10T12:00:00Z"
UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Open(Protocol):
    """Opens the engine under test on a data folder; again on the same folder after the first is closed."""

    async def __call__(self, data: Path, clock: Callable[[], int]) -> Ledger: ...


def ms(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)


def call(agent: str = "a", estimate: int | None = NANO, **other: Any) -> Call:
    upstream, price = other.pop("upstream", "openai"), other.pop("price", "catalog")
    target = other.pop("target", f"{upstream}:{price}")
    return Call(agent, "llm", target, upstream, price, estimate, {"request": "1"}, "hash", **other)


def dollars(nano: int) -> str:
    return format_usd(nano).replace("$", "")


class World:
    def __init__(self, open_: Open, data: Path, policies: Mapping[str, Policy]) -> None:
        self.at = ms(START)
        self.data = data
        self.policies = policies
        self.policy = next(iter(policies.values()))
        self.ids: dict[str, str] = {}
        self.seen: set[str] = set()
        self._open = open_
        self._ledger: Ledger | None = None

    @property
    def ledger(self) -> Ledger:
        assert self._ledger is not None
        return self._ledger

    async def start(self) -> None:
        self._ledger = await self._open(self.data, lambda: self.at)
        await self.ledger.use(self.policy)

    async def stop(self) -> None:
        if self._ledger is not None:
            ledger, self._ledger = self._ledger, None
            await ledger.close()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def run(self, script: str) -> None:
        """Play the script; an AssertionError names the line that had another result."""
        for number, line in enumerate(script.strip().splitlines(), 1):
            step, _, expected = (part.strip() for part in line.partition("→"))
            if not step or step.startswith("#"):
                continue
            name, *words = step.split()
            try:
                result = await getattr(self, f"do_{name}")(*words)
            except LedgerError as error:
                result = type(error).__name__
            assert (result or "") == expected, f"line {number}: {step} → {result}, not {expected}"

    async def do_clock(self, moment: str) -> None:
        self.at = ms(moment)

    async def do_forward(self, length: str) -> None:
        self.at += int(length[:-1]) * UNITS_MS[length[-1]]

    async def do_restart(self) -> None:
        await self.restart()

    async def do_use(self, name: str) -> None:
        self.policy = self.policies[name]
        await self.ledger.use(self.policy)

    async def do_authorize(self, agent: str, cost: str, *words: str) -> str:
        options = _options(words)
        name = options.pop("as", None)
        estimate = None if cost == "unpriced" else parse_usd(cost)
        answer = await self.ledger.authorize(call(agent, estimate, **options))
        if isinstance(answer, Denial):
            return _denied(answer)
        assert isinstance(answer, Admission)
        self.ids[name or "_"] = answer.action_id
        softened = "".join(f" shadow:{verdict.reason}" for verdict in answer.softened)
        room = "" if answer.remaining is None else f" {dollars(answer.remaining)}"
        return f"ok{room}{softened}"

    async def do_preview(self, agent: str, cost: str, *words: str) -> str:
        verdict = await self.ledger.preview(call(agent, parse_usd(cost), **_options(words)))
        return "ok" if verdict is None else " ".join(filter(None, (verdict.reason, verdict.budget)))

    async def do_settle(self, name: str, cost: str, *words: str) -> str:
        charge = None if cost == "reserved" else parse_usd(cost)
        outcome = "failure" if "failure" in words else "success"
        settlement = Settlement(charge, outcome, {"input_tokens": 1}, unconfirmed="unconfirmed" in words)
        return _ended(await self.ledger.settle(self.ids.get(name, name), settlement))

    async def do_void(self, name: str) -> str:
        return _ended(await self.ledger.void(self.ids.get(name, name), Settlement(None, "failure")))

    async def do_record(self, agent: str, cost: str, *words: str) -> str:
        options = _options(words)
        key = (options.pop("key"), options.pop("body")) if "key" in options else None
        outcome = options.pop("outcome", "success")
        recorded = await self.ledger.record(call(agent, parse_usd(cost), **options), outcome, key)
        how = "replayed" if recorded.replayed else "ok"
        if recorded.denial is not None:
            return ("replayed " if recorded.replayed else "") + _denied(recorded.denial)
        assert recorded.action is not None
        return f"{how} {dollars(recorded.action.cost)}"

    async def do_patch(self, agent: str, *words: str) -> str:
        changes: dict[str, Any] = dict(word.split("=", 1) for word in words)
        for name in ("monthly_budget", "per_action_limit"):
            if name in changes:
                changes[name] = parse_usd(changes[name])
        for name in ("archived", "auto_resume"):
            if name in changes:
                changes[name] = changes[name] == "yes"
        return (await self.ledger.change_agent(agent, changes)).status

    async def do_status(self, agent: str) -> str:
        found = self.ledger.agent(agent)
        return "none" if found is None else "archived" if found.archived else found.status

    async def do_balance(self, name: str, group: str = "") -> str:
        for agent in self.ledger.agents():
            for standing in self.ledger.standings(agent.id):
                if (standing.budget.name, standing.group) == (name, group):
                    return f"{dollars(standing.spent)}+{dollars(standing.reserved)}"
        return "none"

    async def do_alerts(self) -> str:
        return " ".join(alert.type for alert in await self.new_alerts())

    async def new_alerts(self) -> list[Alert]:
        alerts = [alert for alert in reversed(await self.ledger.alerts()) if alert.id not in self.seen]
        self.seen |= {alert.id for alert in alerts}
        return alerts


def _options(words: tuple[str, ...]) -> dict[str, Any]:
    return dict(zip(words[::2], words[1::2], strict=True))


def _denied(denial: Denial) -> str:
    verdict = denial.verdict
    return " ".join(filter(None, (verdict.reason, verdict.budget)))


def _ended(action: Action) -> str:
    return dollars(action.cost) + (" unconfirmed" if action.unconfirmed else "")
