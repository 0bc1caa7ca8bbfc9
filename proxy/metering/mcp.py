"""MCP over streamable HTTP: JSON-RPC answers, as one JSON document or as server-sent events.

An answer bills nothing by itself: a rule prices the call, or names where its own units stand (`result._meta.credits`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.metering.base import Facts, Tally, Usage


class MCPTally(Tally):
    """Tells whether the request that was sent failed: flag ``rpc_error`` (JSON-RPC's own), or ``tool_error`` (the
    tool's, by `isError`). Notifications and the server's own requests, which may come before the answer, say nothing.
    """

    keys = ("isError", "error")
    generates = False

    def __init__(self, facts: Facts = Facts()) -> None:  # noqa: B008  # immutable
        super().__init__(facts)
        self._id = facts.request.get("id") if isinstance(facts.request, dict) else None

    def read(self, document: Mapping[str, Any]) -> bool:
        error, result = document.get("error"), document.get("result")
        if not isinstance(error, dict) and not isinstance(result, dict):
            return False
        # An error's id is null where the server could not read the request's.
        if self._id is not None and document.get("id") not in (self._id, None):
            return False
        if isinstance(error, dict):
            self.flags = ["rpc_error"]
        elif isinstance(result, dict) and result.get("isError") is True:
            self.flags = ["tool_error"]
        return True

    def usage(self) -> Usage | None:
        return None
