"""YAML text to positioned nodes: what `yaml.compose` does, from libyaml's events and hardened.

Scalars stay as text (``25.00`` is exact, ``no`` is not False). Tags, anchors, aliases, duplicate keys, several
documents and deep nesting are refused at their place; an alias is never followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from policy.problems import Report, quote

SIZE_MAX = 1024 * 1024
DEPTH_MAX = 20

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# The only substitutions: ${env:NAME}, ${env:NAME:-default}, ${file:/path}.
SUBSTITUTION = re.compile(
    r"\$\{(?:env:(?P<env>[A-Za-z_][A-Za-z0-9_]*)(?P<or>:-(?P<default>(?:(?!\$\{)[^}])*))?|file:(?P<file>/[^${}]+))\}",
    re.ASCII,
)
# A lone CR and the line breaks that only YAML 1.1 knows would make our lines differ from an editor's.
_REFUSED = re.compile("[^\t\n\r -~\u00a0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|\r(?!\n)")
_WORD = re.compile(r"(?![a-z_]+:(?:\s|$))[^\s{}\[\],:\"']+")


@dataclass(slots=True, eq=False)
class ScalarNode:
    """``raw`` as written, ``value`` after substitution. ``broken``: a problem with it is already noted.

    ``start`` and ``end`` are offsets into the text; ``shown`` says that a problem may quote it: it is no secret.
    """

    start: int
    end: int
    raw: str
    value: str
    plain: bool
    broken: bool = False
    shown: bool = False

    @property
    def kind(self) -> Literal["text", "number", "boolean", "nothing"]:
        if not self.plain:
            return "text"
        if self.value in ("true", "false"):
            return "boolean"
        if self.value in ("", "~", "null"):
            return "nothing"
        return "number" if NUMBER.fullmatch(self.value) else "text"

    @property
    def quoted(self) -> str:
        return quote(self.raw)


@dataclass(slots=True, eq=False)
class ListNode:
    start: int
    end: int
    items: list[Node] = field(default_factory=list)
    shown: bool = False


@dataclass(slots=True, eq=False)
class MapNode:
    """``dropped`` are nodes that a refused key left without a place; they are never shown."""

    start: int
    end: int
    keys: dict[str, ScalarNode] = field(default_factory=dict)
    values: dict[str, Node] = field(default_factory=dict)
    dropped: list[Node] = field(default_factory=list)
    shown: bool = False


Node = ScalarNode | ListNode | MapNode


def compose(report: Report) -> Node | None:
    """The root of the text's one document; None where there is none to go on with. Problems go to the report."""
    text = report.text
    if _refused(report):
        return None
    events = yaml.parse(text, Loader=yaml.CSafeLoader)
    root: Node | None = None
    try:
        for event in events:
            if isinstance(event, DocumentStartEvent):
                if root is not None:
                    report.note(_start(event), "documents", "a policy is one YAML document")
                    return None
                root = _Composer(report, events).node(next(events), 0)
    except yaml.YAMLError as error:
        _note_syntax(report, error)
        return None
    except _TooDeep:
        return None
    if root is None:
        report.note(0, "empty", "the policy is empty; the least it says is 'version: 1'")
    return root


def locate(root: Node, *path: str | int) -> Node:
    """The node at that path of keys and indexes, or the nearest above it that is written."""
    node = root
    for step in path:
        if isinstance(node, MapNode) and step in node.values:
            node = node.values[str(step)]
        elif isinstance(node, ListNode) and isinstance(step, int):
            node = node.items[step]
        else:
            break
    return node


def hidden_spans(text: str, root: Node | None) -> Iterator[tuple[int, int]]:
    """What no excerpt may show: every node that wasn't read as something that is no secret.

    Of a text that is no YAML nothing is known: all words but the keys are hidden. Substitutions stay, as written.
    """
    if root is None:
        yield from (found.span() for found in _WORD.finditer(text))
    elif isinstance(root, ScalarNode):
        if not root.shown:
            yield from _literals(text, root)
    elif not root.shown:
        yield root.start, root.end
    else:
        for child in root.items if isinstance(root, ListNode) else root.values.values():
            yield from hidden_spans(text, child)
        if isinstance(root, MapNode):
            unseen = [*root.dropped, *(key for key in root.keys.values() if not key.shown)]
            yield from ((node.start, node.end) for node in unseen)


