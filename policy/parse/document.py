"""The whole policy file: its sections in the order in which they refer to each other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo

from policy.check import warnings_for
from policy.model import Mode, Policy, Rates
from policy.parse.agents import read_agents
from policy.parse.alerts import read_alerts
from policy.parse.budgets import ScopeContext, read_budgets, read_limits
from policy.parse.prices import PriceContext, read_prices
from policy.parse.rates import read_rate_map
from policy.parse.reader import MODES, Reader
from policy.parse.substitute import Substitution
from policy.parse.upstreams import read_upstreams
from policy.problems import Problem, Report, render
from policy.source import MapNode, Node, ScalarNode, compose, hidden_spans

_SECTIONS = ("version", "defaults", "upstreams", "agents", "prices", "budgets", "limits", "alerts")

Unpriced = Literal["deny", "free"] | Rates
_UNPRICED: tuple[Literal["deny", "free"], ...] = ("deny", "free")
Durability = Literal["normal", "strict"]
Failing = Literal["deny", "allow"]


class PolicyError(ValueError):
    """Every problem of a file that can't be used. Neither it nor its problems hold a secret, or the file's text."""

    def __init__(self, problems: tuple[Problem, ...], name: str) -> None:
        super().__init__(problems, name)
        self.problems = problems
        self.name = name

    def __str__(self) -> str:
        return self.render()

    def render(self) -> str:
        """``file:line:col: message [code]``, the source line and a caret, for each."""
        return render(self.problems, self.name)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A policy that loads, and what is odd about it."""

    policy: Policy
    warnings: tuple[Problem, ...] = ()
    name: str = "policy"

    def render(self) -> str:
        """The warnings, as PolicyError renders problems."""
        return render(self.warnings, self.name)


def parse_policy(text: str, *, name: str, env: Mapping[str, str], read_file: Callable[[str], str]) -> Parsed:
    """Parse a policy file's text. ``name`` is the file's, for messages; ``read_file`` answers ``${file:/path}``.

    Raises PolicyError with every problem found, and nothing else.
    """
    report = Report(text)
    root = compose(report)
    policy = None
    if root is not None:
        Substitution(report, env, read_file).apply(root)
        policy = _read_policy(Reader(report), root, text)
    if policy is None or root is None or report.failed:
        raise PolicyError(report.finish(hidden_spans(text, root)), name)
    warnings_for(policy, root, report)
    return Parsed(policy, report.finish(hidden_spans(text, root)), name)


@dataclass(frozen=True, slots=True)
class _Defaults:
    unpriced: Unpriced
    mode: Mode
    zone: ZoneInfo
    durability: Durability
    ledger_unavailable: Failing


def _read_policy(reader: Reader, root: Node, text: str) -> Policy:
    fields = reader.fields(root, "a policy", _SECTIONS, required=("version",))
    # A section whose entries are all commented out is empty, not wrong.
    sections = {key: node for key, node in fields.items() if not (isinstance(node, ScalarNode) and _is_empty(node))}
    _check_version(reader, fields.get("version"))
    defaults = _defaults(reader, sections.get("defaults"))
    upstream_names: dict[str, ScalarNode] = {}
    agent_names: dict[str, ScalarNode] = {}
    price_names: dict[str, ScalarNode] = {}
    upstreams = read_upstreams(reader, sections.get("upstreams"), upstream_names)
    agents = read_agents(reader, sections.get("agents"), agent_names)
    prices = read_prices(reader, sections.get("prices"), PriceContext(defaults.zone, upstream_names, price_names))
    scopes = ScopeContext(agent_names, upstream_names, price_names)
    budgets = read_budgets(reader, sections.get("budgets"), scopes, defaults.zone)
    limits = read_limits(reader, sections.get("limits"), scopes)
    thresholds, webhooks = read_alerts(reader, sections.get("alerts"))
    return Policy(
        hash=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16],
        unpriced=defaults.unpriced,
        mode=defaults.mode,
        zone=defaults.zone,
        durability=defaults.durability,
        ledger_unavailable=defaults.ledger_unavailable,
        upstreams=upstreams,
        agents=agents,
        prices=prices,
        budgets=budgets,
        limits=limits,
        thresholds=thresholds,
        webhooks=webhooks,
    )


def _is_empty(node: ScalarNode) -> bool:
    return node.plain and not node.broken and node.raw == ""


def _check_version(reader: Reader, node: Node | None) -> None:
    found = reader.scalar(node, "version: 1", ("number",))
    if found is not None and found.value != "1":
        reader.note(found, "version", f"this is agent-ledger's first grammar: version 1, not {found.quoted}")


def _defaults(reader: Reader, node: Node | None) -> _Defaults:
    known = ("unpriced", "mode", "timezone", "durability", "ledger_unavailable")
    fields = reader.fields(node, "defaults", known) if node else {}
    return _Defaults(
        unpriced=_unpriced(reader, fields.get("unpriced")),
        mode=reader.choice(fields.get("mode"), MODES, "enforce"),
        zone=reader.zone(fields.get("timezone")),
        durability=reader.choice(fields.get("durability"), ("normal", "strict"), "normal"),
        ledger_unavailable=reader.choice(fields.get("ledger_unavailable"), ("deny", "allow"), "deny"),
    )


def _unpriced(reader: Reader, node: Node | None) -> Unpriced:
    """No more than the request itself can be charged: nothing says how an unmatched call is metered."""
    if isinstance(node, MapNode):
        return read_rate_map(reader, node, only=("request",))
    return reader.choice(node, _UNPRICED, "deny")
