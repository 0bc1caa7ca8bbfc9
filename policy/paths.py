"""Paths at which tokens cost nothing, and those whose work is billed after the answer: told by their ends."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from policy.held import PATHS_HELD

# They answer how many tokens there are, what the provider's other endpoints would bill; OpenAI's moderation is free.
_COUNTS: Final = re.compile(
    r"(?:/(?:count_tokens|count-tokens|tokenize|detokenize|moderations)|/responses/input_tokens"
    r"|:countTokens|:computeTokens|/count-tokens:rawPredict)/?\Z"
)
_READS: Final = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))

# (the end of a path, what is billed only later)
_DEFERRED: Final = tuple(
    (re.compile(rf"(?:{end})/?\Z"), work)
    for end, work in (
        (
            r"/batches|/batch/jobs|/batchPredictionJobs|/model-invocation-jobs?"
            r"|:batchGenerateContent|:async[bB]atchEmbedContent",
            "a batch",
        ),
        (r"/fine[_-]tuning/jobs|/tuningJobs|/tunedModels|/model-customization-jobs", "fine-tuning"),
        (r"/threads(?:/[^/]+)?/runs", "a run"),
        (r"/realtime(?:/.*)?|[:.][bB]idiGenerateContent", "a realtime session"),
        (
            r"/videos(?:/generations|/edits|/extensions|/[^/]+/remix)?|:predictLongRunning|/async-invoke",
            "a long-running job",
        ),
    )
)
# Fields by which a request asks for that, and the ends of the paths that know them: OpenAI's, Gemini's, xAI's.
_BACKGROUND: Final = (("background", ("/responses", "/interactions")), ("deferred", ("/chat/completions",)))


def bills_tokens(method: str, path: str) -> bool:
    """Whether a call there can cost tokens: not one that reads what is stored, nor one that only counts."""
    return method not in _READS and not _counts(path)


@lru_cache(PATHS_HELD)
def _counts(path: str) -> bool:
    return _COUNTS.search(path) is not None


def deferred(path: str, body: Any) -> str | None:
    """What the upstream will do and bill only after its answer, so that the answer can't tell its usage; else None.

    ``body`` is the request's parsed JSON. A background response that streams tells its usage at its end.
    """
    if isinstance(body, dict) and body.get("stream") is not True:
        for flag, ends in _BACKGROUND:
            # A lenient upstream may take more than `true` for true.
            if flag in body and body[flag] not in (None, False) and path.rstrip("/").endswith(ends):
                return "a background response"
    return _deferred(path)


@lru_cache(PATHS_HELD)
def _deferred(path: str) -> str | None:
    return next((work for end, work in _DEFERRED if end.search(path)), None)
