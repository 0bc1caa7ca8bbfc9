"""The real SDKs through the sidecar: answers as without it, denials as their own typed errors, sent exactly once."""

from __future__ import annotations

import contextlib

import anthropic
import openai
import pytest

from tests.sidecar import Process

# An SDK's own list of models that will retire must not fail our tests one day.
pytestmark = pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")

POLICY = """
version: 1
upstreams:
  demo: {url: "builtin:demo"}
agents:
  - {id: rich, monthly_budget: 100, key: alk_rich}
  - {id: poor, monthly_budget: 0.000001, key: alk_poor}
  - {id: capped, monthly_budget: 100, per_action_limit: 0.000001, key: alk_capped}
  - {id: busy, monthly_budget: 100, key: alk_busy}
prices:
  - {name: counting, match: {path: /v1/messages/count_tokens}, rates: {request: 0}}
  - {name: models, match: {method: POST}, rates: catalog}
  - {name: listing, match: {method: GET}, rates: {request: 0}}
limits:
  - {name: never, match: {agent: busy}, requests: 1, period: year}
"""
MESSAGES = [{"role": "user", "content": "Say hello to the ledger."}]


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdks")
    (folder / "policy.yaml").write_text(POLICY)
    with Process(folder / "policy.yaml", folder / "data") as running:
        yield running


@pytest.fixture
def openai_client(sidecar):
    """Makes clients, and closes them: a client's sockets must not outlive its test."""
    with contextlib.ExitStack() as opened:
        url = f"{sidecar.url}/demo/v1"
        yield lambda key="alk_rich", **more: opened.enter_context(openai.OpenAI(base_url=url, api_key=key, **more))


@pytest.fixture
def anthropic_client(sidecar):
    with contextlib.ExitStack() as opened:
        url = f"{sidecar.url}/demo"
        yield lambda key="alk_rich": opened.enter_context(anthropic.Anthropic(base_url=url, api_key=key))


def latest(sidecar, agent="rich"):
    return sidecar.get(f"/api/actions?agentId={agent}&limit=1")["items"][0]


def test_openai_plain(sidecar, openai_client):
    answer = openai_client().chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, max_tokens=50)
    assert answer.choices[0].message.content
    action = latest(sidecar)
    assert action["target"] == "demo:gpt-4o-mini"
    assert action["outcome"] == "success"
    assert int(action["usage"]["input_tokens"]) == answer.usage.prompt_tokens
    assert int(action["usage"]["output_tokens"]) == answer.usage.completion_tokens
    assert not action["unconfirmed"]


def test_openai_answer_is_the_one_without_the_sidecar_but_for_its_headers(sidecar, openai_client):
    raw = openai_client().chat.completions.with_raw_response.create(
        model="gpt-4o-mini", messages=MESSAGES, max_tokens=50
    )
    assert raw.headers["x-ledger-action-id"] == latest(sidecar)["id"]
    assert float(raw.headers["x-ledger-budget-remaining"]) < 100


def test_openai_stream_that_asked_for_no_usage_gets_none_and_is_metered(sidecar, openai_client):
    stream = openai_client().chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, max_tokens=50, stream=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)
    action = latest(sidecar)
    assert not action["unconfirmed"]
    assert int(action["usage"]["output_tokens"]) > 0


def test_openai_stream_that_asked_for_usage_gets_it(sidecar, openai_client):
    stream = openai_client().chat.completions.create(
        model="gpt-4o-mini", messages=MESSAGES, max_tokens=50, stream=True, stream_options={"include_usage": True}
    )
    last = list(stream)[-1]
    assert last.choices == []
    assert last.usage.prompt_tokens == int(latest(sidecar)["usage"]["input_tokens"])


def test_openai_responses_plain_and_stream(sidecar, openai_client):
    client = openai_client()
    answer = client.responses.create(model="gpt-4o-mini", input="Hello", max_output_tokens=50)
    assert int(latest(sidecar)["usage"]["output_tokens"]) == answer.usage.output_tokens
    events = list(client.responses.create(model="gpt-4o-mini", input="Hello", max_output_tokens=50, stream=True))
    assert events[-1].type == "response.completed"
    assert int(latest(sidecar)["usage"]["output_tokens"]) == events[-1].response.usage.output_tokens


def test_openai_embeddings_and_models(sidecar, openai_client):
    client = openai_client()
    answer = client.embeddings.create(model="text-embedding-3-small", input="Hello")
    assert int(latest(sidecar)["usage"]["input_tokens"]) == answer.usage.prompt_tokens
    assert list(client.models.list())
    assert latest(sidecar)["cost"] in (0, "0")


