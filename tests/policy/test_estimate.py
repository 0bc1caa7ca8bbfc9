from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.estimate import Estimate, estimate, estimate_at
from policy.input import Reading, RequestFacts
from policy.media import media
from policy.model import Match, Price, Rate, UsageSource
from policy.money import MAX_USD, NANO
from policy.pricing import charge
from policy.units import make_rate

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"
GENERATE = "/v1beta/models/gemini-2.5-pro:generateContent"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def rates(**usd: str) -> tuple[Rate, ...]:
    return tuple(make_rate(key, Decimal(amount)) for key, amount in usd.items())


PLAIN = rates(input_mtok="2.5", output_mtok="10")
CACHED = rates(
    input_mtok="3", cache_read_mtok="0.3", cache_write_mtok="3.75", cache_write_1h_mtok="6", output_mtok="15"
)
VIDEO = rates(request="0.05", seconds="0.002")


def price(*usage: UsageSource, **stated: int | Fraction) -> Price:
    return Price("p", Match(), "catalog", usage=usage, estimate={unit: Fraction(it) for unit, it in stated.items()})


def of(body: object, path: str = CHAT, priced: tuple[Rate, ...] = PLAIN, size: int = 300, **stated: int) -> Estimate:
    return estimate(price(**stated), priced, RequestFacts(path, body, size))


def inputs(body: object, path: str = CHAT, size: int = 300, **stated: int) -> int:
    found = of(body, path, size=size, **stated).usage["input_tokens"]
    assert isinstance(found, int)
    return found


def outputs(body: object, path: str = CHAT, **stated: int) -> int:
    found = of(body, path, **stated).usage["output_tokens"]
    assert isinstance(found, int)
    return found


def test_text_by_its_bytes_and_output_by_its_ceiling_to_the_nano_dollar():
    # 4 + 297 bytes / 3, up: 101, + 2 keys × 4 + 80 = 189 tokens × 2,500; 50 × 10,000
    found = of({"messages": [{"role": "user", "content": "ab " * 99}], "max_tokens": 50})
    assert found == Estimate({"request": 1, "input_tokens": 189, "output_tokens": 50}, 972_500)


def test_what_is_no_json_is_taken_by_its_size():
    assert inputs(None, size=301) == 101 + 80


# body, tokens of its texts and keys
TOOLED = [
    ({"tools": [TOOL]}, 4 * 4 + 3),
    ({"functions": [{"name": "f"}]}, 4 + 1),
    ({"toolConfig": {"tools": [{"toolSpec": {"name": "f"}}]}}, 3 * 4 + 1),
    ({"response_format": {"type": "json_schema"}}, 4 + 5),
]


@pytest.mark.parametrize(("body", "tokens"), TOOLED)
def test_named_tools_bring_their_instructions(body, tokens):
    assert inputs(body) == tokens + 80 + 700


@pytest.mark.parametrize("model", ["gpt-4o", "openai/gpt-5", "openai.gpt-5.5", "o3-mini", "google/gemini-2.5-pro"])
def test_openais_models_and_geminis_are_told_of_tools_in_few_words(model):
    assert inputs({"model": model, "tools": [TOOL]}) == 4 * 2 + 3 + 80
    assert inputs({"tools": [TOOL]}, f"/v1beta/models/{model}:generateContent") == 4 * 2 + 3 + 80
    assert inputs({"model": model, "models": ["claude"], "tools": [TOOL]}) == 4 * 4 + 3 + 80 + 700


@pytest.mark.parametrize(
    ("model", "tokens"), [("x-ai/grok-4", 800), ("openai/gpt-oss-120b", 120), ("o3bot", 80), ("claude", 80)]
)
def test_what_a_provider_wraps_around_the_messages(model, tokens):
    assert inputs({"model": model}) == tokens
    assert inputs({"model": "m", "models": [model]}) == tokens


def test_no_tools_bring_none():
    assert inputs({"tools": [], "toolConfig": None, "response_format": {"type": "text"}}) == 80 + 4 + 2


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": {"user": "x" * 300}, "user": "x" * 300, "logit_bias": {"50256": -100}, "temperature": 0.5},
        {"generationConfig": {"temperature": 1, "maxOutputTokens": "x" * 300}},
        {"max_tokens": ["x" * 300], "stream_options": {"include_usage": True}},
    ],
)
def test_parameters_are_not_read_by_a_model(body):
    assert inputs(body) == 80


def test_a_schema_among_the_parameters_is():
    assert inputs({"generationConfig": {"responseSchema": {"description": "x" * 300}}}) == 80 + 100 + 4


