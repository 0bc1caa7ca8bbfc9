from __future__ import annotations

import json
from decimal import Decimal

import pytest

from proxy.metering import reader_for
from proxy.metering.base import Facts
from proxy.metering.openai import MistralTally, OpenAITally, OpenRouterTally
from proxy.metering.quantities import Unreadable

RESPONSES = {"input_tokens": 40, "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 4}}
USAGE = {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}
READ = {"input_tokens": 5, "output_tokens": 9}


def told(*documents, tally=None):
    tally = tally or OpenAITally()
    for document in documents:
        tally.read(document)
    return tally.usage()


def streamed(meter, *documents):
    body = "".join(f"data: {json.dumps(document)}\n\n" for document in documents) + "data: [DONE]\n\n"
    reader = reader_for(meter, "/v1/chat/completions", 200, "text/event-stream", "")
    reader.feed(body.encode())
    return reader.finish()


def test_no_usage_is_none():
    assert told() is None
    assert told({"usage": None}, {"choices": []}, {"response": {"usage": None}}) is None


def test_the_last_usage_of_a_stream_counts_and_a_null_does_not_undo_it():
    running = {"prompt_tokens": 5, "completion_tokens": 1}
    final = {"prompt_tokens": 5, "completion_tokens": 9}
    assert told({"usage": running}, {"usage": final}, {"usage": None}) == {"input_tokens": 5, "output_tokens": 9}


@pytest.mark.parametrize("ending", ["completed", "incomplete", "failed"])
def test_the_terminal_event_of_a_response_carries_usage_and_the_model_served(ending):
    tally = OpenAITally()
    assert not tally.read({"type": "response.created", "response": {"model": "o4-mini", "usage": None}})
    assert tally.read({"type": f"response.{ending}", "response": {"model": "o4-mini-2025", "usage": RESPONSES}})
    assert tally.usage() == {"input_tokens": 40, "output_tokens": 9, "output_reasoning_tokens": 4}
    assert tally.model == "o4-mini-2025"


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_response_that_still_runs_has_no_usage(status):
    assert told({"object": "response", "status": status, "background": True, "output": [], "usage": None}) is None


def test_usage_that_is_no_object_is_unreadable():
    with pytest.raises(Unreadable):
        told({"usage": "12"})


def test_groq_states_a_streams_usage_in_x_groq():
    first = {"model": "m", "choices": [{"delta": {"content": "hi"}}], "x_groq": {"id": "req_1"}}
    for last in (
        {"choices": [{"delta": {}}], "x_groq": {"id": "req_1", "usage": USAGE}},
        {"choices": [{"delta": {}}], "x_groq": {"id": "req_1", "usage": USAGE}, "usage": None},
        {"choices": [], "x_groq": {"id": "req_1", "usage": USAGE}, "usage": USAGE},
    ):
        metered = streamed("groq", first, last)
        assert (metered.usage, metered.partial, metered.flags) == (READ, False, ())


def test_moonshot_states_a_streams_usage_in_its_last_choice():
    assert streamed(None, {"choices": [{"delta": {}, "finish_reason": "stop", "usage": USAGE}]}).usage == READ


def test_azure_sends_chunks_without_choices_and_one_of_them_is_usage():
    filtered = {"choices": [], "prompt_filter_results": [{"prompt_index": 0}], "model": ""}
    assert streamed("openai", filtered, {"choices": [], "usage": USAGE, "model": "gpt-4o"}).usage == READ
    assert streamed("openai", filtered).usage is None


def test_vllm_states_usage_in_every_chunk_and_the_last_counts():
    running = [{"choices": [{}], "usage": USAGE | {"completion_tokens": tokens}} for tokens in (1, 2, 9)]
    assert streamed("openai", *running).usage == READ


@pytest.mark.parametrize(
    ("stated", "term"),
    [
        ("priority", "priority"),
        ("Flex", "flex"),
        ("t" * 32, "t" * 32),
        ("t" * 33, None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_the_service_tier_that_served(stated, term):
    for document in (
        {"usage": USAGE, "service_tier": stated},
        {"type": "response.completed", "response": {"usage": RESPONSES, "service_tier": stated}},
    ):
        tally = OpenAITally()
        tally.read(document)
        assert tally.terms.get("service_tier") == term


def test_the_tier_asked_for_is_overwritten_by_the_one_that_served():
    tally = OpenAITally()
    tally.read({"type": "response.created", "response": {"usage": None, "service_tier": "auto"}})
    tally.read({"type": "response.completed", "response": {"usage": RESPONSES, "service_tier": "default"}})
    assert tally.terms == {"service_tier": "default"}


def fees(*items, **more):
    usage = told({"output": list(items), "usage": RESPONSES, **more})
    return {kind: calls for kind, calls in usage.items() if kind.endswith("searches")}


SEARCH = {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}}
OPEN = {"type": "web_search_call", "status": "completed", "action": {"type": "open_page"}}
FILES = {"type": "file_search_call", "status": "completed", "queries": ["q"]}


def test_hosted_searches_are_billed_by_the_call():
    bare = {"type": "web_search_call"}
    message = {"type": "message", "content": []}
    assert fees(SEARCH, OPEN, bare, FILES, message, SEARCH) == {"web_searches": 3, "storage_searches": 1}
    assert fees(OPEN, message) == {}
    assert fees(None, "x", {"type": ["web_search_call"]}) == {}


@pytest.mark.parametrize("ending", ["completed", "incomplete", "failed"])
def test_hosted_searches_of_a_stream(ending):
    response = {"output": [SEARCH, SEARCH], "usage": RESPONSES}
    assert told({"type": f"response.{ending}", "response": response})["web_searches"] == 2


@pytest.mark.parametrize(("stated", "calls"), [(3, 3), (0, 1), (None, 1)])
def test_of_two_counts_of_searches_the_larger_is_charged(stated, calls):
    assert fees(SEARCH, tool_usage={"web_search": {"num_requests": stated}}) == {"web_searches": calls}


def test_promise_7_a_count_of_searches_that_makes_no_sense_is_unreadable():
    with pytest.raises(Unreadable):
        fees(SEARCH, tool_usage={"web_search": {"num_requests": -1}})


@pytest.mark.parametrize("model", ["gpt-4o-search-preview-2025-03-11", "gpt-5-search-api"])
def test_a_search_model_searches_once_an_answer(model):
    assert told({"model": model, "usage": USAGE}) == {**READ, "web_searches": 1}
    assert told({"model": "gpt-4o", "usage": USAGE}) == READ


@pytest.mark.parametrize("kind", ["image_generation_call", "code_interpreter_call"])
def test_promise_7_a_hosted_tool_whose_fee_cant_be_told_is_flagged(kind):
    tally = OpenAITally()
    told({"output": [{"type": kind}, {"type": kind}], "usage": RESPONSES}, tally=tally)
    assert tally.flags == ["tool_unpriced"]


def metered(meter, usage):
    reader = reader_for(meter, "/api/v1/chat/completions", 200, "application/json", "")
    reader.feed(b'{"model": "m", "choices": [], "usage": %s}' % usage)
    return reader.finish()


def test_openrouter_states_the_charge_itself_to_the_last_digit():
    stated = b'{"prompt_tokens": 5, "completion_tokens": 9, "cost": 0.0076509169000000005, "is_byok": false}'
    found = metered("openrouter", stated)
    assert found.usage == {**READ, "cost": Decimal("0.0076509169000000005")}
    assert found.flags == ()
    assert metered("openai", stated).usage == READ


def test_openrouters_streams_state_it_too():
    cost = {"cost": 0.1}
    assert streamed("openrouter", {"choices": [], "usage": USAGE | cost}).usage == {**READ, "cost": Decimal("0.1")}


def test_openrouters_cost_includes_its_tools():
    answer = {"output": [SEARCH, {"type": "image_generation_call"}], "usage": {**RESPONSES, "cost": Decimal("0.02")}}
    tally = OpenRouterTally()
    assert "web_searches" not in told(answer, tally=tally)
    assert tally.flags == []


def test_a_model_that_is_free_costs_zero_and_no_usage_at_all_is_odd():
    assert metered("openrouter", b'{"prompt_tokens": 5, "completion_tokens": 9, "cost": 0}').flags == ()
    nothing = metered("openrouter", b'{"prompt_tokens": 0, "completion_tokens": 0, "cost": 0}')
    assert (nothing.usage["cost"], nothing.flags) == (0, ("usage_zero",))


def test_openrouter_says_when_the_callers_own_key_paid():
    found = metered("openrouter", b'{"prompt_tokens": 5, "completion_tokens": 9, "cost": 0, "is_byok": true}')
    assert (found.usage["cost"], found.flags) == (0, ("byok",))


def test_openrouter_without_a_cost_is_charged_by_its_tokens():
    assert metered("openrouter", b'{"prompt_tokens": 5, "completion_tokens": 9, "cost": null}').usage == READ


@pytest.mark.parametrize("cost", [b"-0.1", b"true", b"NaN", b'"free"', b"{}"])
def test_promise_7_a_cost_that_makes_no_sense_is_no_usage(cost):
    assert metered("openrouter", b'{"prompt_tokens": 5, "completion_tokens": 9, "cost": %s}' % cost).usage is None


def test_nothing_but_unreadable_is_ever_raised():
    for odd in (None, True, 7, "x", [], ["x"], {}, {"usage": 1}, {"type": []}, [None], [{"type": {}}]):
        for key in ("choices", "x_groq", "output", "tool_usage", "model", "service_tier", "response", "duration"):
            tally = OpenRouterTally(Facts("/v1/audio/transcriptions"))
            try:
                told({"usage": RESPONSES, key: odd}, {key: odd}, tally=tally)
            except Unreadable:
                continue


def read_pages(request=None):
    answer = {"pages": [], "model": "mistral-ocr-2505", "usage_info": {"pages_processed": 29, "doc_size_bytes": 3002}}
    return told(answer, tally=MistralTally(Facts("/v1/ocr", request)))


def test_mistral_reads_by_the_page():
    assert read_pages({"bbox_annotation_format": None}) == {"input_document_pages": 29}


@pytest.mark.parametrize("asked", ["bbox_annotation_format", "document_annotation_format"])
def test_and_annotates_at_another_price(asked):
    found = {"input_document_pages": 29, "input_annotated_document_pages": 29}
    assert read_pages({asked: {"type": "json_schema"}}) == found


def test_promise_7_what_mistrals_connectors_bring_in_is_input_and_their_fee_is_flagged():
    usage = {"prompt_tokens": 188, "completion_tokens": 55, "total_tokens": 7355, "connector_tokens": 7112}
    tally = MistralTally(Facts("/v1/conversations"))
    found = told({"outputs": [], "usage": usage | {"connectors": {"web_search": 1}}}, tally=tally)
    assert found == {"input_tokens": 7300, "input_tool_tokens": 7112, "output_tokens": 55}
    assert tally.flags == ["tool_unpriced"]


def test_promise_7_a_total_alone_does_not_tell_what_was_said():
    with pytest.raises(Unreadable):
        told({"choices": [{}], "usage": {"total_tokens": 249}})
    assert told({"choices": [{}], "usage": {"prompt_tokens": 4, "total_tokens": 4}}) == {"input_tokens": 4}
