"""Paths at which tokens cost nothing, and those whose work is billed after the answer: told by their ends."""

from __future__ import annotations

import re
from typing import Any, Final

# They answer how many tokens there are, what the provider's other endpoints would bill; OpenAI's moderation is free.
_COUNTS: Final = re.compile(
    r"(?:/count_tokens|/count-tokens|:countTokens|/responses/input_tokens|/tokenize|/detokenize|/moderations)\Z"
)
_READS: Final = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))

# (the end of a path, what is billed only later)
_DEFERRED: Final = tuple(
    (re.compile(rf"(?:{end})\Z"), work)
    for end, work in (
        (r"/batches|/batch/jobs|:batchGenerateContent|:asyncBatchEmbedContent|/model-invocation-job", "a batch"),
        (r"/fine_tuning/jobs|/model-customization-jobs|:tunedModels", "fine-tuning"),
        (r"/threads/runs|/threads/[^/]+/runs", "a run"),
        (r"/realtime(?:/[a-z_]+)*|[:.]bidiGenerateContent", "a realtime session"),
        (r":predictLongRunning|/videos(?:/[^/]+/remix)?|/async-invoke", "a long-running job"),
    )
)


def bills_tokens(method: str, path: str) -> bool:
    """Whether a call there can cost tokens: not one that reads what is stored, nor one that only counts."""
    return method not in _READS and not _COUNTS.search(path)


def deferred(path: str, body: Any) -> str | None:
    """What the upstream will do and bill only after its answer, so that the answer can't tell its usage; else None.

    ``body`` is the request's parsed JSON. A background response that streams tells its usage at its end.
    """
    if isinstance(body, dict) and body.get("background") is True and path.endswith("/responses"):
        return None if body.get("stream") is True else "a background response"
    return next((work for end, work in _DEFERRED if end.search(path)), None)
