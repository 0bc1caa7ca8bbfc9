"""`agent-ledger alerts`: what an operator should know of, marking it read, and whether it would arrive."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Raw

from proxy.terminal.client import Client, Refusal, Row, add_options, row_of, segment
from proxy.terminal.output import NONE, array, out, tell, told
from proxy.terminal.table import Column, Table, terminal_width
from proxy.terminal.times import shown

_ALERTS = (Column("TIME"), Column("TYPE"), Column("AGENT", least=8), Column("STATE", spare=1), Column("ID"))
_TESTED = (Column("WEBHOOK", least=10), Column("DELIVERED"), Column("ERROR", least=20))
_OPEN = {"open": "true"}
_INDENT = "    "


def add_command(commands: Any) -> None:
    command = commands.add_parser("alerts", help="the alerts of a running sidecar, newest last")
    command.set_defaults(run=_list)
    _options(command)
    command.add_argument("--open", action="store_true", help="those not acknowledged")
    command.add_argument("--agent", metavar="ID", help="of this agent alone")
    below = command.add_subparsers(metavar="COMMAND")

    command = below.add_parser("acknowledge", help="mark alerts as read")
    command.set_defaults(run=_acknowledge)
    command.add_argument("alerts", metavar="ID", nargs="*")
    command.add_argument("--all", action="store_true", help="all that are open")
    _options(command, suppress=True)

    command = below.add_parser("test", help="send a test alert to each webhook of the policy, now")
    command.set_defaults(run=_test)
    _options(command, suppress=True)


def _options(command: argparse.ArgumentParser, *, suppress: bool = False) -> None:
    add_options(command, suppress=suppress)
    default = argparse.SUPPRESS if suppress else False
    command.add_argument("--json", action="store_true", default=default, help="as the API has it")


def _list(options: argparse.Namespace) -> int:
    with Client(options.url, options.data) as client:
        agent = {"agentId": options.agent} if options.agent else {}
        raws = client.rows("/api/alerts", agent | (_OPEN if options.open else {}))[::-1]
    _show(raws, options.json, "Nothing is open." if options.open else "No alerts.")
    return 0


def _show(raws: Sequence[Raw], as_json: bool, nothing: str) -> None:
    if as_json:
        array(raws)
        return
    if not raws:
        out(nothing)
        return
    alerts, table = [row_of(raw) for raw in raws], Table(_ALERTS)
    rows = [_cells(alert) for alert in alerts]
    table.fit(rows)
    out(table.head())
    for alert, row in zip(alerts, rows, strict=True):
        out(table.line(row))
        out(_wrapped(told(alert["message"])))


def _cells(alert: Row) -> Sequence[str]:
    read = alert["acknowledgedAt"]
    state = "open" if read is None else f"read {shown(read)}"
    return (shown(alert["createdAt"]), alert["type"], alert["agentId"] or NONE, state, alert["id"])


def _wrapped(text: str) -> str:
    width = terminal_width()
    if width is None:
        return _INDENT + text
    return textwrap.fill(text, max(width, 20), initial_indent=_INDENT, subsequent_indent=_INDENT)


def _acknowledge(options: argparse.Namespace) -> int:
    if bool(options.alerts) == options.all:
        tell("alerts acknowledge takes ids, or --all")
        return 2
    done: list[Raw] = []
    failed = False
    with Client(options.url, options.data) as client:
        for alert_id in _open_ids(client) if options.all else options.alerts:
            try:
                done.append(Raw(client.call("POST", f"/api/alerts/{segment(alert_id)}/acknowledge")))
            except Refusal as refusal:
                tell(f"{told(alert_id)}: {refusal}")
                failed = True
    if options.json:
        array(done)
    elif done or options.all:
        out(f"{len(done)} acknowledged" if done else "Nothing was open.")
    return 1 if failed else 0


def _open_ids(client: Client) -> Iterator[str]:
    """All that are open, as many as the API tells at once; those told before are acknowledged meanwhile, or stay."""
    told_before: set[str] = set()
    while ids := [row_of(raw)["id"] for raw in client.rows("/api/alerts", _OPEN)]:
        if told_before.issuperset(ids):
            return
        yield from (alert_id for alert_id in ids if alert_id not in told_before)
        told_before.update(ids)


def _test(options: argparse.Namespace) -> int:
    with Client(options.url, options.data) as client:
        raws = client.rows("/api/alerts/test", method="POST")
    tested = [row_of(raw) for raw in raws]
    if options.json:
        array(raws)
    elif not tested:
        out("The policy has no webhooks: an alert would be told to nobody.")
    else:
        rows = [(each["webhook"], "yes" if each["delivered"] else "no", each["error"] or "") for each in tested]
        for line in Table(_TESTED).lines(rows):
            out(line)
    return 0 if tested and all(each["delivered"] for each in tested) else 1
