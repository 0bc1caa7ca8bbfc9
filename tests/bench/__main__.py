"""This sidecar with everything on, side by side with proxies that enforce nothing: `make bench`.

    python -m tests.bench [--rounds N] [--seconds S] [--only json,sse,first-byte,memory,ready,echo,gate] [--markdown]

Proxies are on core 0; wrk, our own clients and the upstream on core 1. README.md says what each figure means.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.bench import load, streams, targets
from tests.bench.processes import LOAD_CORE, Child, NotStarted, awake, machine, program
from tests.bench.report import Report, progress
from tests.bench.targets import Running

UNDER_LOAD = ("json", "sse", "first-byte")
PARTS = (*UNDER_LOAD, "memory", "ready", "echo", "gate")
ECHO_CALLS = 100_000
_NO_LITELLM = (
    "LiteLLM is not measured: no proxy of its is installed here. In an environment of its own, "
    "pip install 'litellm[proxy]', and name its command by --litellm."
)


def main() -> int:
    options = arguments()
    report = Report(options.markdown)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended on the way out
    everywhere = os.sched_getaffinity(0)
    if len(everywhere) > 1:
        os.sched_setaffinity(0, {LOAD_CORE})
    report.heading("Machine")
    report.facts(machine())
    wanted = options.only
    has_nginx = _has("nginx", report, "nothing is compared to it")
    if not _has("wrk", report, "no calls under load are measured; all else is"):
        wanted -= {"json", "sse"}
    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        folder = Path(name)
        upstream = targets.start_upstream(folder, stack)
        if wanted & set(UNDER_LOAD):
            _under_load(report, options, wanted, folder, upstream, has_nginx)
        if "memory" in wanted:
            streams.measure_memory(report, folder, upstream, has_nginx)
        if "ready" in wanted:
            streams.measure_ready(report, folder, upstream)
    os.sched_setaffinity(0, everywhere)
    markdown = ["--markdown"] if options.markdown else []
    failed = False
    for part, arguments_of in (("echo", [str(ECHO_CALLS)]), ("gate", [])):
        if part in wanted:
            command = [sys.executable, "-m", f"tests.bench.{part}", *arguments_of, *markdown]
            with Child(command) as child:
                failed |= child.wait() != 0
    return int(failed)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement, alternating (default: 3)")
    parser.add_argument("--seconds", type=int, default=2, help="of load in each (default: 2)")
    parser.add_argument("--only", type=_parts, default=set(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--litellm", default=shutil.which("litellm"), metavar="PROGRAM", help="default: on the PATH")
    parser.add_argument("--markdown", action="store_true", help="tables to paste into README.md")
    return parser.parse_args()


def _parts(text: str) -> set[str]:
    parts = set(text.split(","))
    if unknown := parts - set(PARTS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: it is none of {', '.join(PARTS)}")
    return parts


def _has(package: str, report: Report, without: str) -> bool:
    if program(package):
        return True
    report.line(f"{package} is not installed (on Debian and Ubuntu: apt-get install {package}): {without}.")
    return False


def _under_load(
    report: Report, options: argparse.Namespace, wanted: set[str], folder: Path, upstream: int, has_nginx: bool
) -> None:
    """Everything that is compared runs all the while, and is idle while another is measured."""
    with ExitStack() as stack:
        stack.enter_context(awake(LOAD_CORE))
        running = [
            targets.start(target, folder, stack)
            for target in (
                targets.sidecar(folder, upstream),
                targets.sidecar(folder, upstream, "strict"),
                targets.bare(upstream),
                *([targets.nginx(folder, upstream)] if has_nginx else []),
                targets.naive(upstream),
            )
        ]
        if "first-byte" in wanted:
            streams.measure_first_byte(report, running, upstream, options.rounds, options.seconds)
        running += _litellm(report, options.litellm, folder, upstream, stack)
        load.measure(report, running, folder, wanted, options.rounds, options.seconds)


def _litellm(report: Report, program: str | None, folder: Path, upstream: int, stack: ExitStack) -> list[Running]:
    progress("starting LiteLLM")
    try:
        if program is not None:
            return [targets.start(targets.litellm(folder, upstream, program), folder, stack)]
    except NotStarted:
        pass
    report.line(_NO_LITELLM)
    return []


if __name__ == "__main__":
    sys.exit(main())
