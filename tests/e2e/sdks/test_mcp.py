"""The official MCP SDK, client and server, streamable HTTP: both eras of the protocol, SSE and JSON answers."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from mcp import MCPError

MCP_DENIED = -32003
# The reason, who is denied what.
DENIALS = {
    "agent_paused": ("fickle", "weather"),
    "unpriced": ("rich", "unlisted"),
    "per_action_limit_exceeded": ("capped", "weather"),
    "budget_exceeded": ("poor", "weather"),
}
SERVERS = pytest.mark.parametrize("server", ["tools", "tools-json"])
ERAS = pytest.mark.parametrize("era", ["auto", "legacy"])  # discovery without a session; a session, by initialize


async def talk(side, server, era):
    """What a session hears, in plain data."""
    told = []

    async def progressed(*progress):
        told.append(progress)

    async with side.mcp(server, era) as client:
        tools = await client.list_tools()
        weather = await client.call_tool("weather", {"city": "Berlin"}, progress_callback=progressed)
        broken = await client.call_tool("broken", {})
    assert weather.structured_content == {"result": "It rains in Berlin."}
    assert broken.is_error
    assert told == ([(1.0, 2.0, "looking out")] if server == "tools" else [])
    return [answer.model_dump() for answer in (tools, weather, broken)]


def methods(requests):
    return [seen.json()["method"] if seen.body else seen.method for seen in requests]


def called(world):
    """How many tools were called at the providers."""
    return sum(b'"method":"tools/call"' in seen.body for seen in world.providers.seen)


@SERVERS
@ERAS
async def test_a_session_is_the_one_without_the_sidecar_call_by_call(world, server, era):
    before = len(world.providers.seen)
    expected = await talk(world.direct, server, era)
    between = len(world.providers.seen)
    agent = world.hire()
    assert await talk(world.through(agent), server, era) == expected
    direct, through = world.providers.seen[before:between], world.providers.seen[between:]
    assert sorted(methods(through)) == sorted(methods(direct))
    if era == "legacy":
        assert {"initialize", "notifications/initialized", "GET", "DELETE"} < set(methods(through))
        assert len({dict(seen.headers).get(b"mcp-session-id") for seen in through[1:]} - {None}) == 1
    assert not any("alk_" in seen.head() for seen in through)

    actions = world.actions(agent, 100)
    tools = {action["target"]: action for action in actions if action["price"] == "tool"}
    assert {target: action["outcome"] for target, action in tools.items()} == {
        f"{server}:weather": "success",
        f"{server}:broken": "failure",
    }
    assert [Decimal(action["cost"]) for action in tools.values()] == [Decimal("0.01")] * 2
    assert sum(Decimal(action["cost"]) for action in actions) == Decimal("0.02")
    assert not any(action["unconfirmed"] for action in actions)


@SERVERS
async def test_what_a_server_says_unasked_comes_at_once_by_the_open_stream(world, server):
    heard, before = asyncio.Queue(), len(world.providers.seen)
    async with world.through().mcp(server, "legacy", heard.put) as client:
        while "GET" not in (seen.method for seen in world.providers.seen[before:]):
            await asyncio.sleep(0.01)
        await client.call_tool("grow", {})
        message = await asyncio.wait_for(heard.get(), 10)
    assert message.method == "notifications/tools/list_changed"


@SERVERS
@ERAS
@pytest.mark.parametrize("reason", DENIALS)
async def test_a_denied_tool_call_is_the_sdks_error_sent_once(world, server, era, reason):
    agent, tool = DENIALS[reason]
    async with world.through(agent).mcp(server, era) as client:
        await client.list_tools()
        world.set_status("fickle", "paused")
        denied, seen = world.denied(reason), called(world)
        with pytest.raises(MCPError) as raised:
            await client.call_tool(tool, {"city": "Berlin"})
        assert world.denied(reason) == denied + 1
        assert called(world) == seen
        world.set_status("fickle", "active")
    assert raised.value.code == MCP_DENIED
    assert raised.value.message.startswith("Agent Ledger: ")
    assert raised.value.data["reason"] == reason


@ERAS
async def test_a_paused_agent_opens_no_session(world, era):
    seen = len(world.providers.seen)
    refused = pytest.RaisesExc(MCPError, match="Agent Ledger: agent halted is paused")
    with pytest.RaisesGroup(refused, flatten_subgroups=True):
        async with world.through("halted").mcp("tools", era):
            pass
    assert len(world.providers.seen) == seen


async def test_a_rate_limited_tool_call_is_raised_with_when_to_try_again(world):
    async with world.through("busy").mcp("tools", "auto") as client:
        await client.list_tools()
        with world.held():
            denied = world.denied("rate_limited")
            with pytest.raises(MCPError) as raised:
                await client.call_tool("weather", {"city": "Berlin"})
            assert world.denied("rate_limited") == denied + 1
    assert raised.value.data["retryAfter"] == 1
