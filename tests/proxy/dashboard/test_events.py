"""Server-sent events: what tells an open page that it is no longer current."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest

from proxy.dashboard import events
from proxy.ledger.port import Health


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(events, "TICK_S", 0.01)


@asynccontextmanager
async def watched(operator: httpx.AsyncClient) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[str]]]:
    async with operator.stream("GET", "/ui/events") as answer:
        yield answer, answer.aiter_lines()


async def told(lines: AsyncIterator[str]) -> str:
    async for line in lines:
        if line.startswith("data: "):
            return line.removeprefix("data: ")
    raise AssertionError("the stream ended")


async def test_a_page_is_told_its_version_and_each_one_after_it(operator, shelf, sidecar):
    page = (await operator.get("/")).text
    async with watched(operator) as (answer, lines):
        assert answer.headers["content-type"].startswith("text/event-stream")
        versions = [await told(lines)]
        assert f'data-version="{versions[0]}"' in page
        for change in (
            lambda: setattr(shelf, "state", Health(True, "", 1, "ab")),
            lambda: setattr(shelf, "state", Health(False, "disk full", 1, "ab")),
            lambda: setattr(sidecar.policy_file, "error", "policy.yaml:1:1: no"),
            lambda: sidecar.metrics.deliveries.update({("pager", "failed"): 1}),
            lambda: setattr(sidecar.policy_file.rules, "policy", replace(sidecar.policy_file.rules.policy, hash="q")),
        ):
            change()
            versions.append(await told(lines))
        assert len(set(versions)) == len(versions) == 6


async def test_nothing_is_said_while_nothing_changes_but_that_it_lives(operator):
    async with watched(operator) as (_, lines):
        await told(lines)
        said = [await anext(lines) for _ in range(4)]
    assert [line for line in said if line] == [": quiet", ": quiet"]


async def test_it_ends_when_the_sidecar_stops(operator, sidecar):
    async with watched(operator) as (_, lines):
        await told(lines)
        sidecar.draining = True
        assert [line async for line in lines if line.startswith("data")] == []


async def test_it_is_for_whom_signed_in(client):
    assert (await client.get("/ui/events")).status_code == 401


async def test_open_pages_are_bounded_and_those_that_left_are_not_counted(operator, monkeypatch):
    monkeypatch.setattr(events, "_PAGES_MAX", 1)
    async with watched(operator) as (_, lines):
        await told(lines)
        assert (await operator.get("/ui/events")).status_code == 503
    async with asyncio.timeout(5):
        while True:
            async with operator.stream("GET", "/ui/events") as answer:
                if answer.status_code == 200:
                    return
            await asyncio.sleep(0.01)
