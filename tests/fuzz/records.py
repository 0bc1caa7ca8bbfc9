"""Policies, money, pointers and the journal's lines."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from policy.match import PriceIndex
from policy.money import MAX_USD, NANO, MoneyError, format_usd, parse_usd, usd
from policy.parse import Parsed, PolicyError, parse_policy
from policy.pointer import dig, steps
from proxy.ledger.chain import MALFORMED
from proxy.ledger.entries import GENESIS, decode, encode, loads

SECRET = "hush-hush-7f3a"
ENV = {
    "KEY": f"Bearer {SECRET}",
    "NUMBER": "25.00",
    "ODD": f"{SECRET}\n\x1b[31m",
    "EMPTY": "",
    "AGENT": f"alk_{SECRET}",
}


def read_file(name: str) -> str:
    if name == "/run/key":
        return SECRET
    if name == "/run/binary":
        raise UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET)
    raise FileNotFoundError(2, "No such file or directory", name)


def fuzz_policy(data: bytes) -> None:
    """A policy, of the same hash each time, or problems at places of the file; none of them shows a secret."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        parsed = _parsed(text)
    except PolicyError as error:
        problems, shown = error.problems, error.render()
        assert problems
    else:
        problems, shown = parsed.warnings, parsed.render()
        assert all(problem.severity == "warning" for problem in problems)
        assert _parsed(text).policy == parsed.policy
        PriceIndex(parsed.policy)
        assert SECRET not in repr(parsed.policy)
    assert SECRET not in shown
    lines = text.split("\n")
    for problem in problems:
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.col <= len(lines[problem.line - 1]) + 1
        assert 0 <= problem.caret < 1000
        assert problem.message.isprintable()
        assert problem.excerpt.isprintable()
        assert len(problem.line_text("f")) < 1000
        assert len(problem.excerpt) < 1000


def _parsed(text: str) -> Parsed:
    return parse_policy(text, name="policy.yaml", env=ENV, read_file=read_file)


def fuzz_money(data: bytes) -> None:
    """Exactly the amount that is written, or MoneyError."""
    text = data.decode("utf-8", "surrogateescape")
    values: list[str | int | Decimal] = [text]
    try:
        values.append(Decimal(text))
    except InvalidOperation:
        pass
    for value in values:
        try:
            nano = parse_usd(value)
        except MoneyError:
            continue
        assert 0 <= nano <= MAX_USD * NANO
        assert Fraction(nano, NANO) == Fraction(value)
        assert parse_usd(usd(nano)) == nano
        assert Fraction(format_usd(nano).removeprefix("$")) * NANO == nano


def fuzz_pointer(data: bytes) -> None:
    """Whatever the path, into whatever document: a value that is there, or None."""
    path, _, text = data.decode("utf-8", "replace").partition("\n")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return
    found = dig(document, path)
    assert steps(path)
    assert found is None or json.dumps(found)[1:-1] in json.dumps(document)


def fuzz_entry(data: bytes) -> None:
    """Any line is an entry, or refused by an error that whoever reads a journal expects; an entry comes back."""
    try:
        entry = decode(loads(data))
    except MALFORMED:
        return
    if not type(entry.at) is type(entry.seq) is int:
        return  # of values that no engine writes: decode doesn't judge them
    try:
        line = encode(entry, GENESIS)
    except MALFORMED:
        return
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert encode(decode(loads(line)), GENESIS) == line
