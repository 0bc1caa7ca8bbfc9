from __future__ import annotations

import asyncio
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from policy.catalog import Catalog
from policy.model import Policy
from policy.parse import PolicyError
from proxy.ledger.port import LedgerUnavailable
from proxy.rules import PolicyFile, read_policy

POLICY = 'version: 1\nupstreams:\n  up: {url: "https://up.example"}\nagents:\n  - {id: a, monthly_budget: 1}\n'


class FakeLedger:
    """Takes what it is told to use, unless it ``can't``."""

    def __init__(self) -> None:
        self.used: list[Policy] = []
        self.cant: Exception | None = None
        self.using = 0

    async def use(self, policy: Policy) -> None:
        self.using += 1
        assert self.using == 1, "two reloads at once"
        await asyncio.sleep(0)
        self.using -= 1
        if self.cant is not None:
            raise self.cant
        self.used.append(policy)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY, "utf-8")
    return path


@pytest.fixture
def ledger() -> Any:
    return FakeLedger()


async def test_a_reload_puts_the_file_in_force_in_the_ledger_and_on_the_line(path: Path, ledger: Any) -> None:
    file = PolicyFile(path, Catalog())
    before = file.rules
    path.write_text(POLICY + "prices:\n  - {name: p, match: {path: /x}, rates: {request: 1}}\n", "utf-8")
    rules = await file.reload(ledger)
    assert file.rules is rules is not before
    assert ledger.used == [rules.policy]
    assert rules.policy.hash != before.policy.hash
    assert [price.name for price in rules.prices.candidates("up", "GET", "/x")] == ["p"]
    assert before.prices.candidates("up", "GET", "/x") == ()


BROKEN = {
    "a mistake": POLICY.replace("monthly_budget", "monthly_bugdet").encode(),
    "not YAML": b"version: [",
    "not UTF-8": b"\xff\xfe",
    "empty": b"",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
async def test_a_broken_file_changes_nothing_and_says_so_until_one_succeeds(
    path: Path, ledger: Any, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file = PolicyFile(path, Catalog())
    before, loaded_at = file.rules, file.loaded_at
    path.write_bytes(content)
    for times in (1, 2):
        with pytest.raises((PolicyError, UnicodeDecodeError)):
            await file.reload(ledger)
        assert file.reloads_failed == times
    assert (file.rules, file.loaded_at, ledger.used) == (before, loaded_at, [])
    assert file.error
    assert "policy reload refused" in caplog.text
    path.write_text(POLICY, "utf-8")
    await file.reload(ledger)
    assert (file.error, file.reloads_failed) == (None, 2)


async def test_a_file_that_is_gone_changes_nothing(path: Path, ledger: Any) -> None:
    file = PolicyFile(path, Catalog())
    path.unlink()
    with pytest.raises(FileNotFoundError):
        await file.reload(ledger)
    assert file.error is not None
    assert ledger.used == []


async def test_what_the_ledger_can_t_put_in_force_is_not_in_force_on_the_line(path: Path, ledger: Any) -> None:
    file = PolicyFile(path, Catalog())
    before = file.rules
    ledger.cant = LedgerUnavailable("the disk is full")
    with pytest.raises(LedgerUnavailable):
        await file.reload(ledger)
    assert (file.rules, file.error) == (before, "the disk is full")


async def test_reloads_come_one_after_the_other(path: Path, ledger: Any) -> None:
    file = PolicyFile(path, Catalog())
    await asyncio.gather(*(file.reload(ledger) for _ in range(5)))
    assert len(ledger.used) == 5
    assert file.rules.policy is ledger.used[-1]


async def test_a_file_that_does_not_load_is_an_error_at_start(path: Path) -> None:
    path.write_text("version: 2", "utf-8")
    with pytest.raises(PolicyError):
        PolicyFile(path, Catalog())


async def test_warnings_are_kept_with_their_place(path: Path) -> None:
    path.write_text(POLICY + "alerts:\n  thresholds: [101%]\n", "utf-8")
    lines = [
        warning.removeprefix(f"{path}:").partition(":")[0] for warning in PolicyFile(path, Catalog()).rules.warnings
    ]
    assert lines == ["3", "7"]  # no price matches the upstream; only an overrun gets there


def test_promise_10_substitutions_come_from_this_process_and_the_hash_is_of_the_text_before_them(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sk-from-file\n", "utf-8")
    secret.chmod(stat.S_IRUSR)
    headers = "{a: '${env:RULES_TEST_KEY}', b: '${file:SECRET}'}".replace("SECRET", str(secret))
    path.write_text(POLICY.replace('example"}', f'example", set_headers: {headers}}}'), "utf-8")
    hashes = set()
    for value in ("sk-one", "sk-two"):
        monkeypatch.setitem(os.environ, "RULES_TEST_KEY", value)
        policy = read_policy(path).policy
        assert policy.upstreams["up"].set_headers == (("a", value), ("b", "sk-from-file"))
        assert "sk-" not in repr(policy)
        hashes.add(policy.hash)
    assert len(hashes) == 1


async def test_hazard_34_a_missing_secret_fails_the_reload_without_showing_the_line_it_stands_in(
    path: Path, ledger: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    file = PolicyFile(path, Catalog())
    headers = "{a: 'sk-planted ${env:RULES_TEST_MISSING}'}"
    path.write_text(POLICY.replace('example"}', f'example", set_headers: {headers}}}'), "utf-8")
    with pytest.raises(PolicyError):
        await file.reload(ledger)
    assert "RULES_TEST_MISSING" in (file.error or "")
    assert "sk-planted" not in caplog.text + (file.error or "")
