"""`agent-ledger agents`: who spends how much of what; one of them; pause and resume."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from msgspec import Raw

from proxy.terminal import actions
from proxy.terminal.client import Client, Row, add_options, row_of, segment
from proxy.terminal.output import NONE, about, array, as_sent, exact, out, percent, told
from proxy.terminal.table import Column, Table
from proxy.terminal.times import shown

LATEST = 10  # actions of one agent

_AGENTS = (
    Column("ID", least=8), Column("NAME", least=8, spare=3), Column("STATUS"), Column("SPENT", "money"),
    Column("BUDGET", "money"), Column("USED", "number", spare=4), Column("RESERVED", "money", spare=2),
    Column("AVAILABLE", "money", spare=5), Column("PER ACTION", "money", spare=1),
)  # fmt: skip
_BUDGETS = (
    Column("BUDGET", least=10), Column("OF", least=6, spare=2), Column("PERIOD"), Column("SPENT", "money"),
    Column("AMOUNT", "money"), Column("USED", "number"), Column("RESERVED", "money", spare=3),
    Column("AVAILABLE", "money", spare=4), Column("MODE", spare=1),
)  # fmt: skip


def add_command(commands: Any) -> None:
    command = commands.add_parser("agents", help="the agents of a running sidecar: what each spent, and may spend")
    command.set_defaults(run=_list)
    _options(command)
    below = command.add_subparsers(metavar="COMMAND")
    for name, run, about_it in (
        ("show", _show, "one agent: its budgets and latest actions"),
        ("pause", _pause, "admit no more calls of it; those in flight end"),
        ("resume", _resume, "admit its calls again"),
    ):
        command = below.add_parser(name, help=about_it)
        command.set_defaults(run=run)
        command.add_argument("agent", metavar="ID")
        _options(command, suppress=True)
        if name == "pause":
            command.add_argument("--reason", metavar="TEXT", help="shown with it, and told to whoever is denied")


def _options(command: argparse.ArgumentParser, *, suppress: bool = False) -> None:
    add_options(command, suppress=suppress)
    default = argparse.SUPPRESS if suppress else False
    command.add_argument("--json", action="store_true", default=default, help="as the API has it, numbers exact")


def _list(options: argparse.Namespace) -> int:
    with Client(options.url, options.data) as client:
        raws = client.rows("/api/agents")
    if options.json:
        array(raws)
    elif not raws:
        out("No agents yet: the policy's `agents:` names them, or POST /api/agents makes one.")
    else:
        agents = [row_of(raw) for raw in raws]
        table = Table(_AGENTS)
        rows, totals = [_agent(agent) for agent in agents], _totals(agents)
        table.fit([*rows, totals])
        out(table.head())
        for row in rows:
            out(table.line(row))
        out(table.line(totals, bold=True))
    return 0


def _agent(agent: Row) -> Sequence[str]:
    return (
        agent["id"],
        agent["name"],
        agent["status"],
        about(agent["currentSpend"]),
        about(agent["monthlyBudget"]),
        percent(agent["currentSpend"], agent["monthlyBudget"]),
        about(agent["reserved"]),
        about(agent["budgetRemaining"]),
        about(agent["perActionLimit"]),
    )


def _totals(agents: Sequence[Row]) -> Sequence[str]:
    names = ("currentSpend", "monthlyBudget", "reserved", "budgetRemaining")
    spent, budget, reserved, available = (sum(agent[name] for agent in agents) for name in names)
    paused = sum(agent["status"] == "paused" for agent in agents)
    many = f"{len(agents)} agent{'s' * (len(agents) != 1)}"
    told_paused = f"{paused} of them paused" if paused else ""
    used = percent(spent, budget)
    return (many, told_paused, "", about(spent), about(budget), used, about(reserved), about(available), "")


def _show(options: argparse.Namespace) -> int:
    body = _call(options, "GET")
    if options.json:
        out(as_sent(body))
        return 0
    agent = row_of(body)
    out(_described(agent))
    out("")
    for line in Table(_BUDGETS).lines([_budget(budget) for budget in agent["budgets"]]):
        out(line)
    out("")
    latest = agent["actions"][LATEST - 1 :: -1]
    if not latest:
        out("No actions yet.")
    for line in actions.table(of_one=True).lines([actions.cells(action) for action in latest]) if latest else ():
        out(line)
    return 0


def _described(agent: Row) -> str:
    why = f": {told(agent['pausedReason'])}" if agent["pausedReason"] else ""
    spent, budget = agent["currentSpend"], agent["monthlyBudget"]
    return "\n".join(
        (
            f"{told(agent['id'])}: {told(agent['name'])} (role {told(agent['role'])}, owner {told(agent['ownerId'])})",
            f"  status      {agent['status']}{why}",
            f"  this month  {exact(spent)} of {exact(budget)} spent ({percent(spent, budget)}), "
            f"{exact(agent['reserved'])} reserved, {exact(agent['budgetRemaining'])} available",
            f"  per action  {'no limit' if agent['perActionLimit'] is None else exact(agent['perActionLimit'])}",
            f"  since       {shown(agent['createdAt'])}",
        )
    )


def _budget(budget: Row) -> Sequence[str]:
    return (
        budget["name"],
        budget["group"] or NONE,
        budget["period"],
        exact(budget["spent"]),
        exact(budget["amount"]),
        percent(budget["spent"], budget["amount"]),
        exact(budget["reserved"]),
        exact(budget["available"]),
        budget["mode"],
    )


def _pause(options: argparse.Namespace) -> int:
    return _changed(options, {"status": "paused"} | ({"pausedReason": options.reason} if options.reason else {}))


def _resume(options: argparse.Namespace) -> int:
    return _changed(options, {"status": "active"})


def _changed(options: argparse.Namespace, changes: dict[str, str]) -> int:
    body = _call(options, "PATCH", changes)
    if options.json:
        out(as_sent(body))
    else:
        agent = row_of(body)
        why = f": {told(agent['pausedReason'])}" if agent["pausedReason"] else ""
        out(f"{told(agent['id'])} is {agent['status']}{why}")
    return 0


def _call(options: argparse.Namespace, method: str, changes: dict[str, str] | None = None) -> Raw | bytes:
    with Client(options.url, options.data) as client:
        return client.call(method, f"/api/agents/{segment(options.agent)}", body=changes)
