"""What an SDK answers is what it answers without the sidecar, and what it says it used is what is charged."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.e2e.providers import TEXT
from tests.e2e.sdks.calls import CALLS
from tests.e2e.sdks.faults import fault

pytestmark = [
    # An SDK's own list of models that will retire must not fail our tests one day.
    pytest.mark.filterwarnings("ignore:The model:DeprecationWarning"),
    # google-genai's, of its own use of aiohttp, which litellm brings along.
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]

BY_NAME = {call.name: call for call in CALLS}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_the_answer_is_the_one_without_the_sidecar_and_is_charged(world, call):
    expected = call(world.direct)
    assert "ledger." in str(expected) or "Berlin" in str(expected) or "0.25" in str(expected)
    sent = world.providers.seen[-1]
    answer = call(world.through())
    assert answer == expected
    forwarded = world.providers.seen[-1]
    assert (forwarded.method, forwarded.path) == (sent.method, sent.path)
    assert "alk_" not in forwarded.head()
    assert "sk-provider" in forwarded.head()
    asked = forwarded.json().pop("stream_options", None) == {"include_usage": True}
    assert forwarded.body == sent.body or asked

    action = world.actions()[0]
    assert action["outcome"] == "success"
    assert Decimal(action["cost"]) > 0
    assert action["unconfirmed"] is not call.confirmed
    if call.confirmed:
        used = call.used(answer) if call.used else (30, 12)
        usage = action["usage"]
        assert (int(usage["input_tokens"]), int(usage.get("output_tokens", 0))) == used


@pytest.mark.parametrize("name", ["openrouter", "openrouter-stream"])
def test_the_cost_that_openrouter_states_is_the_charge(world, name):
    BY_NAME[name](world.through())
    assert Decimal(world.actions()[0]["cost"]) == Decimal("0.00123")


def test_what_is_free_costs_nothing(world):
    for side in (world.direct, world.through()):
        with side.client("openai") as client:
            assert [model.id for model in client.models.list()] == ["gpt-4o-mini"]
        with side.client("anthropic") as client:
            counted = client.messages.count_tokens(model="claude-opus-5", messages=[{"role": "user", "content": TEXT}])
            assert counted.input_tokens == 30
    assert [(action["price"], Decimal(action["cost"])) for action in world.actions(limit=2)] == [
        ("counting", 0),
        ("listing", 0),
    ]


def test_an_answer_bears_the_actions_id_and_what_is_left(world):
    with world.through().client("openai") as client:
        raw = client.models.with_raw_response.list()
    assert raw.headers["x-ledger-action-id"] == world.actions()[0]["id"]
    assert Decimal(raw.headers["x-ledger-budget-remaining"]) < 100


@pytest.mark.parametrize("status", [400, 401, 429, 500])
@pytest.mark.parametrize(
    "name",
    sorted(
        {call.name for call in CALLS if "-" not in call.name} | {"openai-stream", "anthropic-stream", "litellm-claude"}
    ),
)
def test_an_error_of_the_upstream_is_the_one_without_the_sidecar(world, name, status):
    call, text = BY_NAME[name], f"answer with {status}"
    before = len(world.providers.seen)
    expected = fault(call, world.direct, text)
    requests = len(world.providers.seen) - before
    assert f"The provider says {status}." in expected.message
    assert fault(call, world.through(), text) == expected
    # What the SDK retries of the upstream's errors, it retries through the sidecar: each attempt is an action.
    assert len(world.providers.seen) == before + 2 * requests
    for action in world.actions(limit=requests):
        assert (action["outcome"], action["upstreamStatus"], Decimal(action["cost"])) == ("failure", status, 0)
