"""`alerts:` — what is told, and to whom."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from policy.model import Webhook
from policy.parse.reader import Reader
from policy.parse.upstreams import read_url
from policy.source import Node, ScalarNode

ALERT_TYPES = (
    "budget_threshold",
    "budget_exceeded",
    "action_failed",
    "overrun",
    "policy_rejected",
    "failed_open",
    "journal_damaged",
    "history_missing",
)
_PERCENT = re.compile(r"[1-9]\d{0,3}%", re.ASCII)
_SECRET = re.compile(r"[!-~]{16,256}", re.ASCII)
_PORTS = {"http": 80, "https": 443}


def read_alerts(reader: Reader, node: Node | None) -> tuple[tuple[int, ...], tuple[Webhook, ...]]:
    """Thresholds in percent, ascending, and webhooks, each with a name of its own."""
    if node is None:
        return (), ()
    fields = reader.fields(node, "alerts", ("thresholds", "webhooks"))
    thresholds = {_percent(reader, item) for item in reader.items(fields.get("thresholds"), "percents, such as [80%]")}
    names: dict[str, ScalarNode] = {}
    webhooks = [_webhook(reader, item, names) for item in reader.items(fields.get("webhooks"), "webhooks")]
    return tuple(sorted(thresholds)), _named(webhooks)


def _percent(reader: Reader, node: Node) -> int:
    found = reader.scalar(node, "a percent, such as 80%", ("text", "number"))
    if found is None:
        return 0
    if not _PERCENT.fullmatch(found.value):
        reader.note(found, "percent", f"{found.quoted} is no percent such as 80%, from 1% to 9999%")
        return 0
    return int(found.value[:-1])


def _webhook(reader: Reader, node: Node, names: dict[str, ScalarNode]) -> Webhook:
    fields = reader.fields(node, "a webhook", ("url", "name", "format", "types", "secret"), required=("url",))
    types = reader.one_or_many(fields.get("types"), "a type of alert")
    return Webhook(
        url=read_url(reader, fields.get("url"), secret=True),
        format=reader.choice(fields.get("format"), ("json", "slack"), "json"),
        types=tuple(reader.choice(item, ALERT_TYPES, "budget_exceeded") for item in types),
        name=reader.unique(names, fields["name"], "webhook") if "name" in fields else "",
        secret=_secret(reader, fields.get("secret")),
    )


def _secret(reader: Reader, node: Node | None) -> str | None:
    found = reader.secret(node, "a webhook's secret")
    if found is None:
        return None
    if not _SECRET.fullmatch(found.value):
        message = "a webhook's secret has 16 to 256 characters of printable ASCII, without spaces"
        reader.note(found, "webhook-secret", message)
    return found.value


def _named(webhooks: Sequence[Webhook]) -> tuple[Webhook, ...]:
    """Those that state no name have their host's, and its port if that is not the scheme's own; where others have it
    already, with -2, -3… in the order of the file."""
    taken = {webhook.name for webhook in webhooks}
    found = []
    for webhook in webhooks:
        if not webhook.name:
            host, number = _host(webhook.url), 1
            name = host
            while name in taken:
                number += 1
                name = f"{host}-{number}"
            taken.add(name)
            webhook = replace(webhook, name=name)
        found.append(webhook)
    return tuple(found)


def _host(url: str) -> str:
    """Nothing of its path or query, which may be secrets. Of a url that is none, anything: the file is refused."""
    scheme, _, rest = url.partition("://")
    host, _, port = rest.partition("/")[0].lower().rpartition(":")
    if not host or not port.isdecimal():
        return f"{host}:{port}" if host else port
    return host if int(port) == _PORTS.get(scheme) else f"{host}:{int(port)}"