def test_escapes_count_as_what_they_stand_for():
    told = json.dumps({"input": "你好" * 100})
    assert len(told) > 1200
    assert inputs(json.loads(told), RESPONSES, size=len(told)) == 80 + 2 * 200


def test_token_ids_are_tokens():
    assert inputs({"input": [[1, 50256], [3]]}, "/v1/embeddings") == 80 + 3
    assert inputs({"prompt": [1, 50256, 3]}, "/v1/completions") == 80 + 3
    assert inputs({"prompt": [1, 50256, 3, "x"]}, "/v1/completions") > 80 + 3 + 5


def test_reasoning_in_its_providers_cipher_is_less_than_text():
    item = {"type": "reasoning", "encrypted_content": "Ab+1" * 75}
    assert inputs({"input": [item]}, RESPONSES) == 80 + 100 + 2 * 4 + 3


@pytest.mark.parametrize("body", [{"messages": ["a" * 300]}, {"system": "a" * 300}, ["a" * 300], "a" * 300])
def test_text_is_read_wherever_it_stands(body):
    assert inputs(body) == 80 + 100


# path, body, ceiling
CEILINGS = [
    (CHAT, {}, 4096),
    (CHAT, {"max_tokens": 10}, 10),
    (CHAT, {"max_completion_tokens": 10}, 10),
    (CHAT, {"max_completion_tokens": 10, "max_tokens": 500}, 500),  # an upstream may believe either
    (CHAT, {"max_tokens": 10, "n": 3}, 30),
    (CHAT, {"n": 3}, 12_288),
    (CHAT, {"max_output_tokens": 10}, 4096),  # not a field of this call: the upstream ignores it
    ("/openai/deployments/d/chat/completions", {"max_tokens": 10}, 10),
    ("/v1/completions", {"max_tokens": 10, "n": 2, "best_of": 5}, 50),
    ("/v1/completions", {"max_tokens": 10, "prompt": ["a", "b", "c"], "n": 2}, 60),
    ("/v1/completions", {"max_tokens": 10, "prompt": [[1, 2], [3]]}, 20),
    ("/v1/completions", {"max_tokens": 10, "prompt": [1, 2, 3]}, 10),  # one prompt, as token ids
    ("/v1/completions", {"max_tokens": 10, "prompt": []}, 10),
    (RESPONSES, {"max_output_tokens": 10}, 10),
    (RESPONSES, {"max_tokens": 10}, 4096),
    (MESSAGES, {"max_tokens": 10}, 10),
    (MESSAGES, {"max_tokens": 64_000, "thinking": {"type": "enabled", "budget_tokens": 32_000}}, 64_000),
    ("/v1beta/models/gemini-2.5-flash:generateContent", {"generationConfig": {"maxOutputTokens": 10}}, 10),
    ("/v1/models/g:streamGenerateContent", {"generation_config": {"max_output_tokens": 10, "candidateCount": 2}}, 20),
    ("/v1/models/g:generateContent", {"maxOutputTokens": 10}, 4096),  # not its place: refused
    ("/v1/models/g:generateContent", {"generationConfig": None, "generation_config": {"maxOutputTokens": 20}}, 20),
    ("/model/anthropic.claude/converse", {"inferenceConfig": {"maxTokens": 10}}, 10),
    ("/model/anthropic.claude/converse-stream", {"inferenceConfig": {"maxTokens": 10}}, 10),
    ("/model/anthropic.claude/invoke", {"max_tokens": 10}, 10),
    ("/model/amazon.nova-lite/invoke", {"inferenceConfig": {"max_new_tokens": 10}}, 10),
    ("/model/amazon.titan-text-lite/invoke", {"textGenerationConfig": {"maxTokenCount": 10}}, 10),
    ("/model/meta.llama3/invoke-with-response-stream", {"max_gen_len": 10}, 10),
    ("/model/arn:of-a-profile/invoke", {"max_gen_len": 10}, 10),
    ("/v2/chat", {"max_tokens": 10}, 10),
    ("/publishers/anthropic/models/claude:rawPredict", {"max_tokens": 10}, 10),
    ("/anything/else", {"max_tokens": 10, "max_output_tokens": 20}, 20),
    (CHAT, {"reasoning_effort": "high"}, 16_384),  # thoughts beside the words
    (CHAT, {"reasoning_effort": "high", "max_completion_tokens": 500}, 500),
    (CHAT, {"reasoning_effort": "medium"}, 4096),
    (CHAT, {"reasoning": {"max_tokens": 2000}}, 6096),
    (RESPONSES, {"reasoning": {"effort": "xhigh"}}, 16_384),
    (GENERATE, {"generationConfig": {"thinkingConfig": {"thinkingBudget": 24_576}}}, 28_672),
    (GENERATE, {"generationConfig": {"thinking_config": {"thinking_budget": -1}}}, 4096),
    (GENERATE, {"generationConfig": {"thinkingConfig": {"thinkingLevel": "HIGH"}}}, 16_384),
    (GENERATE, {"generationConfig": {"thinkingConfig": [9]}}, 4096),
    ("/anything/else", {}, 4096),
    ("/anything/else", [], 4096),
    ("/anything/else", None, 4096),
]