async def test_openai_async(sidecar):
    async with openai.AsyncOpenAI(base_url=f"{sidecar.url}/demo/v1", api_key="alk_rich") as client:
        answer = await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, max_tokens=50)
        assert answer.choices[0].message.content
        stream = await client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, stream=True, max_tokens=9)
        assert [chunk async for chunk in stream]
    assert not latest(sidecar)["unconfirmed"]


def test_anthropic_plain(sidecar, anthropic_client):
    answer = anthropic_client().messages.create(model="claude-opus-5", messages=MESSAGES, max_tokens=50)
    assert answer.content[0].text
    action = latest(sidecar)
    assert action["target"] == "demo:claude-opus-5"
    assert int(action["usage"]["input_tokens"]) == answer.usage.input_tokens
    assert int(action["usage"]["output_tokens"]) == answer.usage.output_tokens


def test_anthropic_stream(sidecar, anthropic_client):
    client = anthropic_client()
    with client.messages.stream(model="claude-opus-5", messages=MESSAGES, max_tokens=50) as stream:
        assert "".join(stream.text_stream)
        final = stream.get_final_message()
    action = latest(sidecar)
    assert int(action["usage"]["output_tokens"]) == final.usage.output_tokens
    assert not action["unconfirmed"]


def test_anthropic_count_tokens_is_free(sidecar, anthropic_client):
    counted = anthropic_client().messages.count_tokens(model="claude-opus-5", messages=MESSAGES)
    assert counted.input_tokens > 0
    assert latest(sidecar)["cost"] in (0, "0")


async def test_anthropic_async(sidecar):
    async with anthropic.AsyncAnthropic(base_url=f"{sidecar.url}/demo", api_key="alk_rich") as client:
        answer = await client.messages.create(model="claude-opus-5", messages=MESSAGES, max_tokens=50)
        assert answer.content[0].text
        async with client.messages.stream(model="claude-opus-5", messages=MESSAGES, max_tokens=50) as stream:
            assert [text async for text in stream.text_stream]
    assert not latest(sidecar)["unconfirmed"]


def denied_count(sidecar, reason):
    """How often the sidecar has denied for that reason: one more call, one more attempt."""
    for line in sidecar.api.get("/metrics").text.splitlines():
        if line.startswith(f'agent_ledger_denials_total{{reason="{reason}"}}'):
            return float(line.split()[-1])
    raise AssertionError(f"no series for {reason}")


# who, model, the SDK's class names (openai and anthropic name them alike), the reason
DENIALS = [
    ("alk_poor", "gpt-4o-mini", "PermissionDeniedError", "budget_exceeded"),
    ("alk_poor", "gpt-4o-mini", "PermissionDeniedError", "agent_paused"),
    ("alk_capped", "gpt-4o-mini", "BadRequestError", "per_action_limit_exceeded"),
    ("alk_rich", "no-such-model", "PermissionDeniedError", "unpriced"),
    ("alk_wrong", "gpt-4o-mini", "AuthenticationError", "unauthenticated"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("sdk", [openai, anthropic], ids=["openai", "anthropic"])
@pytest.mark.parametrize(("key", "model", "error", "reason"), DENIALS)
def test_a_denial_is_the_sdks_own_error_with_our_message_sent_once(
    sidecar, openai_client, anthropic_client, sdk, stream, key, model, error, reason
):
    if key == "alk_poor":
        sidecar.api.patch("/api/agents/poor", json={"status": "paused" if reason == "agent_paused" else "active"})
    if sdk is openai:
        create = openai_client(key).chat.completions.create
    else:
        create = anthropic_client(key).messages.create
        model = model.replace("gpt-4o-mini", "claude-opus-5")
    before = denied_count(sidecar, reason)
    with pytest.raises(getattr(sdk, error)) as raised:
        create(model=model, messages=MESSAGES, max_tokens=50, stream=stream)
    assert "Agent Ledger: " in str(raised.value)
    assert denied_count(sidecar, reason) == before + 1


def test_a_transient_denial_is_retried_by_the_sdk_as_it_says(sidecar, openai_client):
    client = openai_client("alk_busy", max_retries=0)
    client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, max_tokens=50)
    before = denied_count(sidecar, "rate_limited")
    with pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, max_tokens=50)
    assert 1 <= int(raised.value.response.headers["retry-after"]) <= 60
    assert "x-should-retry" not in raised.value.response.headers
    assert denied_count(sidecar, "rate_limited") == before + 1
