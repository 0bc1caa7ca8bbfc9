"""A ledger of the embedded engine behind the dashboard's server, at a time of the tests' own; and a page as text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import unescape
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from policy.model import AgentSpec, Budget, Limit, Policy, Scope, Upstream
from proxy.ledger.port import Call

USD = 1_000_000_000
DAY = 86_400_000
HOUR = 3_600_000
NOON = int(datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()) * 1000
BERLIN = ZoneInfo("Europe/Berlin")

POLICY = Policy(
    hash="5e884898da280471",
    zone=BERLIN,
    upstreams={"demo": Upstream("demo", "builtin:demo")},
    agents={
        "bot": AgentSpec(
            "bot", "Bot", "Search", "growth", 100 * USD, 5 * USD, managed=frozenset({"name", "monthly_budget", "key"}),
            key="alk_of-the-policy-file",
        ),
    },
    budgets=(
        Budget("bot-day", 20 * USD, "day", BERLIN, Scope(each="agent")),
        Budget("tried", USD, "month", BERLIN, Scope(owner_ids=("growth",)), mode="shadow"),
        Budget("others", USD, "month", BERLIN, Scope(owner_ids=("platform",))),
    ),
    limits=(
        Limit("burst", requests=120, scope=Scope(each="agent", upstreams=("demo",))),
        Limit("wide", concurrent=7),
        Limit("elsewhere", requests=1, scope=Scope(agents=("nobody",))),
    ),
)  # fmt: skip


@dataclass
class Clock:
    """Unix ms, as the ledger reads it."""

    at: int = NOON

    def __call__(self) -> int:
        return self.at


def call(cost: int | None, target: str = "demo:gpt-4o", agent: str = "bot", **fields: Any) -> Call:
    return Call(agent, "api_call", target, target.partition(":")[0], "models", cost, **fields)


def text(page: str) -> str:
    """What a person reads: no markup, spaces as one."""
    found = re.sub(r"<(script|datalist)\b.*?</\1>|<!--.*?-->", " ", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", found)).replace("$ ", "$").split())


def rows(page: str, part: str) -> list[list[str]]:
    """The cells of the table's body within the element of that id."""
    body = re.search(rf'id="{part}".*?<tbody>(.*?)</tbody>', page, re.DOTALL)
    assert body is not None
    return [
        [re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", "", cell))).strip() for cell in cells]
        for row in re.findall(r"<tr.*?</tr>", body[1], re.DOTALL)
        if (cells := re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", row, re.DOTALL))
    ]


@dataclass
class Form:
    """The fields of the page's form that posts to that path, as a browser would send them back."""

    page: str
    action: str
    fields: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        found = re.search(rf'<form[^>]*action="{re.escape(self.action)}"[^>]*>(.*?)</form>', self.page, re.DOTALL)
        assert found is not None, self.action
        inputs = re.findall(r'<input\b[^>]*?name="(\w+)"(?:[^>]*?value="([^"]*)")?', found[1])
        selects = re.findall(r'<select\b[^>]*?name="(\w+)">(.*?)</select>', found[1], re.DOTALL)
        self.fields = {name: unescape(value) for name, value in inputs}
        for name, options in selects:
            chosen = re.search(r'value="(\w+)" selected', options) or re.search(r'value="(\w+)"', options)
            assert chosen is not None
            self.fields[name] = chosen[1]

    async def post(self, client: httpx.AsyncClient, changed: Mapping[str, str] | None = None) -> httpx.Response:
        return await client.post(self.action, data=self.fields | dict(changed or {}))