@pytest.mark.parametrize(("path", "body", "ceiling"), CEILINGS)
def test_the_ceiling_of_output_that_a_request_states(path, body, ceiling):
    assert outputs(body, path) == ceiling


@pytest.mark.parametrize(
    "path",
    [
        "/v1/embeddings",
        "/v1/moderations",
        "/v1/messages/count_tokens",
        "/v1beta/models/g:embedContent",
        "/v1beta/models/g:countTokens",
        "/v2/embed",
        "/v2/rerank",
        "/model/amazon.titan-embed-text-v2/invoke",
    ],
)
def test_what_generates_nothing_has_no_output(path):
    assert of({"input": "hi", "max_tokens": 10}, path).usage == {"request": 1, "input_tokens": 81}


def test_the_rule_says_what_is_not_stated():
    assert outputs({}, output_tokens=2048) == 2048
    assert outputs({"n": 2}, output_tokens=2048) == 4096
    assert outputs({"max_tokens": 10}, output_tokens=2048) == 10
    assert outputs({"reasoning_effort": "high"}, output_tokens=2048) == 2048


@pytest.mark.parametrize(
    "garbage",
    ["abc", "", "-5", "1.5", -1, 0, -(10**30), True, False, None, [], {}, [10], {"a": 1}, -0.5, 0.0, float("nan"), "٣"],
)
@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_garbage_is_not_a_ceiling(field, garbage):
    assert outputs({field: garbage}) == 4096
    assert outputs({field: garbage, "n": garbage}) == 4096


@pytest.mark.parametrize(
    ("stated", "ceiling"),
    [
        (5000.0, 5000),
        (5000.5, 5001),
        (Decimal("5000.5"), 5001),
        ("5000", 5000),  # lenient upstreams take it
        (10**18, 10**18),
        (10**18 + 1, 10**18),
        (10**30, 10**18),
        (10**4000, 10**18),
        ("9" * 4000, 10**18),
        (float("inf"), 10**18),
        (Decimal("1e400"), 10**18),
        (Decimal("1e999999"), 10**18),
    ],
)
def test_odd_ceilings_are_never_lowered(stated, ceiling):
    assert outputs({"max_tokens": stated}) == ceiling


def test_absurd_requests_stay_within_64_bits_and_above_any_budget():
    found = of({"max_tokens": 10**30, "n": 10**30})
    assert found.usage["output_tokens"] == 10**18
    assert found.nano == MAX_USD * NANO


def blob(size: int) -> str:
    return "A" * size


def says(*parts: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def test_a_picture_costs_its_tokens_and_not_its_base64():
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + blob(8978)}}
    assert inputs(says(part)) == inputs(says({"type": "image_url", "image_url": {}})) + 4


def test_pictures_by_address_are_counted_one_by_one():
    def pictures(number, model="m"):
        part = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
        return inputs({"model": model, **says(*[part] * number)})

    assert pictures(6) - pictures(3) == 3 * (5_000 + 3 * 4 + 1) + 8  # of a part three keys, and `image_url`
    assert pictures(6, "gpt-4o-mini-2024-07-18") - pictures(3, "gpt-4o-mini") == 3 * (48_169 + 3 * 2 + 1) + 8


def test_sound_costs_by_its_length():
    data = blob(400_000)  # 300,000 bytes, 100 for a token
    body = says({"type": "input_audio", "input_audio": {"data": data, "format": "wav"}})
    found = of(body, priced=rates(input_mtok="1", input_audio_mtok="8"))
    text = 80 + 6 * 4 + 9 + 2  # six keys; input_audio twice, user and wav
    assert found.usage["input_audio_tokens"] == 3001
    assert found.usage["input_tokens"] == text + 3001
    assert found.nano == text * 1000 + 3001 * 8000


