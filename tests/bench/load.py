"""Calls under load: CPU of the proxy's whole tree for each, calls a second, how long they take; round by round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench import wrk
from tests.bench.calls import HEADERS, SCENARIOS, Scenario
from tests.bench.processes import cpu_us, wait_until_idle
from tests.bench.report import Report, figure, progress, ratio
from tests.bench.targets import BARE, LITELLM, NAIVE, NGINX, SIDECAR, Running


@dataclass(frozen=True)
class Round:
    cpu_us: float
    per_s: float
    p50_us: float
    p99_us: float
    errors: int


Rounds = dict[str, list[Round]]


def measure(
    report: Report, running: Sequence[Running], folder: Path, kinds: set[str], rounds: int, seconds: int
) -> None:
    scenarios = [scenario for scenario in SCENARIOS if scenario.kind in kinds]
    scripts = {s.name: wrk.script(folder, f"scenario-{n}", s.body, HEADERS) for n, s in enumerate(scenarios)}
    for first in {scenario.kind: scenario for scenario in reversed(scenarios)}.values():
        for each in running:  # modules that are imported late, pools that fill
            progress(f"warming up {each.target.name}")
            wrk.run(each.url, scripts[first.name], first.connections, 1)
    for scenario in scenarios:
        found: Rounds = {each.target.name: [] for each in running}
        for number in range(rounds):
            for each in running:
                progress(f"{scenario.name}: round {number + 1} of {rounds}, {each.target.name}")
                found[each.target.name].append(_round(each, scripts[scenario.name], scenario, seconds))
        progress("")
        _tell(report, scenario, found)


def _round(each: Running, script: Path, scenario: Scenario, seconds: int) -> Round:
    wait_until_idle(each.pid)
    before = cpu_us(each.pid)
    ran = wrk.run(each.url, script, scenario.connections, seconds)
    wait_until_idle(each.pid)
    # wrk's time ends in the middle of a call of each connection: half of each was served, and is not in its count.
    calls = ran.calls + scenario.connections / 2
    return Round((cpu_us(each.pid) - before) / calls, ran.per_s, ran.p50_us, ran.p99_us, ran.errors)


def _tell(report: Report, scenario: Scenario, found: Rounds) -> None:
    compared = [name for name in (NGINX, NAIVE, LITELLM) if name in found]
    head = ["", "CPU µs a call", "CPU × nginx", "calls/s", *(f"calls/s × {name}" for name in compared)]
    head += ["p50 ms", "p99 ms", "errors"]
    rows = []
    for name, rounds in found.items():
        cells = [name, figure(median(each.cpu_us for each in rounds)), ratio(_against(found, name, NGINX, "cpu_us"))]
        cells.append(figure(median(each.per_s for each in rounds), 0))
        cells += [ratio(_against(found, name, other, "per_s")) for other in compared]
        cells += [figure(median(each.p50_us for each in rounds) / 1e3, 2)]
        cells += [figure(median(each.p99_us for each in rounds) / 1e3, 2), str(sum(each.errors for each in rounds))]
        rows.append(cells)
    report.heading(scenario.name)
    report.table(head, rows)
    if SIDECAR in found and BARE in found:
        pairs = zip(found[SIDECAR], found[BARE], strict=True)
        adds = median(ours.cpu_us - bare.cpu_us for ours, bare in pairs)
        report.line(f"The gate adds {adds:.1f} µs of CPU a call to its own server and transport.")


def _against(found: Rounds, name: str, other: str, what: str) -> float | None:
    """The median of each round's ratio: what slows the machine for a while slows both."""
    if other not in found:
        return None
    pairs = zip(found[name], found[other], strict=True)
    return median(getattr(ours, what) / getattr(theirs, what) for ours, theirs in pairs)
