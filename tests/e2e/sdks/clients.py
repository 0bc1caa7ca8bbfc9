"""Clients made as the README's "Point your SDK at it" says, for any base URL and key."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import indent
from types import SimpleNamespace
from typing import Any

import anthropic
import boto3
import botocore.config
import cohere
import litellm
import openai
from google import genai
from langchain_openai import ChatOpenAI
from mcp import Client
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client
from mistralai.client import Mistral

_README = (Path(__file__).parents[3] / "README.md").read_text("utf-8")
_SECTION = _README.partition("## Point your SDK at it\n")[2].partition("\n## ")[0]
_ROWS: Mapping[str, str] = dict(re.findall(r"^\| ([^|]+) \| `([^`]+)` \|$", _SECTION, re.MULTILINE))
_MCP, _BEDROCK = re.findall(r"```python\n(.*?)```", _SECTION, re.DOTALL)

_NAMES = {
    "anthropic": anthropic,
    "boto3": boto3,
    "botocore": botocore,
    "Client": Client,
    "ChatOpenAI": ChatOpenAI,
    "cohere": cohere,
    "create_mcp_http_client": create_mcp_http_client,
    "genai": genai,
    "Mistral": Mistral,
    "openai": openai,
    "streamable_http_client": streamable_http_client,
    # Its row is a call, which is kept to be made with a test's own arguments.
    "messages": [],
    "litellm": SimpleNamespace(
        completion=partial(partial, litellm.completion), acompletion=partial(partial, litellm.acompletion)
    ),
}


@dataclass(frozen=True)
class Side:
    """Where calls go: to the provider itself, or to the sidecar before it; and as whom."""

    url: str
    key: str

    def client(self, row: str, *changes: tuple[str, str]) -> Any:
        """The README's client, there. ``changes`` are made to its code: `("OpenAI(", "AsyncOpenAI(")`."""
        return eval(self._code(_ROWS[row], *changes), _NAMES)

    def bedrock(self) -> Any:
        """The README's client of boto3."""
        scope = dict(_NAMES)
        exec(self._code(_BEDROCK), scope)
        return scope["bedrock"]

    def mcp(self, server: str, era: str, heard: Any = None) -> AbstractAsyncContextManager[Client]:
        """The README's client of an MCP server; ``heard`` is called with what that says unasked."""
        more = ("=http)", "=http), mode=era, message_handler=heard")
        code = self._code(_MCP, ("/tools/", f"/{server}/"), more, ("...", "yield client"))
        scope = {**_NAMES, "era": era, "heard": heard}
        exec(f"async def connected():\n{indent(code, '    ')}", scope)
        connected: Callable[[], AsyncIterator[Client]] = scope["connected"]
        return asynccontextmanager(connected)()

    def _code(self, code: str, *changes: tuple[str, str]) -> str:
        for old, new in (("http://127.0.0.1:8080", self.url), ("alk_…", self.key), *changes):
            assert old in code
            code = code.replace(old, new)
        return code