def test_a_file_costs_its_bytes_as_text():
    # 80,000 of base64 are 60,000 bytes, a third of that and 1 over
    def document(size):
        return says({"type": "document", "source": {"media_type": "application/pdf", "data": blob(size)}})

    assert inputs(document(80_000)) - inputs(document(40_000)) == 10_000


@pytest.mark.parametrize(
    "odd",
    [
        {"messages": None},
        {"messages": "hi"},
        {"messages": [None, 5, "x", [[[]]]]},
        {"messages": [{"type": ["image"], "media_type": 5, "data": None}]},
        {"messages": [{"type": "image_url", "image_url": 5}]},
        {"input": {"image": [1]}},
        {"tools": {"a": 1}},
        {"tools": [None, 5]},
        {"prompt": 5},
        {"modalities": "audio"},
        {"modalities": [5, None]},
        {"generationConfig": []},
        {"model": 5},
        {"cache_control": 5},
    ],
)
def test_a_body_of_any_shape_is_at_least_text(odd):
    for path in (CHAT, RESPONSES, MESSAGES, "/x:generateContent", "/v1/completions"):
        assert inputs(odd, path) >= 80
        assert outputs(odd, path) >= 4096


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (RESPONSES, {"tools": [{"type": "web_search"}]}),
        (RESPONSES, {"tools": [TOOL, {"type": "file_search", "vector_store_ids": ["v"]}]}),
        (RESPONSES, {"tools": [{"type": "mcp", "server_url": "https://example.com"}]}),
        (RESPONSES, {"previous_response_id": "resp_1"}),
        (RESPONSES, {"conversation": {"id": "conv_1"}}),
        (RESPONSES, {"prompt": {"id": "pmpt_1"}}),
        (RESPONSES, {"input": [{"content": [{"type": "input_file", "file_id": "file_1"}]}]}),
        (RESPONSES, {"input": [{"content": [{"type": "input_file", "file_url": "https://example.com/a.pdf"}]}]}),
        (CHAT, {"web_search_options": {"user_location": None}}),
        (MESSAGES, {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        (MESSAGES, {"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]}),
        (MESSAGES, {"mcp_servers": [{"type": "url"}]}),
        (MESSAGES, {"messages": [{"content": [{"type": "document", "source": {"type": "url", "url": "https://e.com/a"}}]}]}),
        ("/x:generateContent", {"tools": [{"functionDeclarations": []}, {"googleSearch": {}}]}),
        ("/x:generateContent", {"tools": [{"functionDeclarations": [], "codeExecution": {}}]}),
        ("/x:generateContent", {"cachedContent": "cachedContents/1"}),
        ("/x:generateContent", {"contents": [{"parts": [{"fileData": {"mimeType": "audio/wav", "fileUri": "gs://b/a"}}]}]}),
        ("/m/converse", {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}}),
        (CHAT, {"model": "groq/compound"}),
        (CHAT, {"model": "sonar-pro"}),
        (CHAT, {"model": "openai/gpt-5:online"}),
        (CHAT, {"plugins": [{"id": "web"}]}),
    ],
)  # fmt: skip
def test_what_the_request_only_names_is_the_rules_to_estimate(path, body):
    assert inputs(body, path, input_tokens=7) == inputs(body, path, input_tokens=0) + 7
    assert inputs(body, path) == inputs(body, path, input_tokens=0) + 20_000


def test_what_was_not_read_is_the_rules_to_estimate():
    assert inputs(None, "/v1/audio/transcriptions", input_tokens=7) == inputs(None, "/v1/audio/transcriptions") + 7


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {}),
        (CHAT, {"tools": [TOOL]}),
        (RESPONSES, {"tools": [{"type": "function", "name": "f"}, {"type": "custom", "name": "g"}]}),
        (RESPONSES, {"previous_response_id": None, "conversation": None}),
        (MESSAGES, {"tools": [{"name": "f", "input_schema": {}}, {"type": "bash_20250124", "name": "bash"}]}),
        ("/x:generateContent", {"tools": [{"functionDeclarations": [{"name": "f"}]}]}),
    ],
)
def test_what_the_request_holds_itself_is_not(path, body):
    assert inputs(body, path, input_tokens=7) == inputs(body, path) < 1_000


EPHEMERAL = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


