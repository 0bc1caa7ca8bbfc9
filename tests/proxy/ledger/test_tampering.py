"""Promise 12: `verify` finds any line before the head that was changed, removed, doubled, put in or moved.

The suite tries a sample: TAMPER_TRIES=2000 tries each way so often, TAMPER_FLIPS=all every bit of every byte (minutes).
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from policy.money import NANO
from proxy.ledger.archive import archive
from proxy.ledger.embedded import open_embedded
from proxy.ledger.port import Settlement
from proxy.ledger.verify import verify
from tests.contract.policies import policy
from tests.contract.world import World, call, ms

MONTHS = ["2026-10", "2026-11", "2026-12"]
PLACE = re.compile(r"\d{4}-\d\d\.jsonl(\.gz)?, line \d+, byte \d+")

TRIES = int(os.environ.get("TAMPER_TRIES", "60"))  # of each way

# The journal's folder: name → bytes.
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Some 60 lines over three months, the first compressed; no desk and no index that would tell of it too."""
    data = tmp_path_factory.mktemp("whole")

    async def fill() -> None:
        world = World(open_embedded, data, {"first": policy(thresholds=(50,))})
        await world.start()
        for month in MONTHS:
            world.at = ms(f"{month}-20T00:00:00Z")
            for n in range(6):
                world.at += 1000
                held = await world.ledger.authorize(call(estimate=n * NANO))
                await world.ledger.settle(held.action_id, Settlement(n * NANO - n, "success" if n % 2 else "failure"))
                await world.ledger.record(call(estimate=n), "success", (f"{month} {n}", "d"))
        await world.stop()

    asyncio.run(fill())
    list(archive(data, ms("2027-06-01T00:00:00Z"), before="2026-11"))
    return {path.name: path.read_bytes() for path in (data / "journal").iterdir()}


def text_of(files: Files, name: str) -> bytes:
    return gzip.decompress(files[name]) if name.endswith(".gz") else files[name]


def lines_of(files: Files, name: str) -> list[bytes]:
    return text_of(files, name).splitlines(keepends=True)


def put(files: Files, name: str, lines: list[bytes]) -> None:
    text = b"".join(lines)
    files[name] = gzip.compress(text, mtime=0) if name.endswith(".gz") else text


def journals(files: Files) -> list[str]:
    return sorted(name for name in files if ".jsonl" in name)


def put_synced(files: Files) -> None:
    newest = journals(files)[-1]
    note = {"month": newest[:7], "offset": len(files[newest]), "crc": zlib.crc32(files[newest])}
    files["synced"] = json.dumps(note).encode()


def folder(files: Files, data: Path) -> Path:
    journal = data / "journal"
    journal.mkdir(exist_ok=True)
    for path in journal.iterdir():
        if files.get(path.name) != path.read_bytes():
            path.unlink()
    for name, content in files.items():
        if not (journal / name).exists():
            (journal / name).write_bytes(content)
    return data


# -- ways to tamper: each changes some line of the journal, or where it stands ----------------------------------------
def flip(files: Files, random: Random) -> None:
    name = random.choice(journals(files))
    at = random.randrange(len(files[name]))
    changed = bytearray(files[name])
    changed[at] ^= 1 << random.randrange(8)
    files[name] = bytes(changed)


def delete_lines(files: Files, random: Random) -> None:
    name = random.choice(journals(files))
    lines = lines_of(files, name)
    at = random.randrange(len(lines))
    del lines[at : at + random.randint(1, 3)]
    put(files, name, lines)


def double_lines(files: Files, random: Random) -> None:
    name = random.choice(journals(files))
    lines = lines_of(files, name)
    at = random.randrange(len(lines))
    doubled = lines[at : at + random.randint(1, 3)]
    to = random.choice([at, random.randrange(len(lines) + 1)])
    put(files, name, [*lines[:to], *doubled, *lines[to:]])


def swap_lines(files: Files, random: Random) -> None:
    name = random.choice(journals(files))
    lines = lines_of(files, name)
    one, other = random.sample(range(len(lines)), 2)
    lines[one], lines[other] = lines[other], lines[one]
    put(files, name, lines)


def move_lines(files: Files, random: Random) -> None:
    source, target = random.sample(journals(files), 2)
    lines, into = lines_of(files, source), lines_of(files, target)
    moved = [lines.pop(random.randrange(len(lines))) for _ in range(random.randint(1, 3))]
    at = random.choice([0, len(into), random.randrange(len(into))])
    put(files, source, lines)
    put(files, target, [*into[:at], *moved, *into[at:]])


def truncate(files: Files, random: Random) -> None:
    name = random.choice(journals(files))
    files[name] = files[name][: random.randrange(len(files[name]))]


def delete_file(files: Files, random: Random) -> None:
    del files[random.choice(journals(files))]


def swap_files(files: Files, random: Random) -> None:
    one, other = random.sample(journals(files), 2)
    lines = lines_of(files, one)
    put(files, one, lines_of(files, other))
    put(files, other, lines)


