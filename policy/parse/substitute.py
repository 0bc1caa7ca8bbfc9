"""`${env:NAME}`, `${env:NAME:-default}` and `${file:/path}` in values: nothing else, and never printed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from policy.problems import Report
from policy.source import SUBSTITUTION, ListNode, MapNode, Node, ScalarNode

_FORMS = "${env:NAME}, ${env:NAME:-default} or ${file:/path}"


class Substitution:
    """``read_file`` answers a file's text; OSError and ValueError from it become a problem at the place."""

    def __init__(self, report: Report, env: Mapping[str, str], read_file: Callable[[str], str]) -> None:
        self._report = report
        self._env = env
        self._read_file = read_file

    def apply(self, node: Node) -> None:
        """Replace in every value below the node; one that can't be is marked broken."""
        if isinstance(node, ListNode):
            for item in node.items:
                self.apply(item)
        elif isinstance(node, MapNode):
            for key, value in node.values.items():
                if "${" in key:
                    self._report.note(
                        node.keys[key].start, "substitution", "substitutions stand in values, not in keys"
                    )
                self.apply(value)
        elif "${" in node.raw:
            self._scalar(node)

    def _scalar(self, node: ScalarNode) -> None:
        done, rest, at = "", node.raw, node.start
        while (begin := rest.find("${")) >= 0:
            found = SUBSTITUTION.match(rest, begin)
            # An escape within quotes may hide the place; then it is the value's.
            at = max(self._report.text.find(found[0] if found else "${", at, node.end), at)
            value = self._value(found["env"], found["default"], found["file"], at) if found else None
            if found is None:
                self._report.note(at, "substitution", f"unknown substitution; expected {_FORMS}")
            if found is None or value is None:
                node.broken = True
                return
            done, rest, at = done + rest[:begin] + value, rest[found.end() :], at + len(found[0])
        node.value = done + rest

    def _value(self, name: str | None, default: str | None, path: str | None, at: int) -> str | None:
        if path is not None:
            try:
                return self._read_file(path)
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or "it is not UTF-8 text"
                self._report.note(at, "unreadable-file", f"this file can't be read: {why}")
                return None
        # As in a shell: what is set to nothing counts as not set. An empty credential is never meant.
        value = self._env.get(name or "") or default
        if value is None:
            self._report.note(at, "missing-env", f"the environment variable {name} is not set, and has no default")
        return value