# The tokens of input at 3,000, 3,750 or 6,000; 10 of output at 15,000
@pytest.mark.parametrize(
    ("path", "body", "rate"),
    [
        (MESSAGES, {"max_tokens": 10}, 3_000),
        (MESSAGES, {"max_tokens": 10, "system": [{"type": "text", "text": "x", **EPHEMERAL}]}, 3_750),
        (MESSAGES, {"max_tokens": 10, **says({"type": "text", "text": "x", **EPHEMERAL})}, 3_750),
        (MESSAGES, {"max_tokens": 10, **EPHEMERAL}, 3_750),
        (MESSAGES, {"max_tokens": 10, "system": [EPHEMERAL, HOUR, EPHEMERAL]}, 6_000),
        (MESSAGES, {"max_tokens": 10, "tools": [{"name": "f", **EPHEMERAL}]}, 3_750),
        ("/m/converse", {"inferenceConfig": {"maxTokens": 10}}, 3_000),
        ("/m/converse", {"inferenceConfig": {"maxTokens": 10}, "system": [{"cachePoint": {}}]}, 3_750),
        (CHAT, {"max_tokens": 10}, 3_750),  # caches by itself, if it has a price for that
    ],
)  # fmt: skip
def test_input_at_the_dearest_rate_that_can_apply(path, body, rate):
    assert of(body, path, CACHED).nano == inputs(body, path) * rate + 10 * 15_000


def test_tiers_by_the_estimated_input():
    tiered = (
        make_rate("input_mtok", Decimal(1), [(1000, Decimal(2))]),
        make_rate("output_mtok", Decimal(10), [(1000, Decimal(15))]),
    )
    body = {"max_tokens": 10, "prompt": "a" * 920 * 3}
    assert of(body, priced=tiered).nano == 1000 * 1000 + 10 * 10_000
    assert of({**body, "system": "b"}, priced=tiered).nano == 1001 * 2000 + 10 * 15_000


def test_the_dearest_output_is_told_in_the_tier_of_the_input():
    tiered = (
        make_rate("output_mtok", Decimal(10)),
        make_rate("output_reasoning_mtok", Decimal(5), [(100, Decimal(20))]),
    )
    body = {"max_tokens": 10, "prompt": "a" * 60}
    assert of(body, priced=tiered).nano == 10 * 10_000  # 20 + 80 tokens: not above 100
    assert of({**body, "system": "b"}, priced=tiered).nano == 10 * 20_000


@pytest.mark.parametrize(
    ("priced", "body", "path", "nano"),
    [
        # reasoning, where it is dearer
        (rates(output_mtok="10", output_reasoning_mtok="20"), {"max_tokens": 10}, CHAT, 200_000),
        (rates(output_mtok="10", output_reasoning_mtok="5"), {"max_tokens": 10}, CHAT, 100_000),
        # sound, where it is asked for
        (rates(output_mtok="10", output_audio_mtok="20"), {"max_tokens": 10}, CHAT, 100_000),
        (rates(output_mtok="10", output_audio_mtok="20"), {"max_tokens": 10, "modalities": ["audio"]}, CHAT, 200_000),
        (rates(output_mtok="10", output_audio_mtok="20"), {"max_tokens": 10}, "/v1/audio/speech", 200_000),
        # pictures, unless something else is asked for
        (rates(output_mtok="10", output_image_mtok="30"), {"max_tokens": 10}, CHAT, 300_000),
        (rates(output_mtok="10", output_image_mtok="30"), {"max_tokens": 10, "modalities": ["text"]}, CHAT, 100_000),
        (
            rates(output_mtok="10", output_image_mtok="30"),
            {"generationConfig": {"maxOutputTokens": 10, "responseModalities": ["TEXT", "IMAGE"]}},
            "/x:generateContent",
            300_000,
        ),
    ],
)  # fmt: skip
def test_output_at_the_dearest_rate_that_can_apply(priced, body, path, nano):
    assert of(body, path, priced).nano == nano


def test_own_units_by_the_rule():
    # 50,000,000 + 60 × 2,000,000
    assert of({}, "/video", VIDEO, seconds=60) == Estimate({"request": 1, "seconds": 60}, 170_000_000)
    assert of(None, "/video", VIDEO).nano == 50_000_000
    half = estimate(price(seconds=Fraction("12.5")), VIDEO, RequestFacts("/video", None, 0))
    assert half == Estimate({"request": 1, "seconds": Decimal("12.5")}, 75_000_000)


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"options": {"seconds": 30}}, 30),
        ({"options": {"seconds": Decimal("2.5")}}, Decimal("2.5")),
        ({"options": {"seconds": 0}}, 0),
        ({"options": {"seconds": "30"}}, 30),
        ({"options": {"seconds": -30}}, 60),
        ({"options": {"seconds": True}}, 60),
        ({"options": {"seconds": None}}, 60),
        ({"options": [30]}, 60),
        ({}, 60),
        (None, 60),
    ],
)
def test_own_units_read_from_the_request_are_known_before(body, seconds):
    rule = price(UsageSource("seconds", "request", "options.seconds"), seconds=60)
    assert estimate(rule, VIDEO, RequestFacts("/video", body, 100)).usage["seconds"] == seconds