def _literals(text: str, node: ScalarNode) -> Iterator[tuple[int, int]]:
    start, end = node.start, node.end
    if text[start:end][:1] in ("'", '"'):
        start, end = start + 1, end - 1
    for found in SUBSTITUTION.finditer(text, start, end):
        yield start, found.start()
        if found["or"]:
            yield found.span("default")
        start = found.end()
    yield start, end


def _refused(report: Report) -> bool:
    """Whether the characters themselves are refused: too many of them, or of a kind that hides or misplaces text."""
    text = report.text
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) > SIZE_MAX:
        at = len(encoded[:SIZE_MAX].decode("utf-8", "ignore"))
        report.note(at, "too-large", f"a policy file has at most {SIZE_MAX} bytes")
        return True
    if text.startswith("\ufeff"):
        report.note(0, "bom", "the file begins with a byte order mark; save it as plain UTF-8")
        return True
    if found := _REFUSED.search(text):
        report.note(found.start(), "control-character", f"the character U+{ord(found[0][0]):04X} is not allowed here")
        return True
    if (tab := text.find("\t")) >= 0:
        report.note(tab, "tab", "a tab; YAML is indented with spaces")
        return True
    return False


def _note_syntax(report: Report, error: yaml.YAMLError) -> None:
    message, at = "not YAML", 0
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        message, at = f"not YAML: {error.problem}", error.problem_mark.index
        if error.context and error.context_mark is not None and error.context_mark.index != at:
            message += f", {error.context} that begins at {report.line_col(error.context_mark.index)}"
        elif error.context:
            message += f", {error.context}"
        if report.text[max(0, at - 1) : at + 1] == "${":
            message += '; within {…} and […] a substitution is quoted: "${…}"'
    report.note(at, "syntax", message)


def _start(event: Event) -> int:
    assert event.start_mark is not None
    return event.start_mark.index


def _end(event: Event) -> int:
    assert event.end_mark is not None
    return event.end_mark.index


class _TooDeep(Exception):
    pass


class _Composer:
    def __init__(self, report: Report, events: Iterator[Event]) -> None:
        self._report = report
        self._events = events

    def node(self, event: Event, depth: int) -> Node:
        start, end = _start(event), _end(event)
        if isinstance(event, AliasEvent):
            self._report.note(start, "alias", "aliases are not allowed; write the value out")
            return ScalarNode(start, end, "", "", True, broken=True)
        assert isinstance(event, ScalarEvent | SequenceStartEvent | MappingStartEvent)
        if event.anchor is not None:
            self._report.note(start, "anchor", "anchors are not allowed")
        if event.tag is not None:
            self._report.note(start, "tag", "tags are not allowed")
        if isinstance(event, ScalarEvent):
            return ScalarNode(start, end, event.value, event.value, not event.style)
        if depth == DEPTH_MAX:
            self._report.note(start, "too-deep", f"nested more than {DEPTH_MAX} deep")
            raise _TooDeep
        return self._list(start, depth) if isinstance(event, SequenceStartEvent) else self._map(start, depth)

    def _list(self, start: int, depth: int) -> ListNode:
        found = ListNode(start, start)
        while not isinstance(event := next(self._events), SequenceEndEvent):
            found.items.append(self.node(event, depth + 1))
        found.end = _end(event)
        return found

    def _map(self, start: int, depth: int) -> MapNode:
        found = MapNode(start, start)
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self.node(event, depth + 1)
            value = self.node(next(self._events), depth + 1)
            if isinstance(key, ScalarNode) and not key.broken and key.value not in found.keys:
                found.keys[key.value], found.values[key.value] = key, value
                continue
            found.dropped.append(value)
            if not isinstance(key, ScalarNode):
                found.dropped.append(key)
                self._report.note(key.start, "key-type", "a key is plain text")
            elif not key.broken:
                first = self._report.line_col(found.keys[key.value].start)
                self._report.note(key.start, "duplicate-key", f"this key stands twice; first at {first}")
        found.end = _end(event)
        return found
