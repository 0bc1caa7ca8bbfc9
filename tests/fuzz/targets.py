"""Every harness by name, with what its inputs are drawn from, and the inputs that are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from tests.fuzz import answers, inputs, records, requests

SEEDS = Path(__file__).parent / "seeds"


class Target(NamedTuple):
    """``harness`` raises where a property of its does not hold for the bytes."""

    harness: Callable[[bytes], None]
    inputs: inputs.Bytes

    def mixed(self) -> inputs.Bytes:
        """Drawn by the grammar, or any bytes."""
        return self.inputs | st.binary(max_size=200)


TARGETS = {
    "events": Target(answers.fuzz_events, inputs.EVENTS),
    "array": Target(answers.fuzz_array, inputs.ARRAY),
    "decoder": Target(answers.fuzz_decoder, inputs.ENCODED),
    "stripper": Target(answers.fuzz_stripper, inputs.USAGE_CHUNKS),
    "reader": Target(answers.fuzz_reader, inputs.ANSWER),
    "policy": Target(records.fuzz_policy, inputs.policies()),
    "money": Target(records.fuzz_money, inputs.MONEY),
    "pointer": Target(records.fuzz_pointer, inputs.POINTER),
    "entry": Target(records.fuzz_entry, inputs.entries()),
    "target": Target(requests.fuzz_target, inputs.PATH),
    "host": Target(requests.fuzz_host, inputs.HOST),
    "identity": Target(requests.fuzz_identity, inputs.HEAD),
    "form": Target(requests.fuzz_form, inputs.FORM),
    "json": Target(requests.fuzz_json, inputs.DOCUMENT),
    "writes": Target(requests.fuzz_writes, inputs.DOCUMENT),
    "quote": Target(requests.fuzz_quote, inputs.BODY),
    "fields": Target(requests.fuzz_fields, inputs.FIELDS),
}


def seeds(name: str) -> list[bytes]:
    """What once broke it, and what a run for minutes begins with."""
    return [path.read_bytes() for path in sorted((SEEDS / name).glob("*"))]