def test_own_units_may_be_named_by_a_json_pointer_or_be_the_bytes_of_the_request():
    pointed = price(UsageSource("seconds", "request", "/clips/1/seconds"), seconds=60)
    assert estimate(pointed, VIDEO, RequestFacts("/video", {"clips": [{}, {"seconds": 9}]}, 100)).usage["seconds"] == 9
    sent = price(UsageSource("seconds", "measured", "request_bytes"), seconds=60)
    assert estimate(sent, VIDEO, RequestFacts("/video", None, 100, 20)).usage["seconds"] == 120
    assert estimate(sent, VIDEO, RequestFacts("/video", None, 0)).usage["seconds"] == 60  # streamed: not known yet


def test_own_units_read_from_the_answer_are_the_rules_to_estimate():
    rule = price(UsageSource("seconds", "response", "options.seconds"), seconds=60)
    assert estimate(rule, VIDEO, RequestFacts("/video", {"options": {"seconds": 1}}, 100)).usage["seconds"] == 60


def test_characters_are_those_to_be_spoken_else_at_most_the_bytes():
    assert of({"input": "hé"}, "/v1/audio/speech", rates(input_mchars="15")).nano == 2 * 15_000
    assert of({"input": {"ssml": "hi"}}, "/v1/text:synthesize", rates(input_mchars="15")).nano == 300 * 15_000
    assert of({"input": "hi"}, "/v1/audio/speech", rates(input_mchars="15"), input_characters=7).nano == 7 * 15_000


def test_flat_and_free_rates_ask_nothing_of_the_body():
    assert of({"max_tokens": 10**9}, priced=rates(request="0.01")) == Estimate({"request": 1}, 10_000_000)
    assert of({"max_tokens": 10**9}, priced=()) == Estimate({"request": 1}, 0)
    assert of({"max_tokens": 10**9}, priced=rates(request="0")).nano == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["image", "1h"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["messages", "content", "type", "image_url", "url", "data", "tools", "max_tokens", "n", "cache_control",
             "generationConfig", "maxOutputTokens", "modalities", "media_type", "prompt", "input", "system"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=25,
)  # fmt: skip
PATHS = st.sampled_from([CHAT, MESSAGES, RESPONSES, "/v1/completions", "/x:generateContent", "/m/converse", "/other"])


@given(JSON, PATHS, st.integers(0, 10**6))
def test_no_body_raises_or_makes_an_estimate_small(body, path, size):
    found = of(body, path, CACHED, size)
    assert 0 < found.nano <= MAX_USD * NANO
    assert found.nano == min(charge(CACHED, found.usage), MAX_USD * NANO)
    assert found.usage["output_tokens"] >= 1
    assert found.usage["input_tokens"] >= 80


@given(st.integers(1, 10**12), st.integers(1, 100), st.text(), st.sampled_from([PLAIN, CACHED]))
def test_an_estimate_covers_any_usage_within_its_ceilings(ceiling, choices, text, priced):
    found = of({"max_tokens": ceiling, "n": choices, "prompt": text}, priced=priced)
    used = {"input_tokens": found.usage["input_tokens"], "output_tokens": ceiling * choices}
    assert found.usage["input_tokens"] >= len(text.encode("utf-8", "surrogatepass")) // 3
    assert charge(priced, used) <= found.nano or found.nano == MAX_USD * NANO


def test_hazard_29_a_request_is_read_once_however_many_rates_it_is_estimated_at(monkeypatch):
    walked = []
    monkeypatch.setattr("policy.input.media", lambda body: walked.append(body) or media(body))
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5, "tools": [{"type": "web_search"}]}
    every = [PLAIN, rates(input_mtok="9", output_mtok="1", web_searches_kcount="10"), rates(request="1")]
    read = Reading(price(), RequestFacts("/v1/chat/completions", body, 100))
    for priced in every:
        assert estimate_at(price(), priced, read) == estimate(price(), priced, read.request)
    assert len(walked) == 1 + 2
