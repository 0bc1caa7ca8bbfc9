"""A journal of an older format opens and goes on; one of a newer is refused by name, which damage is not taken for.

`v1/` was written by the last engine of format 1 (d8b270a), `v2/` by the last of format 2 (f10ed22): two months, every
kind of line it had, a call in flight, and a desk that is behind its journal.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from policy.model import Webhook
from proxy.ledger.embedded import open_embedded
from proxy.ledger.entries import VERSION
from proxy.ledger.lookup import find_action
from proxy.ledger.port import ActionFilter, LedgerDamaged, LedgerError, LedgerUnavailable
from proxy.ledger.verify import verify
from tests.contract.policies import agent, budget, limit, policy
from tests.contract.world import World, ms

V1 = Path(__file__).parent / "v1"
V2 = Path(__file__).parent / "v2"
V2_HEAD = "758fde21969cab20477f2ad7acf067e3809b3f068706ee4bbfcf384d4dd07efe"
V1_HEAD = "daa539922088475beb55842cfd34a7fa0963f1c557280dc41d47b48297ac00ce"
FIRST = policy(
    agent(),
    agent("b", "1", "0.5"),
    budget("team-day", "20", owner_ids=("team",)),
    budget("all", "1000", "total"),
    budget("shadow", "0.000000001", "day", "shadow", owner_ids=("other",)),
    limit("burst", requests=100, period="minute"),
    limit("flying", concurrent=3),
    thresholds=(50, 80),
)
POLICY = replace(FIRST, budgets=(*FIRST.budgets, budget("year", "500", "year", each="agent")))
NEWER = VERSION + 1
TOLD = f"written by a newer Agent Ledger: format {NEWER}; this one reads 1 to {VERSION}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return Path(shutil.copytree(V1, tmp_path / "v1"))


@pytest.fixture
def old(data: Path) -> World:
    world = World(open_embedded, data, {"first": POLICY})
    world.at = ms("2026-11-01T00:00:10Z")
    return world


def test_a_folder_of_format_1_proves_whole(data: Path) -> None:
    report = verify(data)
    assert (report.problems, report.lines, report.head) == ((), 30, V1_HEAD)


@pytest.mark.parametrize("desk", ["kept", "lost"])
async def test_a_folder_of_format_1_opens_with_all_that_it_held_and_goes_on(old: World, desk: str) -> None:
    if desk == "lost":
        (old.data / "desk.json").unlink()
    await old.start()
    assert old.ledger.health().warnings == ()
    await old.run("""
        balance monthly_budget a    → 5.000000001+0.00
        balance monthly_budget b    → 1.00+0.00
        balance monthly_budget agt_c → 2.00+0.00
        balance team-day            → 6.000000001+0.00
        balance all                 → 14.200000001+0.00
        balance shadow              → 2.00+0.00
        balance year a              → 9.750000001+0.00
        balance year b              → 1.70+0.00
        balance year agt_c          → 2.75+0.00
        status a     → active
        status b     → paused
        status agt_c → active
        record a 0.000000001 key k-nov body d3 → IdempotencyConflict
        record a 0.000000001 key k-nov body d2 → replayed 0.000000001
        authorize a 1.00 as one  → ok 12.999999999
        settle one 0.50          → 0.50
    """)
    assert [old.ledger.agent_by_key(key * 32).id for key in ("a1", "c1", "c2")] == ["a", "agt_c", "agt_c"]
    assert len(await old.ledger.alerts()) == 13
    rows = (await old.ledger.actions(ActionFilter(limit=100))).items
    assert (len(rows), sum(row.count for row in rows)) == (16, 17)
    assert sum(row.cost for row in rows) == 14_700_000_001
    await old.restart()
    await old.run("balance monthly_budget a → 5.500000001+0.00")
    await old.stop()
    assert verify(old.data, anchor=V1_HEAD).problems == ()
    written = [json.loads(line)["v"] for line in (old.data / "journal" / "2026-11.jsonl").read_bytes().splitlines()]
    assert written == [1] * 11 + [VERSION] * (len(written) - 11)


@pytest.mark.parametrize("desk", ["kept", "lost"])
async def test_a_folder_of_format_2_opens_and_its_alerts_of_then_are_sent_to_no_webhook_of_now(
    tmp_path: Path, desk: str
) -> None:
    data = Path(shutil.copytree(V2, tmp_path / "v2"))
    report = verify(data)
    assert (report.problems, report.lines, report.head) == ((), 24, V2_HEAD)
    if desk == "lost":
        (data / "desk.json").unlink()
    hooked = replace(FIRST, budgets=FIRST.budgets[:2], webhooks=(Webhook("http://h", name="ops"),))
    world = World(open_embedded, data, {"hooked": hooked})
    world.at = ms("2026-11-01T00:00:10Z")
    await world.start()
    assert world.ledger.health().warnings == ()
    assert len(await world.new_alerts()) == 8
    assert world.ledger.deliveries() == []
    await world.run("""
        balance monthly_budget a    → 10.75+0.00
        balance team-day            → 10.75+0.00
        balance all                 → 19.75+0.00
        status b                    → paused
        record a 0.01 key k-oct body d2 → ok 0.01
        authorize a 1.00 as one     → ok 8.24
        settle one 2.00             → 2.00
    """)
    assert [world.ledger.agent_by_key(key * 32).id for key in ("a2", "c1")] == ["a", "agt_c"]
    assert world.ledger.agent_by_key("a1" * 32) is None
    assert [each.alert for each in world.ledger.deliveries()] == (new := await world.new_alerts())
    assert [alert.type for alert in new] == ["budget_threshold", "overrun"]
    held = world.ledger.deliveries()
    await world.restart()
    assert world.ledger.deliveries() == held
    await world.stop()
    assert verify(data, anchor=V2_HEAD).problems == ()
    written = [json.loads(line)["v"] for line in (data / "journal" / "2026-11.jsonl").read_bytes().splitlines()]
    assert written == [2] * 6 + [VERSION] * (len(written) - 6)


def appended(data: Path, *versions: int, synced: bool) -> str:
    """Lines that say those formats, chained behind what is there; the place of the first."""
    path = data / "journal" / "2026-11.jsonl"
    text = path.read_bytes()
    number, byte = text.count(b"\n") + 1, len(text)
    last = json.loads(text.splitlines()[-1])
    for version in versions:
        head = hashlib.sha256(text.splitlines(keepends=True)[-1]).hexdigest()
        line = {"v": version, "seq": last["seq"] + 1, "prev": head, "at": last["at"], "type": "marvel", "of": "later"}
        last = line
        text += json.dumps(line).encode() + b"\n"
    path.write_bytes(text)
    if synced:
        note = {"month": "2026-11", "offset": len(text), "crc": zlib.crc32(text)}
        (data / "journal" / "synced").write_text(json.dumps(note))
    return f"2026-11.jsonl, line {number}, byte {byte}: "


@pytest.mark.parametrize("synced", [True, False])
@pytest.mark.parametrize("lines", [1, 2])
@pytest.mark.parametrize("desk", ["older", "newer", "lost"])
async def test_a_newer_format_is_refused_by_name_and_left_as_it_is(
    old: World, lines: int, synced: bool, desk: str
) -> None:
    place = appended(old.data, *[NEWER] * lines, synced=synced)
    path = old.data / "journal" / "2026-11.jsonl"
    if desk == "lost":
        (old.data / "desk.json").unlink()
    elif desk == "newer":
        text, last = path.read_bytes(), json.loads(path.read_bytes().splitlines()[-1])
        held = json.loads((old.data / "desk.json").read_text())
        head = hashlib.sha256(text.splitlines(keepends=True)[-1]).hexdigest()
        mark = {"offset": len(text), "crc": zlib.crc32(text), "seq": last["seq"], "head": head, "at": last["at"]}
        held["checkpoint"]["1"].update(mark, v=NEWER)
        (old.data / "desk.json").write_text(json.dumps(held))
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=re.escape(place + TOLD)):
        await old.start()
    assert path.read_bytes() == before
    assert not list((old.data / "journal").glob("damaged-*"))
    assert place + TOLD in verify(old.data).problems


@pytest.mark.parametrize("line", range(30))
async def test_hazard_38_a_line_damaged_to_say_a_newer_format_is_damage(old: World, line: int) -> None:
    paths = sorted((old.data / "journal").glob("*.jsonl"))
    path = paths[line >= 19]
    lines = path.read_bytes().splitlines(keepends=True)
    number = line - 19 if line >= 19 else line
    lines[number] = lines[number].replace(b'{"v":1', b'{"v":%d' % NEWER)
    path.write_bytes(b"".join(lines))
    problem = verify(old.data).problems[0]
    assert problem.startswith(f"{path.name}, line {number + 1}, byte {sum(map(len, lines[:number]))}: ")
    assert "newer" not in problem
    if line >= 19:
        (old.data / "desk.json").unlink()
        with pytest.raises(LedgerDamaged, match=f"damaged where it was synced: {path.name}, line {number + 1}"):
            await old.start()


@pytest.mark.parametrize("version", ["0", "-1", "null", '"1"', "[]", "1.5", "{}", '"9"'])
async def test_what_is_no_version_is_damage(old: World, version: str) -> None:
    path = old.data / "journal" / "2026-11.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[-1] = lines[-1].replace(b'{"v":1', b'{"v":' + version.encode())
    path.write_bytes(b"".join(lines))
    (old.data / "journal" / "synced").unlink()
    assert verify(old.data).problems[0].startswith("2026-11.jsonl, line 11, byte ")
    (old.data / "desk.json").unlink()
    await old.start()  # never known to be synced: set aside
    assert "2026-11.jsonl, line 11" in old.ledger.health().warnings[0]
    await old.stop()


def saying_newer(data: Path, number: int) -> bytes:
    """A line of the closed month, before it was made to say a newer format."""
    path = data / "journal" / "2026-10.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    line, lines[number] = lines[number], lines[number].replace(b'{"v":1', b'{"v":%d' % NEWER)
    path.write_bytes(b"".join(lines))
    return line


async def test_the_index_refuses_a_newer_format_by_name(old: World) -> None:
    saying_newer(old.data, -1)
    await old.start()
    with pytest.raises(LedgerUnavailable, match=re.escape(f"2026-10.jsonl, line 19, byte 10288: {TOLD}")):
        await old.ledger.actions(ActionFilter())
    assert TOLD in old.ledger.health().warnings[0]
    await old.stop()


def test_a_look_up_says_which_format_it_does_not_read(data: Path) -> None:
    action_id = json.loads(saying_newer(data, -2))["action"]["id"]
    with pytest.raises(LedgerDamaged, match=f"a line of 2026-10.jsonl that names {action_id} can't be read: .*format"):
        find_action(data, action_id)
