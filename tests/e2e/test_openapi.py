"""Whatever schemathesis makes of /openapi.json, a real sidecar answers as it says, never 5xx.

It tries every method of every path with data that the schemas allow and that they don't, with and without credentials,
and follows what answers lead to. `SCHEMATHESIS_EXAMPLES=200` makes it a long run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.sidecar import ADMIN, Process

EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "10")
POLICY = """
version: 1
upstreams:
  openai: {url: "http://127.0.0.1:9"}
agents:
  - {id: painter, role: Pictures, owner_id: design, monthly_budget: 20.00, per_action_limit: 1.00, key: alk_painter_key}
prices:
  - {name: deal, match: {upstream: openai}, rates: {input_mtok: 2.50, output_mtok: 10.00}}
budgets:
  - {name: everyone-day, amount: 50.00, period: day}
"""
# What no schema can say is refused as it should be: an amount finer than a nano-dollar, a cursor that is none of ours,
# an upstream that the policy doesn't name, and so on.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "401", "403", "404", "409", "422", "429"]
"""


def test_every_answer_is_what_the_contract_says(tmp_path: Path) -> None:
    policy, config = tmp_path / "policy.yaml", tmp_path / "schemathesis.toml"
    policy.write_text(POLICY)
    config.write_text(CONFIG)
    with Process(policy, tmp_path / "data") as sidecar:
        arguments = [f"{sidecar.url}/openapi.json", "--header", f"Authorization: Bearer {ADMIN}"]
        arguments += ["--max-examples", EXAMPLES, "--no-color", "--warnings", "off", "--request-timeout", "20"]
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        assert "in the application" not in sidecar.log.read_text()
    assert "Tested:" in done.stdout
