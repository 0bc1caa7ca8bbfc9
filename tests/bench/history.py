"""A ledger with a history: so many actions of so many agents, spread over the last thirty days, up to now.

The ledger itself writes it, under a clock that is set from one action to the next: its journal, desk and index are what
thirty days of calls would have left.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from proxy.ledger.embedded import EmbeddedLedger, open_embedded
from proxy.ledger.port import Admission, Call, Settlement
from proxy.rules import read_policy
from tests.bench.report import progress

DAYS = 30
TARGETS = (
    ("openai", "models", "gpt-4o"),
    ("openai", "models", "gpt-4o-mini"),
    ("openai", "models", "o3"),
    ("anthropic", "models", "claude-opus-5"),
    ("anthropic", "models", "claude-haiku-5"),
    ("tools", "search", "search"),
    ("tools", "maps", "maps"),
    ("tools", "mail", "mail"),
)
_OF_AN_AGENT = 4  # of these
_DAY_MS = 86_400_000
_RATES = {"input_mtok": "2.5", "cache_read_mtok": "1.25", "output_mtok": "10"}
_ESTIMATED = {"request": 1, "input_tokens": 964, "output_tokens": 4096}
_OPEN_A_DAY = 10  # alerts that nobody acknowledges

_HEAD = """\
version: 1
defaults: {{mode: enforce, timezone: UTC}}
upstreams:
  openai: {{url: "http://127.0.0.1:{upstream}", meter: openai, max_in_flight: 4096}}
  anthropic: {{url: "http://127.0.0.1:{upstream}", meter: anthropic}}
  tools: {{url: "http://127.0.0.1:{upstream}"}}
prices:
  - {{name: models, match: {{upstream: openai, path: "/v1/**"}}, rates: catalog}}
budgets:
  - {{name: agent-day, amount: 1000000, period: day, each: agent}}
  - {{name: owner-month, amount: 1000000, period: month, each: owner_id}}
agents:
  - {{id: bench, name: Bench, role: bench, owner_id: team, monthly_budget: 1000000, per_action_limit: 10, key: "{key}"}}
"""
_AGENT = """\
  - {{id: agent-{n}, name: "Agent {n}", role: role-{role}, owner_id: owner-{owner}, monthly_budget: 1000,
     per_action_limit: 1}}
"""


def write_policy(path: Path, agents: int, upstream: int, key: str) -> None:
    more = [_AGENT.format(n=n, role=n % 5, owner=n % 20) for n in range(agents)]
    path.write_text(_HEAD.format(upstream=upstream, key=key) + "".join(more))


async def fill(data: Path, policy: Path, actions: int, agents: int) -> None:
    """Some are denied, one after the other so that they are counted together; some fail, and raise alerts."""
    now = int(time.time() * 1000)
    at = begin = now - DAYS * _DAY_MS
    draw = random.Random(7)  # the same history each time
    ledger = await open_embedded(data, lambda: at)
    await ledger.use(read_policy(policy).policy)
    for n in range(actions):
        day, at = (at - begin) // _DAY_MS, begin + (now - begin) * n // actions
        await _act(ledger, draw.randrange(agents), draw)
        if n % 50 == 0:
            await asyncio.sleep(0)  # as a server does: let the loop's other work run
        if n % 10_000 == 0:
            progress(f"{n:,} of {actions:,} actions")
        if day != (at - begin) // _DAY_MS:
            for alert in (await ledger.alerts(open_only=True))[_OPEN_A_DAY:]:
                await ledger.acknowledge(alert.id)
    await ledger.close()
    progress("")


async def _act(ledger: EmbeddedLedger, agent: int, draw: random.Random) -> None:
    upstream, price, name = TARGETS[(agent + draw.randrange(_OF_AN_AGENT)) % len(TARGETS)]
    chance = draw.random()
    estimate = 2_000_000_000 if chance < 0.01 else 30_000_000
    call = Call(
        f"agent-{agent}", "llm", f"{upstream}:{name}", upstream, price, estimate, _RATES, "bench", estimated=_ESTIMATED
    )
    admitted = await ledger.authorize(call)
    if not isinstance(admitted, Admission):
        return
    if chance > 0.997:
        await ledger.void(admitted.action_id, Settlement(None, "failure", upstream_status=503, duration_ms=120))
        return
    usage = {"request": 1, "input_tokens": draw.randrange(100, 900), "output_tokens": draw.randrange(20, 2000)}
    charge = usage["input_tokens"] * 2_500 + usage["output_tokens"] * 10_000
    duration_ms = draw.randrange(100, 9000)
    await ledger.settle(
        admitted.action_id, Settlement(charge, "success", usage, upstream_status=200, duration_ms=duration_ms)
    )
