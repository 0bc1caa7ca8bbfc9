"""`agents:` — the identities that the file manages."""

from __future__ import annotations

import re

from policy.model import AgentSpec
from policy.parse.reader import Reader
from policy.source import Node, ScalarNode

# Fields of the API that the file takes over by stating them.
_MANAGED = ("name", "role", "owner_id", "monthly_budget", "per_action_limit", "auto_resume", "key")
_KEY = re.compile(r"alk_[!-~]{1,250}", re.ASCII)


def read_agents(reader: Reader, node: Node | None, names: dict[str, ScalarNode]) -> dict[str, AgentSpec]:
    """The agents by id; their ids are added to ``names``."""
    found: dict[str, AgentSpec] = {}
    keys: dict[str, str] = {}
    for item in reader.items(node, "agents"):
        spec = _agent(reader, item, names, keys)
        found.setdefault(spec.id, spec)
    return found


def _agent(reader: Reader, node: Node, names: dict[str, ScalarNode], keys: dict[str, str]) -> AgentSpec:
    fields = reader.fields(node, "an agent", ("id", *_MANAGED), required=("id", "monthly_budget"))
    agent_id = reader.unique(names, fields.get("id"), "agent")
    limit = fields.get("per_action_limit")
    return AgentSpec(
        id=agent_id,
        name=reader.text(fields.get("name"), agent_id),
        role=reader.text(fields.get("role")),
        owner_id=reader.text(fields.get("owner_id")),
        monthly_budget=reader.usd(fields.get("monthly_budget")),
        per_action_limit=reader.usd(limit) if limit else None,
        auto_resume=reader.flag(fields.get("auto_resume")),
        key=_key(reader, fields.get("key"), keys),
        managed=frozenset(fields) - {"id"},
    )


def _key(reader: Reader, node: Node | None, keys: dict[str, str]) -> str | None:
    """The agent's key. ``keys`` holds those seen before, with their places: a key names one agent."""
    found = reader.secret(node, "an agent key")
    if found is None:
        return None
    if not _KEY.fullmatch(found.value):
        reader.note(found, "agent-key", "an agent key begins with alk_ and has printable ASCII without spaces")
    elif found.value in keys:
        reader.note(found, "shared-agent-key", f"another agent has this key, at {keys[found.value]}")
    keys.setdefault(found.value, reader.report.line_col(found.start))
    return found.value
