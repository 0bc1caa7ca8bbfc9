"""Promise 12: whatever happens in whatever order, the ledger is what a model in integers says it is.

AGENT_LEDGER_EXAMPLES=5000 .venv/bin/pytest tests/contract/test_model.py plays that many histories.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.contract.engines import Engine
from tests.contract.machine import Machine

EXAMPLES = int(os.environ.get("AGENT_LEDGER_EXAMPLES", "80"))
STEPS = 40


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
def test_promise_12_any_history_is_the_models(engine: Engine) -> None:
    run_state_machine_as_test(
        type("Machine", (Machine,), {"engine": engine}),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
