"""Recorded provider traffic, replayed through a real sidecar: is what was metered, reserved and charged right?

    python -m tests.bench.metering RECORDED.jsonl[.gz] [--seed N] [--cap] [--limit USD] [--show]

Each line of the file is one exchange as JSON: host, method, path, request (text), status, content_type, response
(text), and `expected`: null, or {"usage": {…}} by the vocabulary, worked out by someone else. The response is sent to
the sidecar in random pieces, in a random encoding, and the action it leaves is compared: usage per host (right, wrong,
unreadable), the reservation with the charge, the input estimate with the input. Calls whose model the catalog doesn't
know are priced by flat rates. `--cap` turns cap_output on, and cuts each recorded output at the ceiling sent upstream.
`--show` lists every difference.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import logging
import random
import statistics
import tempfile
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from policy.catalog import Catalog
from policy.model import Rates
from policy.money import NANO
from policy.parse.upstreams import told_meter
from policy.pricing import charge, load_rates
from policy.units import DIMENSIONS
from tests.proxy.upstreams import Line, ScriptedUpstream, Seen
from tests.sidecar import ADMIN_HEADERS, in_process

FLAT = (
    "{input_mtok: 3, cache_read_mtok: 0.3, cache_write_mtok: 3.75, cache_write_1h_mtok: 6, output_mtok: 15, "
    "input_audio_mtok: 40, output_audio_mtok: 80}"
)
ENCODINGS = {
    "identity": lambda raw: raw,
    "gzip": lambda raw: gzip.compress(raw, 1),
    "deflate": lambda raw: zlib.compress(raw, 1),
}
MEDIA = ("image", "audio", "video", "file", "document", "inlineData", "inline_data", "fileData", "cachePoint")
STORED = ("previous_response_id", "conversation", "cachedContent", "mcp_servers", "container", "web_search_options")


@dataclass
class Found:
    """What became of one host's exchanges."""

    usage: Counter[str] = field(default_factory=Counter)
    plain: int = 0
    covered: int = 0
    ratios: list[float] = field(default_factory=list)
    short: int = 0  # plain calls whose input was estimated below the truth


def read(path: Path) -> list[dict[str, Any]]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line, parse_float=Decimal) for line in text.splitlines()]


def is_plain(request: Any) -> bool:
    """Whether all that the model reads stands in the request as text, and the caller runs its tools."""
    if not isinstance(request, dict) or any(request.get(key) for key in STORED):
        return False
    tools = request.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if tool.get("type", "function") not in ("function", "custom") or not tool.keys() - {"googleSearch"}:
            return False
        if not {"function", "name", "functionDeclarations", "function_declarations", "toolSpec"} & tool.keys():
            return False
    return not _has_media(request)


def _has_media(node: Any) -> bool:
    if isinstance(node, list):
        return any(map(_has_media, node))
    if isinstance(node, dict):
        if any(key in MEDIA or str(node.get("type", "")).removeprefix("input_").startswith(MEDIA) for key in node):
            return True
        return any(map(_has_media, node.values()))
    return isinstance(node, str) and node.startswith("data:")


def policy_text(lines: list[dict[str, Any]], url: str, cap: bool, limit: str) -> tuple[str, dict[str, str]]:
    """A policy with two upstreams a host, priced by the catalog and flat; and the first one's name by host."""
    catalog, names, upstreams = Catalog(), {}, []
    for number, host in enumerate(sorted({line["host"] for line in lines})):
        provider, meter = catalog.provider_for_url(f"https://{host}"), told_meter(f"https://{host}")
        more = (f", meter: {meter}" if meter else "") + (f", catalog: {provider}" if provider else "")
        names[host] = f"h{number}"
        upstreams += [f"  h{number}: {{url: '{url}'{more}}}", f"  h{number}f: {{url: '{url}'{more}}}"]
    flat = ", ".join(f"{name}f" for name in names.values())
    return (
        "version: 1\nupstreams:\n"
        + "\n".join(upstreams)
        + f"\nagents: [{{id: replay, monthly_budget: 1000000, per_action_limit: {limit}}}]\nprices:\n"
        + f"  - {{name: flat, match: {{upstream: [{flat}]}}, rates: {FLAT}, cap_output: {str(cap).lower()}}}\n"
        + f"  - {{name: catalog, rates: catalog, cap_output: {str(cap).lower()}}}\n"
    ), names


