"""`agent-ledger actions`: the latest ones, and each new one as it is recorded."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from msgspec import Raw, Struct

from proxy.terminal.client import Client, Refusal, Row, add_options, row_of
from proxy.terminal.follow import NOW, follow
from proxy.terminal.output import array, as_sent, exact, out, tell
from proxy.terminal.table import Column, Table
from proxy.terminal.times import FORMS, moment, shown

OUTCOMES = ("success", "failure", "denied")
LIMIT, LIMIT_FOLLOWED, LIMIT_MAX = 50, 10, 100_000

_PAGE = 1000  # of the API
_COLUMNS = (
    Column("TIME"), Column("AGENT", least=8), Column("TARGET", least=10), Column("OUTCOME"), Column("COST", "money"),
    Column("NOTE", least=16, spare=2), Column("ID", spare=1),
)  # fmt: skip
# A table that is followed is fitted before its rows are known: to these, and what was there when it began.
_USUAL = (
    "Nov 22 14:03:22",
    "researcher",
    "openai:gpt-4o-mini",
    "success",
    "$0.000001",
    "budget_exceeded",
    "act_" + "0" * 28,
)


class Page(Struct, rename="camel"):
    items: list[Raw]
    next_cursor: str | None


def add_command(commands: Any) -> None:
    command = commands.add_parser("actions", help="the latest actions of a running sidecar, newest last")
    command.set_defaults(run=_run)
    add_options(command)
    command.add_argument("--agent", metavar="ID", help="of this agent alone")
    command.add_argument("--outcome", choices=OUTCOMES)
    command.add_argument("--since", type=moment, metavar="WHEN", help=FORMS)
    command.add_argument("--until", type=moment, metavar="WHEN", help="up to then, and not that moment itself")
    command.add_argument(
        "--limit", type=_limit, metavar="N", help=f"the latest so many (default: {LIMIT}, followed {LIMIT_FOLLOWED})"
    )
    command.add_argument(
        "--follow", action="store_true", help="go on with each new one as it is recorded, until Ctrl-C"
    )
    command.add_argument("--json", action="store_true", help="as the API has it, numbers exact; followed, one a line")


def _limit(text: str) -> int:
    if not 0 <= (number := int(text)) <= LIMIT_MAX:
        raise argparse.ArgumentTypeError(f"must be from 0 to {LIMIT_MAX}; `export` has all there are")
    return number


def _run(options: argparse.Namespace) -> int:
    given = {"agentId": options.agent, "outcome": options.outcome, "since": options.since, "until": options.until}
    if options.follow and options.until:
        tell("--until ends a list, and --follow goes on")
        return 2
    asked = {name: value for name, value in given.items() if value is not None}
    with Client(options.url, options.data) as client:
        if options.follow:
            limit = LIMIT_FOLLOWED if options.limit is None else options.limit
            return follow(Feed(client, asked), limit, _Lines(options.json).show)
        raws = Feed(client, asked).latest(LIMIT if options.limit is None else options.limit)
    if options.json:
        array(raws)
    elif not raws:
        out("No actions.")
    else:
        for line in table().lines([cells(row_of(raw)) for raw in raws]):
            out(line)
    return 0


class Feed:
    """The actions that are asked for, as the API has them."""

    def __init__(self, client: Client, asked: dict[str, Any]) -> None:
        self._client = client
        self._asked = asked

    def latest(self, limit: int) -> list[Raw]:
        """So many, the newest last."""
        raws: list[Raw] = []
        cursor: dict[str, str] = {}
        while len(raws) < limit:
            page = self._page(cursor | {"limit": min(_PAGE, limit - len(raws))})
            raws += page.items
            if page.next_cursor is None:
                break
            cursor = {"cursor": page.next_cursor}
        return raws[::-1]

    def after(self, place: str) -> tuple[list[Raw], str, bool]:
        """What was recorded after that place, the place to go on from, and whether there may be more already."""
        try:
            page = self._page({"after": place, "limit": _PAGE})
        except Refusal as refusal:
            if place == NOW and refusal.field == "after":
                raise self._client.unsupported() from refusal
            raise
        return page.items, page.next_cursor or place, len(page.items) == _PAGE

    def _page(self, more: dict[str, Any]) -> Page:
        client = self._client
        return client.read(client.call("GET", "/api/actions", params=self._asked | more), Page)


class _Lines:
    """Actions printed as they come."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._table: Table | None = None

    def show(self, raws: Sequence[Raw]) -> None:
        if self._json:
            for raw in raws:
                out(as_sent(raw))
            return
        rows = [cells(row_of(raw)) for raw in raws]
        if self._table is None:
            self._table = table()
            self._table.fit([*rows, _USUAL])
            out(self._table.head())
        for row in rows:
            out(self._table.line(row))


def table(*, of_one: bool = False) -> Table:
    """For rows of `cells`. ``of_one``: all are of one agent, who need not be named where room is short."""
    agent = Column("AGENT", least=8, spare=1 if of_one else 0)
    return Table([agent if column.title == "AGENT" else column for column in _COLUMNS])


def cells(action: Row) -> Sequence[str]:
    return (
        shown(action["createdAt"]),
        action["agentId"],
        action["target"],
        action["outcome"],
        exact(action["cost"]),
        _note(action),
        action["id"],
    )


def _note(action: Row) -> str:
    """Why, and what is unusual."""
    status = action.get("upstreamStatus")
    said = (
        action["reason"],
        action["budget"],
        f"status {status}" if action["outcome"] == "failure" and status is not None else None,
        "unconfirmed" if action["unconfirmed"] else None,
        *(f"shadow: {reason}" for reason in action["softened"]),
        f"×{action['count']}" if action["count"] > 1 else None,
    )
    return " ".join(text for text in said if text)
