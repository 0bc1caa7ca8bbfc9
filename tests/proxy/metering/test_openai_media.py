from __future__ import annotations

import json
from decimal import Decimal

import pytest

from proxy.metering import reader_for
from proxy.metering.quantities import QUANTITY_MAX

DURATION = {"text": "hi", "usage": {"type": "duration", "seconds": 27}}
TOKENS = {"input_tokens": 14, "output_tokens": 45, "total_tokens": 59}


def metered(path, answer, *, meter=None, status=200, content_type="application/json", request=None):
    reader = reader_for(meter, path, status, content_type, "", request_body=request)
    reader.feed(answer if isinstance(answer, bytes) else json.dumps(answer).encode())
    return reader.finish()


def event(document):
    return f"data: {json.dumps(document)}\n\n".encode()


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/openai/deployments/w/audio/translations"])
def test_a_transcript_by_its_duration(path):
    found = metered(path, DURATION)
    assert (found.usage, found.partial, found.flags) == ({"input_audio_seconds": 27}, False, ())


@pytest.mark.parametrize("stated", [b"8.470000267028809", b'"8.470000267028809"'])
def test_a_verbose_transcript_states_its_duration_alone(stated):
    answer = b'{"task": "transcribe", "duration": %s, "text": "hi"}' % stated
    assert metered("/v1/audio/transcriptions", answer).usage == {"input_audio_seconds": Decimal("8.470000267028809")}
    assert metered("/v1/chat/completions", answer).usage is None


def test_what_is_billed_counts_before_how_long_it_was():
    assert metered("/v1/audio/transcriptions", {"duration": 26.4, **DURATION}).usage == {"input_audio_seconds": 27}


@pytest.mark.parametrize(("stated", "billed"), [(3.5, 10), (10, 10), (10.25, Decimal("10.25"))])
def test_groq_bills_ten_seconds_at_least(stated, billed):
    found = metered("/openai/v1/audio/transcriptions", {"text": "hi", "duration": stated}, meter="groq")
    assert found.usage == {"input_audio_seconds": billed}


@pytest.mark.parametrize("seconds", [None, -1, True, "long", []])
def test_promise_7_a_duration_that_makes_no_sense_is_no_usage(seconds):
    answer = {"usage": {"type": "duration", "seconds": seconds}}
    assert metered("/v1/audio/transcriptions", answer).usage is None


def test_hazard_41_an_absurd_duration_is_clamped():
    found = metered("/v1/audio/transcriptions", {"usage": {"type": "duration", "seconds": 10**15}})
    assert (found.usage, found.flags) == ({"input_audio_seconds": QUANTITY_MAX}, ("usage_clamped",))


def test_a_transcript_by_its_tokens_plain_and_streamed():
    usage = {"type": "tokens", **TOKENS, "input_token_details": {"text_tokens": 0, "audio_tokens": 14}}
    read = {"input_tokens": 14, "input_audio_tokens": 14, "output_tokens": 45}
    assert metered("/v1/audio/transcriptions", {"text": "hi", "usage": usage}).usage == read
    body = event({"type": "transcript.text.delta", "delta": "hi"}) + event(
        {"type": "transcript.text.done", "text": "hi", "usage": usage}
    )
    assert metered("/v1/audio/transcriptions", body, content_type="text/event-stream").usage == read


def test_promise_7_a_transcript_that_is_plain_text_says_nothing():
    assert metered("/v1/audio/transcriptions", b"It was 42 dollars.", content_type="text/plain").usage is None


@pytest.mark.parametrize("model", ["tts-1", "tts-1-hd", "canopylabs/orpheus-v1-english"])
def test_speech_is_billed_by_the_characters_of_its_text(model):
    request = {"model": model, "input": "Grüße, 世界", "voice": "alloy"}
    found = metered("/v1/audio/speech", b"\xff\xf3\x00", content_type="audio/mpeg", request=request)
    assert (found.usage, found.partial, found.flags) == ({"input_characters": 9}, False, ())


@pytest.mark.parametrize(
    "request_body", [None, [], {"model": "gpt-4o-mini-tts", "input": "hi"}, {"input": "hi"}, {"model": "tts-1"}]
)
def test_promise_7_speech_that_cant_be_measured_is_not_free(request_body):
    found = metered("/v1/audio/speech", b"\xff", content_type="audio/mpeg", request=request_body)
    assert found.usage is None


def test_hazard_42_speech_that_failed_used_nothing():
    request = {"model": "tts-1", "input": "hi"}
    assert metered("/v1/audio/speech", {"error": {"message": "no"}}, status=400, request=request).usage is None


def test_speech_as_a_stream_states_its_tokens():
    body = event({"type": "speech.audio.delta", "audio": "AAAA"}) + event(
        {"type": "speech.audio.done", "usage": TOKENS}
    )
    request = {"model": "gpt-4o-mini-tts", "input": "hi", "stream_format": "sse"}
    found = metered("/v1/audio/speech", body, content_type="text/event-stream", request=request)
    assert found.usage == {"input_tokens": 14, "output_tokens": 45}


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/images/edits"])
def test_pictures_plain_and_streamed(path):
    usage = {**TOKENS, "input_tokens_details": {"text_tokens": 10, "image_tokens": 4}}
    read = {
        "input_tokens": 14,
        "input_text_tokens": 10,
        "input_image_tokens": 4,
        "output_tokens": 45,
        "output_image_tokens": 45,
    }
    assert metered(path, {"created": 1, "data": [{"b64_json": "AAAA"}], "usage": usage}).usage == read
    body = event({"type": "image_generation.partial_image", "b64_json": "AAAA"}) + event(
        {"type": "image_generation.completed", "b64_json": "AAAA", "usage": usage}
    )
    assert metered(path, body, content_type="text/event-stream").usage == read


def test_the_usage_of_a_large_picture_is_found_behind_it():
    answer = {"created": 1, "data": [{"b64_json": "A" * 3_000_000}], "usage": TOKENS}
    assert metered("/v1/images/generations", answer).usage["output_image_tokens"] == 45


@pytest.mark.parametrize("model", [None, "omni-moderation-latest", "text-moderation-stable"])
def test_openais_moderation_is_free(model):
    request = {"input": "hi"} if model is None else {"input": "hi", "model": model}
    found = metered("/v1/moderations", {"id": "modr-1", "results": []}, request=request)
    assert (found.usage, found.partial, found.flags) == ({}, False, ())


def test_another_providers_moderation_is_not():
    request = {"input": "hi", "model": "mistral-moderation-latest"}
    assert metered("/v1/moderations", {"results": []}, meter="mistral", request=request).usage is None


def test_counting_the_tokens_of_a_response_is_free():
    found = metered("/v1/responses/input_tokens", {"object": "response.input_tokens", "input_tokens": 51})
    assert (found.usage, found.partial) == ({}, False)


def test_compacting_a_conversation_is_billed_as_it_states():
    answer = {"object": "response.compaction", "output": [{"type": "compaction"}], "usage": TOKENS}
    assert metered("/v1/responses/compact", answer).usage == {"input_tokens": 14, "output_tokens": 45}