def edit(files: Files, random: Random) -> None:
    """A field changed, and the line's JSON as it should be."""
    name = random.choice(journals(files))
    lines = lines_of(files, name)
    at = random.randrange(len(lines))
    line = json.loads(lines[at])
    fields = random.choice([line, line.get("action", line)])
    field = random.choice(sorted(fields))
    before = fields[field]
    fields[field] = random.choice(
        [7, -1, "x", None, [], {}, True, 1e9, "0" * 64, before + 1 if isinstance(before, int) else 0]
    )
    if random.random() < 0.3:
        del fields[field]
    lines[at] = json.dumps(line, separators=(",", ":")).encode() + b"\n"
    put(files, name, lines)


def insert(files: Files, random: Random) -> None:
    """A line that follows the one before it in every respect; but none follows it. (Behind the head, none would.)"""
    name = random.choice(journals(files))
    lines = lines_of(files, name)
    at = random.randrange(len(lines) - 1)
    line = json.loads(lines[at])
    new = {**line, "type": "alert", "seq": line["seq"] + 1, "prev": hashlib.sha256(lines[at]).hexdigest(), "alerts": []}
    put(files, name, [*lines[: at + 1], json.dumps(new).encode() + b"\n", *lines[at + 1 :]])


WAYS: tuple[Callable[[Files, Random], None], ...] = (
    flip, delete_lines, double_lines, swap_lines, move_lines, truncate, delete_file, swap_files, edit, insert,
)  # fmt: skip


def same(one: Files, other: Files) -> bool:
    try:
        return journals(one) == journals(other) and all(
            text_of(one, name) == text_of(other, name) for name in journals(one)
        )
    except (OSError, EOFError, zlib.error):
        return False


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_promise_12_what_is_tampered_with_is_found_and_its_place_told(
    whole: Files, tmp_path: Path, way: Callable[[Files, Random], None]
) -> None:
    assert verify(folder(whole, tmp_path)).problems == ()
    for seed in range(TRIES):
        files = dict(whole)
        way(files, Random(seed))
        report = verify(folder(files, tmp_path))
        if same(files, whole):
            assert report.ok, (seed, report)
        else:
            assert not report.ok, (seed, report)
            assert PLACE.search(report.problems[0]), (seed, report)


def test_promise_12_any_bit_of_any_line_that_flips_is_found(whole: Files, tmp_path: Path) -> None:
    bits = [(name, bit) for name in journals(whole) for bit in range(8 * len(whole[name]))]
    if os.environ.get("TAMPER_FLIPS") != "all":
        bits = Random(1).sample(bits, 300) + [(name, bit) for name, bit in bits if bit < 64][:64]
    unseen = 0
    for name, bit in bits:
        changed = bytearray(whole[name])
        changed[bit // 8] ^= 1 << bit % 8
        files = {**whole, name: bytes(changed)}
        if verify(folder(files, tmp_path)).ok:
            unseen += 1
            assert same(files, whole), (
                name,
                bit,
            )  # the head of a compressed file has bytes that mean nothing to its text
    print(f"{len(bits)} flips: {len(bits) - unseen} found, {unseen} changed no line")


@pytest.mark.parametrize("lines", [1, 2, 5])
def test_promise_12_a_tail_cut_with_the_note_of_what_was_synced_is_found_by_an_anchor_alone(
    whole: Files, tmp_path: Path, lines: int
) -> None:
    head = verify(folder(whole, tmp_path)).head
    files = dict(whole)
    put(files, "2026-12.jsonl", lines_of(files, "2026-12.jsonl")[:-lines])
    assert not verify(folder(files, tmp_path)).ok
    put_synced(files)
    assert verify(folder(files, tmp_path)).ok
    assert verify(tmp_path, anchor=head).problems == (
        f"no line has the hash {head}: the journal was cut or written anew",
    )


@pytest.mark.parametrize("seed", range(8))
def test_promise_12_a_chain_written_anew_is_found_by_an_anchor_alone(whole: Files, tmp_path: Path, seed: int) -> None:
    """Whoever can write the folder can do so: the hashes prove nothing against that, but a head kept elsewhere does."""
    files, random = dict(whole), Random(seed)
    heads = [hashlib.sha256(line).hexdigest() for name in journals(whole) for line in lines_of(whole, name)]
    first, prev, number = random.randrange(len(heads)), "0" * 64, 0
    for name in journals(files):
        lines = lines_of(files, name)
        for at, line in enumerate(lines):
            line = re.sub(rb'"prev":"\w+"', f'"prev":"{prev}"'.encode(), line)
            if number == first:
                line = line.replace(b'"at":', b'"at": ')
            lines[at], prev, number = line, hashlib.sha256(line).hexdigest(), number + 1
        put(files, name, lines)
    put_synced(files)
    assert verify(folder(files, tmp_path)).problems == ()
    for line, head in enumerate(heads):
        assert verify(tmp_path, anchor=head).ok == (line < first), line


def test_the_last_line_where_nothing_vouches_for_it(whole: Files, tmp_path: Path) -> None:
    """Without a note of what was synced, what the last line says is only known to an anchor."""
    head = verify(folder(whole, tmp_path)).head
    files = {name: content for name, content in whole.items() if name != "synced"}
    lines = lines_of(files, "2026-12.jsonl")
    put(files, "2026-12.jsonl", [*lines[:-1], lines[-1].replace(b'"digest"', b'"digset"').replace(b'"d"', b'"e"')])
    assert files["2026-12.jsonl"] != whole["2026-12.jsonl"]
    assert verify(folder(files, tmp_path)).ok
    assert not verify(tmp_path, anchor=head).ok
