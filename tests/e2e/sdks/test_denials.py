"""A denial is the SDK's own typed error with our message, sent once, and nothing of it reaches the provider."""

from __future__ import annotations

import anthropic
import botocore.exceptions
import cohere
import litellm
import mistralai.client.errors
import openai
import pytest
from google.genai import errors as genai

from tests.e2e.sdks.calls import CALLS, QUESTION
from tests.e2e.sdks.faults import fault

pytestmark = [
    # An SDK's own list of models that will retire must not fail our tests one day.
    pytest.mark.filterwarnings("ignore:The model:DeprecationWarning"),
    # google-genai's, of its own use of aiohttp, which litellm brings along.
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
]

BY_NAME = {call.name: call for call in CALLS}
# Who is denied, the model, the reason, the status.
REASONS = {
    "agent_paused": ("halted", None, 403),
    "unpriced": ("rich", "no-such-model", 403),
    "per_action_limit_exceeded": ("capped", None, 400),
    "budget_exceeded": ("poor", None, 403),
    "unauthenticated": ("nobody", None, 401),
}
# What each SDK raises for 400, 401 and 403.
ERRORS = {
    "openai": (openai.BadRequestError, openai.AuthenticationError, openai.PermissionDeniedError),
    "anthropic": (anthropic.BadRequestError, anthropic.AuthenticationError, anthropic.PermissionDeniedError),
    # It has a PermissionDeniedError, and no use for it here: any 403 of OpenAI's is to it an APIError, and one of
    # Anthropic's an APIConnectionError.
    "litellm": (litellm.BadRequestError, litellm.AuthenticationError, (litellm.APIError, litellm.APIConnectionError)),
    "gemini": (genai.ClientError,) * 3,
    "mistral": (mistralai.client.errors.SDKError,) * 3,
    "cohere": (cohere.BadRequestError, cohere.UnauthorizedError, cohere.ForbiddenError),
    "bedrock": (botocore.exceptions.ClientError,) * 3,
}
ERRORS |= dict.fromkeys(("azure", "groq", "openrouter", "langchain"), ERRORS["openai"])


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("call", [call for call in CALLS if "tools" not in call.name], ids=lambda call: call.name)
def test_a_denial_is_the_sdks_own_error_sent_once(world, call, reason):
    agent, model, status = REASONS[reason]
    arrived, denied, seen = world.arrived(), world.denied(reason), len(world.providers.seen)
    raised = fault(call, world.through(agent), QUESTION, model)
    assert world.arrived() - arrived == world.denied(reason) - denied == 1
    assert len(world.providers.seen) == seen
    assert "Agent Ledger: " in raised.message
    errors = ERRORS[call.name.partition("-")[0]]
    assert issubclass(raised.kind, errors[(400, 401, 403).index(status)])


# What each SDK, by its own defaults, waits between its attempts at a call that is denied for a moment, and then raises.
# All but boto3, whose waits are by chance, heed our Retry-After of 1 s.
TRANSIENT = {
    "openai": ([1.0, 1.0], openai.RateLimitError),
    "anthropic": ([1.0, 1.0], anthropic.RateLimitError),
    "litellm": ([1.0, 1.0], litellm.RateLimitError),
    "langchain": ([1.0, 1.0], openai.RateLimitError),
    "cohere": ([1.0, 1.0], cohere.TooManyRequestsError),
    "bedrock": ([..., ...], botocore.exceptions.ClientError),
    "litellm-claude": ([], litellm.RateLimitError),
    "gemini": ([], genai.ClientError),
    "mistral": ([], mistralai.client.errors.SDKError),
}


@pytest.mark.parametrize("name", TRANSIENT)
def test_a_transient_denial_is_retried_as_the_sdk_does_by_itself(world, name, monkeypatch):
    expected, kind = TRANSIENT[name]
    waits: list[float] = []
    with world.held():
        denied, seen = world.denied("rate_limited"), len(world.providers.seen)
        with monkeypatch.context() as patched:
            patched.setattr("time.sleep", waits.append)
            raised = fault(BY_NAME[name], world.through("busy"))
        assert world.denied("rate_limited") == denied + 1 + len(expected)
        assert len(world.providers.seen) == seen
    assert waits == expected or (... in expected and len(waits) == len(expected))
    assert issubclass(raised.kind, kind)
    assert "Agent Ledger: agent busy is over limit one-at-a-time" in raised.message
