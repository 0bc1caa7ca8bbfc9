"""A sidecar's API on a real socket over the real engine. Each JSON answer is held against openapi.yaml as it comes."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator
from starlette.applications import Starlette

from policy.catalog import Catalog
from proxy.access import Guard
from proxy.api import routes
from proxy.jsontext import loads
from proxy.ledger.embedded import open_embedded
from proxy.metrics import Metrics
from proxy.places import Places
from proxy.rules import PolicyFile
from proxy.server import Server
from proxy.settings import Settings
from proxy.state import Sidecar

ADMIN = "test-admin-token"
POLICY = """\
version: 1
upstreams:
  openai:
    url: https://api.openai.com
    set_headers: {authorization: "Bearer sk-very-secret"}
  tools: {url: "http://127.0.0.1:8931", meter: mcp}
agents:
  - {id: painter, name: Painter, role: Pictures, owner_id: design, monthly_budget: 20.00, key: alk_painter_key}
prices:
  - name: deal
    match: {upstream: openai, method: POST, body: {model: "gpt-4o*"}}
    rates: {input_mtok: 2.50, output_mtok: 10.00}
  - name: search
    match: {upstream: tools, body: {method: tools/call, params.name: web_search}}
    rates: {request: 0.01}
budgets:
  - {name: everyone-day, amount: 50.00, period: day}
alerts:
  webhooks: [{url: "https://hooks.example/services/very-secret"}]
"""

DOCUMENT = yaml.safe_load(files("proxy.api").joinpath("openapi.yaml").read_bytes())
_PATHS = {path: re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for path in DOCUMENT["paths"]}


async def check_contract(response: httpx.Response) -> None:
    """Fails where an answer is not what openapi.yaml says, or has a member that it doesn't name."""
    await response.aread()
    path = next((path for path, pattern in _PATHS.items() if pattern.fullmatch(response.request.url.path)), None)
    operation = DOCUMENT["paths"].get(path, {}).get(response.request.method.lower())
    if operation is None:
        return
    stated = operation["responses"].get(str(response.status_code), operation["responses"].get("default"))
    if stated is None and response.status_code == 405:
        return
    assert stated is not None, f"{path} may not answer {response.status_code}"
    if "$ref" in stated:
        stated = DOCUMENT["components"]["responses"][stated["$ref"].rpartition("/")[2]]
    media_type = response.headers.get("content-type", "").partition(";")[0]
    if media_type != "application/json":
        assert media_type in stated.get("content", {"": None})
        return
    schema = stated["content"]["application/json"]["schema"] | {"components": DOCUMENT["components"]}
    if schema.get("type") != "array" and path != "/openapi.json":
        schema["unevaluatedProperties"] = False
    Draft202012Validator(schema).validate(loads(response.content))


@dataclass(slots=True)
class Api:
    """``http`` speaks as the admin, ``bare`` as nobody."""

    url: str
    sidecar: Sidecar
    policy: Path
    http: httpx.AsyncClient
    bare: httpx.AsyncClient

    async def register(self, **fields: Any) -> dict[str, Any]:
        """A new agent, as it was answered: with its key."""
        given = {"name": "Bot", "role": "Tests", "ownerId": "user_1", "monthlyBudget": 100, "perActionLimit": 5}
        answer = await self.http.post("/api/agents", json=given | fields)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def report(self, agent_id: str, cost: float = 0.05, *, headers: dict[str, str] | None = None, **fields: Any):
        given = {"agentId": agent_id, "actionType": "api_call", "target": "openai:gpt-4", "outcome": "success"}
        return await self.http.post("/api/actions", json=given | {"cost": cost} | fields, headers=headers)

    async def send(self, method: str, path: str, body: bytes, **headers: str) -> httpx.Response:
        sent = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        return await self.http.request(method, path, content=body, headers=sent)


@asynccontextmanager
async def serving(folder: Path, **settings: Any) -> AsyncIterator[Api]:
    path = folder / "policy.yaml"
    path.write_text(POLICY)
    policy_file = PolicyFile(path, Catalog())
    ledger = await open_embedded(folder / "data")
    await ledger.use(policy_file.rules.policy)
    given = {"admin_token": ADMIN, "metrics_token": "test-metrics-token"} | settings
    made = Settings(path, folder / "data", **given)
    sidecar = Sidecar(made, ledger, policy_file, Metrics(), Places(SimpleNamespace()))
    own = Starlette(routes=routes(sidecar))
    own.router.redirect_slashes = False
    server = Server(Guard(own, sidecar))
    url = f"http://127.0.0.1:{await server.start()}"
    hooks = {"response": [check_contract]}
    admin = {"authorization": f"Bearer {ADMIN}"}
    try:
        async with (
            httpx.AsyncClient(base_url=url, headers=admin, event_hooks=hooks, trust_env=False) as http,
            httpx.AsyncClient(base_url=url, event_hooks=hooks, trust_env=False) as bare,
        ):
            yield Api(url, sidecar, path, http, bare)
    finally:
        await server.shutdown(1.0)
        await sidecar.notifier.aclose()
        await ledger.close()


@pytest.fixture
async def api(tmp_path) -> AsyncIterator[Api]:
    async with serving(tmp_path) as served:
        yield served


@pytest.fixture
async def open_api(tmp_path) -> AsyncIterator[Api]:
    """Under --no-auth."""
    async with serving(tmp_path, no_auth=True) as served:
        yield served
