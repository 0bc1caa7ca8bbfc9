"""Golden pairs: `err/X.yaml` and what is told of it, `err/X.out`. To add an error is to add two files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from policy.parse import PolicyError, parse_policy
from policy.problems import Code

PAIRS = sorted((Path(__file__).parent / "err").glob("*.yaml"))
ENV = {"KEY": "alk_from_env", "SECRET": "value-of-secret", "SECRET_WITH_NEWLINE": "value-of-secret\n"}
SECRETS = ("literal", "hunter2", "value-of-secret", "from_env")


def read_file(name: str) -> str:
    if name == "/bin/binary":
        return b"\xff".decode()
    raise FileNotFoundError(2, "No such file or directory", name)


def told(path: Path) -> str:
    try:
        return parse_policy(path.read_bytes().decode(), name=path.name, env=ENV, read_file=read_file).render()
    except PolicyError as error:
        return error.render()


@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.stem)
def test_golden_pair(path):
    assert told(path) + "\n" == path.with_suffix(".out").read_text("utf-8")


@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.stem)
def test_promise_10_no_problem_shows_a_secret(path):
    shown = told(path)
    assert not [secret for secret in SECRETS if secret in shown]


def test_every_code_has_a_pair():
    codes = set()
    for path in PAIRS:
        codes.update(
            re.findall(r"^\S+:\d+:\d+: .*\[([a-z0-9-]+)\]$", path.with_suffix(".out").read_text("utf-8"), re.M)
        )
    # A file of a megabyte is no fixture: test_source has that one.
    assert codes == set(get_args(Code)) - {"too-large"}


def test_every_pair_is_whole():
    stems = {path.stem for path in PAIRS}
    assert stems == {path.stem for path in PAIRS[0].parent.glob("*.out")}
    assert len(stems) >= 45
