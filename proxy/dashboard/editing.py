"""The form of an agent's own fields: what was edited is changed, and what the policy file states is shown as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from policy.money import format_usd, parse_usd
from policy.names import line_problem, text_problem
from proxy.ledger.port import Agent

_YES: Final = "yes"
_RESUMES: Final = {"no": "until an operator resumes it", _YES: "until the month ends, or its budget is raised"}


@dataclass(frozen=True, slots=True)
class Entered:
    """A field of the form. ``value`` is what stands in it, ``was`` what the page showed before anyone typed."""

    name: str
    label: str
    hint: str
    value: str
    was: str
    managed: bool
    problem: str | None = None

    @property
    def choices(self) -> Mapping[str, str] | None:
        return _RESUMES if self.name == "auto_resume" else None

    @property
    def money(self) -> bool:
        return self.name in ("monthly_budget", "per_action_limit")

    @property
    def shown(self) -> str:
        """What it is, where it can't be edited."""
        if self.choices is not None:
            return self.choices[self.value]
        return f"${self.value}" if self.money and self.value else self.value or "none"


@dataclass(frozen=True, slots=True)
class _Field:
    """``write`` an agent's value as text; ``read`` raises ValueError for text that is none."""

    label: str
    hint: str
    write: Callable[[Agent], str]
    read: Callable[[str], Any]


def entered_of(agent: Agent) -> list[Entered]:
    """The form as the agent is."""
    return [_entered(agent, name, field, {}) for name, field in _FIELDS.items()]


def changes_of(agent: Agent, form: Mapping[str, str]) -> tuple[dict[str, Any], Sequence[Entered]]:
    """The fields that were edited, read; or the form again, where any can't be (then nothing is to be changed).

    Each field is posted with what the page showed: what others have changed since is not changed back.
    """
    changes: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for name, field in _FIELDS.items():
        typed = form.get(name, "").strip()
        if typed == form.get(f"was_{name}", ""):
            continue
        try:
            changes[name] = field.read(typed)
        except ValueError as error:
            problems[name] = str(error)
    if not problems:
        return changes, ()
    return {}, [_entered(agent, name, field, form, problems.get(name)) for name, field in _FIELDS.items()]


def _entered(agent: Agent, name: str, field: _Field, form: Mapping[str, str], problem: str | None = None) -> Entered:
    now, managed = field.write(agent), name in agent.managed
    if managed or not form:
        return Entered(name, field.label, field.hint, now, now, managed)
    was = form.get(f"was_{name}", "")
    return Entered(name, field.label, field.hint, form.get(name, ""), was, managed, problem)


def _text(text: str) -> str:
    return _sound(text, text_problem(text))


def _line(text: str) -> str:
    return _sound(text, line_problem(text))


def _sound(text: str, problem: str | None) -> str:
    if problem is not None:
        raise ValueError(problem)
    return text


def _usd(text: str) -> int:
    return parse_usd(text.removeprefix("$"))


_FIELDS: Final[Mapping[str, _Field]] = {
    "name": _Field("Name", "", lambda agent: agent.name, _text),
    "role": _Field("Role", "", lambda agent: agent.role, _text),
    "owner_id": _Field("Owner", "", lambda agent: agent.owner_id, _line),
    "monthly_budget": _Field("Monthly budget", "USD", lambda agent: format_usd(agent.monthly_budget)[1:], _usd),
    "per_action_limit": _Field(
        "Per-action limit",
        "USD; empty: none",
        lambda agent: "" if agent.per_action_limit is None else format_usd(agent.per_action_limit)[1:],
        lambda text: _usd(text) if text else None,
    ),
    "auto_resume": _Field(
        "Paused by its budget",
        "it stays paused",
        lambda agent: _YES if agent.auto_resume else "no",
        lambda text: text == _YES,
    ),
}
