from __future__ import annotations

import pytest

from proxy.metering.base import Facts
from proxy.metering.formats import FORMATS, promises_usage, tally_for, wire_format


@pytest.mark.parametrize(
    ("path", "wire", "promised"),
    [
        ("/v1/messages", "anthropic", True),
        ("/anthropic/v1/messages", "anthropic", True),
        ("/v1/messages/count_tokens", "anthropic", False),
        ("/v1/projects/p/locations/l/publishers/anthropic/models/claude-x@1:streamRawPredict", "anthropic", True),
        ("/v1/projects/p/locations/l/publishers/mistralai/models/mistral-small:rawPredict", "openai", True),
        ("/v1/projects/p/locations/l/publishers/google/models/text-embedding:predict", None, False),
        ("/v1/chat/completions", "openai", True),
        ("/chat/completions", "openai", True),
        ("/openai/deployments/gpt-4o/chat/completions", "openai", True),
        ("/v1/completions", "openai", True),
        ("/v1/fim/completions", "openai", True),
        ("/v1/responses", "openai", True),
        ("/v1/responses/compact", "openai", False),
        ("/v1/images/generations", "openai", False),
        ("/v1/audio/speech", "openai", False),
        ("/v1/moderations", "openai", False),
        ("/v1/embeddings", "openai", True),
        ("/v1/responses/resp_1", None, False),
        ("/v1/models", None, False),
        ("/v1beta/models/gemini:generateContent", "gemini", True),
        ("/v1beta/models/gemini:batchEmbedContents", "gemini", False),
        ("/v1beta/projects/p/locations/l/publishers/google/models/g:streamGenerateContent", "gemini", True),
        ("/model/anthropic.claude-v2%3A1/converse", "bedrock", True),
        ("/model/anthropic.claude-v2%3A1/invoke", "bedrock", False),
        ("/v2/chat", "cohere", True),
        ("", None, False),
    ],
)
def test_told_by_path(path, wire, promised):
    assert (wire_format(None, path), promises_usage(path)) == (wire, promised)


@pytest.mark.parametrize(
    ("meter", "path", "wire"),
    [
        ("groq", "/openai/v1/chat/completions", "groq"),
        ("deepseek", "/anthropic/v1/messages", "anthropic"),
        ("gemini", "/v1beta/openai/chat/completions", "openai"),
        ("bedrock", "/openai/v1/responses", "openai"),
        ("openai", "/v1/realtime/calls", "openai"),
        ("mcp", "/v1/messages", "mcp"),
    ],
)
def test_a_path_of_another_format_is_read_as_that_format(meter, path, wire):
    assert wire_format(meter, path) == wire


@pytest.mark.parametrize("name", FORMATS)
def test_each_answer_gets_a_tally_of_its_own(name):
    first, second = tally_for(name, Facts()), tally_for(name, Facts())
    first.read({"model": "m", "usage": {}})
    assert (second.model, second.usage()) == (None, None)
