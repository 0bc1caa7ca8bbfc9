"""The seed's seven curl examples, verbatim but for the port and the agent's id."""

from __future__ import annotations

import asyncio
import json
import shlex

from tests.proxy.api.conftest import ADMIN

CREATE = """curl -X POST http://localhost:3000/api/agents \\
  -H "Content-Type: application/json" \\
  -d '{
    "name": "My Agent",
    "role": "Task automation",
    "ownerId": "user_123",
    "monthlyBudget": 100.00,
    "perActionLimit": 5.00
  }'"""
LOG = """curl -X POST http://localhost:3000/api/actions \\
  -H "Content-Type: application/json" \\
  -d '{
    "agentId": "YOUR_AGENT_ID",
    "actionType": "api_call",
    "target": "openai:gpt-4",
    "cost": 0.05,
    "outcome": "success",
    "metadata": "{\\"tokens\\": 1500}"
  }'"""
ALL = "curl http://localhost:3000/api/agents"
ONE = "curl http://localhost:3000/api/agents/YOUR_AGENT_ID"
PAUSE = """curl -X PATCH http://localhost:3000/api/agents/YOUR_AGENT_ID \\
  -H "Content-Type: application/json" \\
  -d '{"status": "paused"}'"""
ALERTS = "curl http://localhost:3000/api/alerts"
ALERTS_OF = "curl http://localhost:3000/api/alerts?agentId=YOUR_AGENT_ID"


async def curl(command: str, url: str, agent_id: str = "", *more: str):
    """(status, JSON) of the command as a shell would split it."""
    port = url.rpartition(":")[2]
    words = shlex.split(command.replace("3000", port).replace("YOUR_AGENT_ID", agent_id).replace("\\\n", ""))
    extra = ["--silent", "--noproxy", "*", "--write-out", "\n%{http_code}", *more]
    process = await asyncio.create_subprocess_exec(*words, *extra, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    body, _, status = output.decode().rpartition("\n")
    return int(status), json.loads(body)


async def all_seven(url: str, *more: str) -> None:
    status, agent = await curl(CREATE, url, "", *more)
    assert (status, agent["monthlyBudget"], agent["perActionLimit"]) == (201, 100, 5)
    status, action = await curl(LOG, url, agent["id"], *more)
    assert (status, action["cost"], action["metadata"]) == (201, 0.05, '{"tokens": 1500}')
    status, agents = await curl(ALL, url, "", *more)
    assert (status, agents[-1]["id"]) == (200, agent["id"])
    status, shown = await curl(ONE, url, agent["id"], *more)
    assert (status, shown["actions"], shown["currentSpend"]) == (200, [action], 0.05)
    status, paused = await curl(PAUSE, url, agent["id"], *more)
    assert (status, paused["status"]) == (200, "paused")
    status, refused = await curl(LOG, url, agent["id"], *more)
    assert (status, refused["error"]["code"]) == (403, "agent_paused")
    assert await curl(ALERTS, url, "", *more) == (200, [])
    assert await curl(ALERTS_OF, url, agent["id"], *more) == (200, [])


async def test_the_seed_s_seven_under_no_auth(open_api):
    await all_seven(open_api.url)


async def test_the_seed_s_seven_with_the_bearer_token(api):
    await all_seven(api.url, "-H", f"Authorization: Bearer {ADMIN}")


async def test_the_seed_s_seven_without_a_token_are_401(api):
    for command in (CREATE, LOG, ALL, ONE, PAUSE, ALERTS, ALERTS_OF):
        assert (await curl(command, api.url, "painter"))[0] == 401
