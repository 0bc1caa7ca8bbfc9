"""What a request only names and its provider brings in: searches, stored conversations, tools that run over there."""

from __future__ import annotations

import re
from typing import Any, Final

from policy.ceilings import positive
from policy.held import by_name

# Tools that run on the caller's side: what they bring in comes with a later request. Others run at the provider.
_OWN_TOOLS: Final = ("function", "custom", "bash_", "text_editor_", "computer", "memory_", "local_shell", "apply_patch")
_OWN_KEYS: Final = frozenset(("functionDeclarations", "function_declarations", "computerUse", "cachePoint"))
_SEARCHES: Final = frozenset(("web_search_options", "search_parameters", "plugins"))
_NAMED: Final = _SEARCHES | {
    "previous_response_id", "conversation", "cachedContent", "cached_content", "mcp_servers", "container",
    "data_sources", "previous_interaction_id", "agent_id", "connectors", "enable_search",
}  # fmt: skip
_TOLD: Final = _NAMED | {"prompt", "tools", "toolConfig"}
# Models that search without being told to: Groq's compound, Perplexity's, OpenAI's for search and deep research.
_SEARCHING: Final = re.compile(r"\bcompound\b|\bsonar\b|search-preview|search-api|deep-research|:online\b")

_CONTINUED: Final = re.compile(r"/conversations/[^/]+")  # Mistral's, by its path

_USES: Final = 5  # of a hosted tool that is priced by its uses, where the request states no `max_uses`
# The unit that genai-prices has for a tool's use, by what the tools are called.
_UNITS: Final = (
    ("web_searches", re.compile(r"web_?search|google_?search|browser_search|google_?maps|enterpriseWeb", re.I)),
    ("storage_searches", re.compile(r"file_?search", re.I)),
    ("social_searches", re.compile(r"x_search")),
    ("code_executions", re.compile(r"code_?(?:execution|interpreter)", re.I)),
)


def names_more(body: dict[str, Any], models: str) -> bool:
    """Whether the input will hold what isn't in the body: a stored conversation, or what a hosted tool brings in.

    ``models`` are the names of those that may serve; the path, where the body names none.
    """
    if _brings_more(models):
        return True
    if _TOLD.isdisjoint(body):
        return False
    return _states(body, _NAMED) or isinstance(body.get("prompt"), dict) or any(map(_hosted, _tools(body)))


def hosted_uses(body: dict[str, Any], models: str) -> dict[str, int]:
    """How often the hosted tools that a request names are taken to be used: 5 times each, or the `max_uses` stated."""
    if _TOLD.isdisjoint(body) and not _searches(models):
        return {}
    names = [(name, positive(tool.get("max_uses")) or _USES) for tool in _tools(body) for name in _hosted(tool)]
    if _searches(models) or any(body.get(key) for key in ("web_search_options", "search_parameters", "plugins")):
        names.append(("web_search", _USES))
    uses: dict[str, int] = {}
    for name, count in names:
        for unit, called in _UNITS:
            if called.search(name):
                uses[unit] = uses.get(unit, 0) + count
    return uses


@by_name
def _searches(models: str) -> bool:
    return _SEARCHING.search(models) is not None


@by_name
def _brings_more(models: str) -> bool:
    return _searches(models) or _CONTINUED.search(models) is not None


def _states(body: dict[str, Any], keys: frozenset[str]) -> bool:
    return any(body[key] for key in body.keys() & keys)


def _tools(body: dict[str, Any]) -> list[dict[str, Any]]:
    tools = body.get("tools")
    if not tools and isinstance(config := body.get("toolConfig"), dict):
        tools = config.get("tools")
    return [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []


def _hosted(tool: dict[str, Any]) -> tuple[str, ...]:
    """What the tool is called, if it runs at the provider; Gemini's are keys: ``{"googleSearch": {}}``."""
    kind = tool.get("type")
    if isinstance(kind, str):
        return () if kind.startswith(_OWN_TOOLS) else (kind,)
    if "name" in tool or "function" in tool or "toolSpec" in tool:
        return ()
    return tuple(tool.keys() - _OWN_KEYS)
