"""`python -m tests.fuzz NAME --minutes M`: one harness for minutes, by atheris where it is installed (`.[fuzz]`).

With atheris half of the inputs are mutated by the code that they reach, half are drawn from the target's strategy by
bytes so mutated; without it all are drawn by hypothesis. What breaks a property is written into `--found`.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

_SOWN = 200  # inputs of the strategy that atheris begins with
_DRAWN = b"\1"  # the last byte of what is no input itself, but draws one

_freely = settings(deadline=None, database=None, max_examples=1000, suppress_health_check=list(HealthCheck))


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.fuzz")
    parser.add_argument("name")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--found", type=Path, default=Path(), help="the folder for what breaks a property")
    asked = parser.parse_args()
    run = _by_hypothesis if find_spec("atheris") is None else _by_atheris
    run(asked.name, asked.minutes * 60, asked.found)


def _by_atheris(name: str, seconds: float, found: Path) -> None:
    import atheris  # type: ignore[import-not-found]  # an extra

    with atheris.instrument_imports(include=["policy", "proxy"]):
        from tests.fuzz.targets import TARGETS, seeds
    inputs, harness = TARGETS[name].inputs, _keeping(name, TARGETS[name].harness, found)
    draw = _drawing(inputs, harness)
    corpus = found / f"corpus-{name}"
    corpus.mkdir(parents=True, exist_ok=True)

    def sow(data: bytes) -> None:
        (corpus / _digest(data)).write_bytes(data + b"\0")

    for seed in seeds(name):
        sow(seed)
    settings(_freely, max_examples=_SOWN, phases=[Phase.generate])(given(inputs)(sow))()

    def one(data: bytes) -> None:
        if data.endswith(_DRAWN):
            draw.hypothesis.fuzz_one_input(data[:-1])  # type: ignore[attr-defined]  # it has it
        else:
            harness(data[:-1])

    limits = [f"-max_total_time={int(seconds)}", "-timeout=20", "-rss_limit_mb=2048", "-max_len=16384"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={found}/raw-{name}-", str(corpus)], one)
    atheris.Fuzz()


def _by_hypothesis(name: str, seconds: float, found: Path) -> None:
    from tests.fuzz.targets import TARGETS

    draw = _drawing(TARGETS[name].mixed(), _keeping(name, TARGETS[name].harness, found))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        draw()


def _keeping(name: str, harness: Callable[[bytes], None], found: Path) -> Callable[[bytes], None]:
    def kept(data: bytes) -> None:
        try:
            harness(data)
        except Exception:
            (found / f"{name}-{_digest(data)}").write_bytes(data)
            raise

    return kept


def _drawing(inputs: st.SearchStrategy[bytes], harness: Callable[[bytes], None]) -> Callable[[], None]:
    def drawn(data: bytes) -> None:
        harness(data)

    return _freely(given(inputs)(drawn))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


if __name__ == "__main__":
    main()
