"""The values of labels that are known beforehand: each is a series at 0 from the start, so that its rise is seen."""

from __future__ import annotations

from typing import Final

OUTCOMES: Final = ("success", "failure", "denied")

# The upstream of what agents report: they choose its targets, and as labels those would be without bound.
REPORTED: Final = "(reported)"

# What a request is refused for that is no decision: by the server, on the line, or by the API.
REJECTED: Final = (
    "batch_refused", "body_too_large", "browser_navigation", "expectation_failed", "forbidden", "foreign_host",
    "foreign_origin", "headers_too_large", "http_version", "idempotency_in_flight", "idempotency_key_reused",
    "internal_error", "invalid", "invalid_form", "invalid_json", "malformed_request", "managed_by_policy",
    "method_not_allowed", "not_found", "overloaded", "policy_invalid", "policy_unreadable", "request_timeout",
    "shutting_down", "target_too_long", "too_many_keys", "transfer_encoding", "unsupported_encoding",
    "unsupported_media_type", "upgrade_refused", "upstream_busy", "upstream_failed", "upstream_not_found",
    "upstream_unavailable", "upstream_unreachable",
)  # fmt: skip
