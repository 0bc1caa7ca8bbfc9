"""What a request must look like before anything believes it: pure judgments of a request's head, as bytes.

What httptools refuses by itself (bare LF, obs-fold, CR or NUL in a value, a Content-Length that is no number or is
there twice, broken chunks) is not judged again here; `tests/proxy/test_server.py` holds it to that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

TARGET_BYTES_MAX = 16 * 1024
HEADER_BYTES_MAX = 64 * 1024
HEADERS_MAX = 200
_LENGTH_DIGITS_MAX = 15
_UNDERSCORE = ord("_")

# Names that decide who is calling, for what, and where the body ends: two of one are two readings of one request.
_SINGLE = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"content-type",
        b"expect",
        b"authorization",
        b"x-api-key",
        b"api-key",
        b"x-goog-api-key",
        b"x-ledger-key",
        b"x-agent-id",
        b"idempotency-key",
    }
)
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")

# Separators are also %2F and %5C, and a segment ends at `;`, %3B, %20, %23 or %3F too: some upstreams read it so
# (once decoded, again as a path, or as a file's name), and would climb. Some read an overlong form as what it is too
# long for.
_PATH_PROBLEM = re.compile(
    rb"""
    (?P<start>^(?!/))
  | (?P<empty>^(?:/[^/]*)?//)
  | (?P<character>[^\x21-\x7e]|[\\#])
  | (?P<escape>%(?![0-9a-f]{2}))
  | (?P<control>%(?:[01][0-9a-f]|7f))
  | (?P<unreserved>%(?:2[de]|3[0-9]|[46][1-9a-f]|[57][0-9a]|5f|7e))
  | (?P<dots>(?:/|%2f|%5c)\.\.?(?=/|%2f|%5c|;|%3b|%2[03]|%3f|$))
  | (?P<overlong>%(?:c[01]%[89ab]|e0%[89]|f0%8))
    """,
    re.IGNORECASE | re.VERBOSE,
)
# What most paths are: nothing in them needs the look above, which costs ten times as much.
_PLAIN_PATH = re.compile(rb"(?:/[\w~-][\w.~-]*)+/?")
_PATH_PROBLEMS = {
    "start": "the path must begin with a slash",
    "empty": "the path must not begin with an empty segment, nor must what follows the upstream's name",
    "character": "the path holds a character that must be percent-encoded",
    "escape": "the path holds a percent sign without two hexadecimal digits",
    "control": "the path holds an encoded control character",
    "unreserved": "the path holds a percent-encoded character that needs no encoding",
    "dots": "the path holds a dot segment",
    "overlong": "the path holds a character in an overlong form",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not taken; the connection closes behind it."""

    status: int
    code: str
    message: str

    def body(self) -> bytes:
        return json.dumps({"error": {"code": self.code, "message": self.message}}).encode()


def malformed(message: str) -> Refusal:
    return Refusal(400, "malformed_request", message)


HTTP_VERSION = Refusal(505, "http_version", "this server speaks HTTP/1.1")
TARGET_TOO_LONG = Refusal(414, "target_too_long", f"the request's target exceeds {TARGET_BYTES_MAX} bytes")
HEADERS_TOO_LARGE = Refusal(
    431, "headers_too_large", f"the headers exceed {HEADER_BYTES_MAX} bytes, or {HEADERS_MAX} in number"
)


def path_problem(raw_path: bytes) -> str | None:
    """Why a path, as sent and without its query, is refused; None for one to be taken as it is.

    A path that two readers could take for different ones is never rewritten, only refused. ``%2F`` and ``%252e``
    have one reading, and pass.
    """
    if _PLAIN_PATH.fullmatch(raw_path):
        return None
    found = _PATH_PROBLEM.search(raw_path)
    return _PATH_PROBLEMS[found.lastgroup] if found and found.lastgroup else None


def read_headers(raw: Sequence[tuple[bytes, bytes]]) -> tuple[list[tuple[bytes, bytes]], dict[bytes, bytes]]:
    """A request's headers as the parser tells them: names in lower case, values without the white space that it leaves
    behind them; and by name, where the last of two counts.

    A name with an underscore is dropped: X_Agent_Id is X-Agent-Id to whoever reads headers as CGI does.
    """
    headers = [(name.lower(), value.rstrip(b" \t")) for name, value in raw]
    fields = dict(headers)
    if _UNDERSCORE in b"".join(fields):  # a look at all names at once: one at each costs more than all else here
        headers = [header for header in headers if _UNDERSCORE not in header[0]]
        fields = dict(headers)
    return headers, fields


def head_problem(
    method: bytes,
    target: bytes,
    version: str,
    headers: Sequence[tuple[bytes, bytes]],
    fields: Mapping[bytes, bytes],
) -> Refusal | None:
    """Why a parsed head is refused; None for one to be taken. Header names are lower case; ``fields`` are the headers
    by name.
    """
    if version not in ("1.1", "1.0"):
        return HTTP_VERSION
    if method in (b"CONNECT", b"TRACE"):
        return Refusal(405, "method_not_allowed", f"{method.decode()} is not served")
    path, _, query = target.partition(b"?")
    if query and b"#" in query:
        return malformed("the request's target holds a fragment")
    problem = path_problem(path)
    return malformed(problem) if problem else _header_problem(version, headers, fields)


def _header_problem(
    version: str, headers: Sequence[tuple[bytes, bytes]], fields: Mapping[bytes, bytes]
) -> Refusal | None:
    if len(headers) > HEADERS_MAX:
        return HEADERS_TOO_LARGE
    if b"upgrade" in fields:
        return Refusal(501, "upgrade_refused", "upgrades (WebSocket, h2c) are not served")
    if len(fields) != len(headers) and (twice := _twice(headers)):
        return malformed(f"the header {twice.decode()} is there twice")
    if not _is_host(fields.get(b"host", b"")):
        return malformed("exactly one valid Host header is required")
    if len(fields.get(b"content-length", b"")) > _LENGTH_DIGITS_MAX:
        return malformed("the Content-Length is absurd")
    if b"expect" in fields and fields[b"expect"].strip(b" \t").lower() != b"100-continue":
        return Refusal(417, "expectation_failed", "only 100-continue can be expected")
    coding = fields.get(b"transfer-encoding")
    if coding is None:
        return None
    if version == "1.0" or b"content-length" in fields:
        return malformed("Transfer-Encoding contradicts the version or the Content-Length")
    if coding.strip(b" \t").lower() != b"chunked":
        return Refusal(501, "transfer_encoding", "the only transfer coding served is chunked")
    return None


def _twice(headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """A name of `_SINGLE` that is there more than once."""
    found: set[bytes] = set()
    for name, _ in headers:
        if name in _SINGLE:
            if name in found:
                return name
            found.add(name)
    return None


@lru_cache(64)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value.strip(b" \t")) is not None
