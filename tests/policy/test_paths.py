from __future__ import annotations

import pytest

from policy.paths import bills_tokens, deferred


@pytest.mark.parametrize(
    ("method", "path", "bills"),
    [
        ("POST", "/v1/chat/completions", True),
        ("PUT", "/v1/anything", True),
        ("GET", "/v1/responses/resp_1", False),
        ("DELETE", "/v1/files/f", False),
        ("POST", "/v1/messages/count_tokens", False),
        ("POST", "/v1beta/models/gemini-2.5-flash:countTokens", False),
        ("POST", "/v1/responses/input_tokens", False),
        ("POST", "/model/anthropic.claude/count-tokens", False),
        ("POST", "/v1/moderations", False),
        ("POST", "/v1/tokenize", False),
        ("POST", "/v1/count_tokens/messages", True),
    ],
)
def test_what_reads_or_counts_costs_no_tokens(method, path, bills):
    assert bills_tokens(method, path) is bills


@pytest.mark.parametrize(
    ("path", "body", "work"),
    [
        ("/v1/responses", {"background": True}, "a background response"),
        ("/v1/responses", {"background": True, "stream": True}, None),
        ("/v1/responses", {"background": False}, None),
        ("/v1/responses", {"background": "true"}, "a background response"),
        ("/v1/responses/", {"background": 1}, "a background response"),
        ("/v1/responses", {"background": None}, None),
        ("/v1/chat/completions", {"background": True}, None),
        ("/v1/chat/completions", {"deferred": True}, "a background response"),
        ("/v1/batches/", {}, "a batch"),
        ("/v1/projects/p/locations/l/batchPredictionJobs", {}, "a batch"),
        ("/v1/batches", {}, "a batch"),
        ("/v1/messages/batches", {"requests": []}, "a batch"),
        ("/v1/batch/jobs", None, "a batch"),
        ("/v1beta/models/gemini-2.5-flash:batchGenerateContent", {}, "a batch"),
        ("/v1beta/models/gemini-embedding-001:batchEmbedContents", {}, None),
        ("/model-invocation-job", {}, "a batch"),
        ("/v1/fine_tuning/jobs", {}, "fine-tuning"),
        ("/v1/threads/thread_1/runs", {}, "a run"),
        ("/v1/threads/thread_1/messages", {}, None),
        ("/v1/realtime/client_secrets", {}, "a realtime session"),
        ("/v1/realtime", None, "a realtime session"),
        ("/v1beta/models/veo-3:predictLongRunning", {}, "a long-running job"),
        ("/v1/videos", {}, "a long-running job"),
        ("/v1/chat/completions", [], None),
    ],
)
def test_promise_7_work_that_is_billed_after_the_answer_is_told(path, body, work):
    assert deferred(path, body) == work