class Replay:
    """The upstream: it answers with the line that a request names, in pieces."""

    def __init__(self, lines: list[dict[str, Any]], seed: int) -> None:
        self.lines = lines
        self.rng = random.Random(seed)

    async def __call__(self, seen: Seen, line: Line) -> None:
        recorded = self.lines[int(seen.header("x-line") or 0)]
        accepted = (seen.header("accept-encoding") or "identity").replace(" ", "").split(",")
        coding = self.rng.choice([each for each in accepted if each in ENCODINGS] or ["identity"])
        body = ENCODINGS[coding]((recorded["response"] or "").encode())
        head = f"HTTP/1.1 {recorded['status']} Recorded\r\nContent-Type: {recorded['content_type']}\r\n"
        if coding != "identity":
            head += f"Content-Encoding: {coding}\r\n"
        await line.say(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        step, at = self.rng.choice((7, 60, 1000, 20_000)), 0
        while at < len(body):
            piece = body[at : at + self.rng.randint(1, step)]
            at += len(piece)
            await line.say(b"%x\r\n%s\r\n" % (len(piece), piece))
        await line.say(b"0\r\n\r\n")


async def replay(lines: list[dict[str, Any]], seed: int, cap: bool, limit: str, show: bool) -> dict[str, Found]:
    found: dict[str, Found] = {}
    upstream = ScriptedUpstream(Replay(lines, seed))
    async with upstream:
        with tempfile.TemporaryDirectory() as folder:
            text, names = policy_text(lines, upstream.url, cap, limit)
            Path(folder, "policy.yaml").write_text(text)
            async with (
                in_process(Path(folder, "policy.yaml"), Path(folder, "data")) as (_, url),
                httpx.AsyncClient(base_url=url, timeout=60) as client,
            ):
                for number, line in enumerate(lines):
                    await one(client, number, line, names, found.setdefault(line["host"], Found()), show)
    return found


async def one(
    client: httpx.AsyncClient, number: int, line: dict[str, Any], names: dict[str, str], found: Found, show: bool
) -> None:
    name = names[line["host"]]
    headers = {"x-line": str(number), "x-agent-id": "replay", "accept-encoding": "gzip, deflate"}
    for upstream in (name, f"{name}f"):
        content = (line["request"] or "").encode()
        kind = {"content-type": "application/json"} if content.startswith((b"{", b"[")) else {}
        answer = await client.request(
            line["method"].upper(), f"/{upstream}{line['path']}", headers=headers | kind, content=content
        )
        action_id = answer.headers.get("x-ledger-action-id")
        if action_id is not None:
            break
    else:
        found.usage["refused" if line["expected"] else "refused, bills nothing"] += 1
        if show:
            print("REFUSED", line["host"], line["path"][-60:], answer.status_code, answer.text[:120])
        return
    got = await client.get(f"/api/actions/{action_id}", headers=ADMIN_HEADERS)
    judge(line, json.loads(got.content, parse_float=Decimal), found, show)


def judge(line: dict[str, Any], action: dict[str, Any], found: Found, show: bool) -> None:
    expected = line["expected"]
    usage = {unit: quantity for unit, quantity in action["usage"].items() if quantity and unit in DIMENSIONS}
    if expected is None or "usage" not in expected:
        verdict = "bills nothing: " + ("free" if not action["cost"] else "charged")
        found.usage[verdict + (", unconfirmed" if action["unconfirmed"] else "")] += 1
        if show and action["cost"]:
            print("CHARGED", line["host"], line["path"][-60:], line["status"], usage, action["flags"])
        return
    wanted = {unit: quantity for unit, quantity in expected["usage"].items() if quantity}
    verdict = "right" if usage == wanted else "unreadable" if action["unconfirmed"] else "wrong"
    if verdict == "wrong" and {unit: usage.get(unit) for unit in wanted} == wanted:
        verdict = "right, and more"
    found.usage[verdict] += 1
    if show and verdict != "right":
        print(verdict.upper(), line["host"], line["path"][-50:], "wanted", wanted, "got", usage, action["flags"])
    cost = true_cost(action, expected["usage"])
    covered = int(action["reserved"] * NANO) >= cost
    plain = is_plain(json.loads(line["request"])) if line["request"] else False
    found.covered += covered
    found.usage["covered" if covered else "NOT COVERED"] += 1
    if plain:
        found.plain += 1
        compare_input(line, action, expected["usage"]["input_tokens"], found, show)
    if show and not covered:
        kind = "plain" if plain else "not plain"
        print("NOT COVERED", kind, line["host"], line["path"][-50:], action["reserved"], action["cost"])


def true_cost(action: dict[str, Any], used: dict[str, int]) -> int:
    """What the call should have cost: with a ceiling written upstream, its output would have ended there."""
    rates = _rates(action["charge"]["rates"])
    if action["outputCap"] is None:
        return max(int(action["cost"] * NANO), charge(rates, used))
    items = action["charge"]["estimate"]["items"]
    most = max((item["quantity"] for item in items if item["usage"].startswith("output_")), default=0)
    cut = {unit: min(count, most) if unit.startswith("output_") else count for unit, count in used.items()}
    return charge(rates, cut)


def compare_input(line: dict[str, Any], action: dict[str, Any], truth: int, found: Found, show: bool) -> None:
    estimate = action["charge"].get("estimate") or {}
    tokens = sum(item["quantity"] for item in estimate.get("items", ()) if _is_input(item["usage"]))
    if not tokens or not truth:
        return
    if tokens < truth:
        found.short += 1
        if show:
            print("INPUT SHORT", line["host"], line["path"][-50:], "estimate", tokens, "true", truth)
    if truth > 200:
        found.ratios.append(tokens / truth)


def _rates(shown: dict[str, Any]) -> Rates:
    def text(rate: Any) -> Any:
        if isinstance(rate, dict):
            return {"base": str(rate["base"]), "tiers": [(start, str(usd)) for start, usd in rate["tiers"]]}
        return str(rate)

    return load_rates({key: text(rate) for key, rate in shown.items()})


def _is_input(unit: str) -> bool:
    return DIMENSIONS.get(unit, {}).get("direction") == "input"


def table(found: dict[str, Found]) -> None:
    print(f"{'host':46} {'right':>6} {'more':>5} {'wrong':>6} {'unread':>6} {'refused':>7}  others")
    columns = ("right", "right, and more", "wrong", "unreadable", "refused")
    for host, each in sorted(found.items()):
        others = {name: count for name, count in each.usage.items() if name not in columns}
        counts = [each.usage[name] for name in columns]
        print(f"{host[:46]:46} {counts[0]:6} {counts[1]:5} {counts[2]:6} {counts[3]:6} {counts[4]:7}  {others or ''}")
    total: Counter[str] = sum((each.usage for each in found.values()), Counter())
    print({name: total[name] for name in (*columns, "covered", "NOT COVERED")})
    plain, short = sum(each.plain for each in found.values()), sum(each.short for each in found.values())
    ratios = sorted(ratio for each in found.values() for ratio in each.ratios)
    if ratios:
        middle, high = statistics.median(ratios), ratios[int(len(ratios) * 0.95)]
        print(f"{plain} plain calls, the input of {short} estimated below the truth")
        print(f"above 200 input tokens {len(ratios)}; estimate / input: {middle:.2f} (median), {high:.2f} (95%)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recorded", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cap", action="store_true")
    parser.add_argument("--limit", default="1000", help="the agent's per_action_limit in USD")
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    logging.getLogger("agent_ledger").setLevel(logging.ERROR)
    began = time.monotonic()
    lines = read(options.recorded)
    table(asyncio.run(replay(lines, options.seed, options.cap, options.limit, options.show)))
    print(f"{len(lines)} exchanges in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
