from __future__ import annotations

import pytest

from proxy.metering.formats import FORMATS, told_by_path


@pytest.mark.parametrize(
    ("path", "meter"),
    [
        ("/v1/messages", "anthropic"),
        ("/anthropic/v1/messages", "anthropic"),
        ("/v1/messages/count_tokens", None),
        ("/v1/chat/completions", "openai"),
        ("/chat/completions", "openai"),
        ("/openai/deployments/gpt-4o/chat/completions", "openai"),
        ("/v1/completions", "openai"),
        ("/v1/responses", "openai"),
        ("/v1/responses/resp_1", None),
        ("/v1/embeddings", "openai"),
        ("/v1/models", None),
        ("/v1beta/models/gemini:generateContent", None),
        ("", None),
    ],
)
def test_told_by_path(path, meter):
    assert told_by_path(path) == meter


@pytest.mark.parametrize("name", FORMATS)
def test_each_answer_gets_a_tally_of_its_own(name):
    first, second = FORMATS[name](), FORMATS[name]()
    first.read({"model": "m", "usage": {}})
    assert (second.model, second.usage()) == (None, None)
