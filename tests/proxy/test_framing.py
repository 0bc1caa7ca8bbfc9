import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.framing import _PATH_PROBLEM, _PLAIN_PATH, head_problem, path_problem, read_headers

HOST = (b"host", b"127.0.0.1:8080")


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"/openai/v1/chat/completions",
        b"/openai/v1/files/",
        b"/bedrock/model/arn%3Aaws%3Abedrock%2Fclaude/invoke",
        b"/bedrock/model/a%252e%252e/invoke",
        b"/files/caf%C3%A9/%e0%a4%85/%f0%9f%98%80",
        b"/reader/https://example.com/page",
        b"/tools/.well-known/x",
        b"/tools/a..b/...",
        b"/tools/a;p=1/b:c@d",
        b"/API/agents",
    ],
)
def test_hazard_11_a_path_with_one_reading_passes(path: bytes) -> None:
    assert path_problem(path) is None


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (b"", "begin with a slash"),
        (b"*", "begin with a slash"),
        (b"http://127.0.0.1/api/agents", "begin with a slash"),
        (b"@host/x", "begin with a slash"),
        (b"//host/x", "empty segment"),
        (b"/openai//host/x", "empty segment"),
        (b"/openai/v1/../../api/agents", "dot segment"),
        (b"/openai/..", "dot segment"),
        (b"/openai/./v1", "dot segment"),
        (b"/openai/..;x/api", "dot segment"),
        (b"/openai/x%2f../api", "dot segment"),
        (b"/openai/..%5Capi", "dot segment"),
        (b"/openai/..%20/x", "dot segment"),
        (b"/openai/..%23", "dot segment"),
        (b"/openai/..%3Fx", "dot segment"),
        (b"/openai/%c0%ae%c0%ae/x", "overlong"),
        (b"/openai/%C1%9C", "overlong"),
        (b"/openai/%e0%80%af", "overlong"),
        (b"/openai/%f0%80%80%af", "overlong"),
        (b"/openai/%2e%2e/api", "needs no encoding"),
        (b"/openai/%2f%2e%2e%2fapi", "needs no encoding"),
        (b"/%61pi/agents", "needs no encoding"),
        (b"/openai/v1/chat/complet%69ons", "needs no encoding"),
        (b"/a%7E", "needs no encoding"),
        (b"/a%2D", "needs no encoding"),
        (b"/a%5F", "needs no encoding"),
        (b"/a%30", "needs no encoding"),
        (b"/openai/%00", "control"),
        (b"/openai/%0d%0aX-Agent-Id:boss", "control"),
        (b"/openai/%7F", "control"),
        (b"/openai/%zz", "hexadecimal"),
        (b"/openai/%2", "hexadecimal"),
        (b"/openai\\api", "must be percent-encoded"),
        (b"/openai/caf\xc3\xa9", "must be percent-encoded"),
        (b"/openai/a b", "must be percent-encoded"),
        (b"/openai/#x", "must be percent-encoded"),
    ],
)
def test_hazards_10_12_13_a_path_with_two_readings_is_refused(path: bytes, says: str) -> None:
    assert says in (path_problem(path) or "")


def test_hazard_12_every_unreserved_character_and_no_other_is_refused_encoded() -> None:
    unreserved = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    for code in range(0x20, 0x100):
        refused = path_problem(b"/x/%%%02X" % code) is not None
        assert refused == (code in unreserved or code == 0x7F), hex(code)


@pytest.mark.parametrize(
    ("status", "method", "target", "version", "headers"),
    [
        (505, b"GET", b"/", "0.9", [HOST]),
        (505, b"GET", b"/", "2.0", [HOST]),
        (405, b"CONNECT", b"evil:443", "1.1", [HOST]),
        (405, b"TRACE", b"/", "1.1", [HOST]),
        (400, b"GET", b"/a?b#c", "1.1", [HOST]),
        (400, b"GET", b"//host", "1.1", [HOST]),
        (400, b"GET", b"/", "1.1", []),
        (400, b"GET", b"/", "1.0", []),
        (400, b"GET", b"/", "1.1", [HOST, HOST]),
        (400, b"GET", b"/", "1.1", [(b"host", b"")]),
        (400, b"GET", b"/", "1.1", [(b"host", b"user@evil")]),
        (400, b"GET", b"/", "1.1", [(b"host", b"a b")]),
        (400, b"GET", b"/", "1.1", [(b"host", b"a/b")]),
        (431, b"GET", b"/", "1.1", [HOST, *[(b"x", b"y")] * 200]),
        (501, b"GET", b"/", "1.1", [HOST, (b"upgrade", b"h2c")]),
        (417, b"POST", b"/", "1.1", [HOST, (b"expect", b"a-miracle")]),
        (400, b"POST", b"/", "1.0", [HOST, (b"transfer-encoding", b"chunked")]),
        (400, b"POST", b"/", "1.1", [HOST, (b"transfer-encoding", b"chunked"), (b"content-length", b"1")]),
        (400, b"POST", b"/", "1.1", [HOST, (b"content-length", b"1"), (b"content-length", b"1")]),
        (501, b"POST", b"/", "1.1", [HOST, (b"transfer-encoding", b"gzip, chunked")]),
        (400, b"POST", b"/", "1.1", [HOST, (b"content-length", b"1" * 16)]),
    ],
)
def test_a_head_is_refused(
    status: int, method: bytes, target: bytes, version: str, headers: list[tuple[bytes, bytes]]
) -> None:
    problem = head_problem(method, target, version, headers, dict(headers))
    assert problem is not None
    assert problem.status == status


@pytest.mark.parametrize(
    "name", [b"authorization", b"x-agent-id", b"x-ledger-key", b"x-api-key", b"api-key", b"x-goog-api-key"]
)
def test_hazard_15_two_credentials_of_one_name_are_refused(name: bytes) -> None:
    headers = [HOST, (name, b"a"), (name, b"a")]
    problem = head_problem(b"GET", b"/", "1.1", headers, dict(headers))
    assert problem is not None
    assert (problem.status, name.decode() in problem.message) == (400, True)


@pytest.mark.parametrize("host", [b"a", b"a.b:80", b"10.0.0.7:8080", b"[::1]:8080", b"agent_ledger:8080", b"a "])
def test_any_well_formed_host_is_taken(host: bytes) -> None:
    assert head_problem(b"GET", b"/healthz?a=%00", "1.1", [(b"host", host)], {b"host": host}) is None


def test_two_headers_that_decide_nothing_are_taken() -> None:
    headers = [
        HOST,
        (b"cookie", b"a"),
        (b"cookie", b"b"),
        (b"transfer-encoding", b"Chunked"),
        (b"expect", b"100-Continue"),
    ]
    assert head_problem(b"POST", b"/openai/v1/x?a=../b", "1.1", headers, dict(headers)) is None


NAMES = st.sampled_from([b"Host", b"HOST", b"X-A", b"x_a", b"X-Agent-Id", b"X_Agent-Id"])
VALUES = st.text("ab_ \t", max_size=4).map(lambda text: text.lstrip().encode())


@given(st.lists(st.tuples(NAMES, VALUES), max_size=5))
def test_headers_are_read_alike_all_at_once_and_one_by_one(raw: list[tuple[bytes, bytes]]) -> None:
    headers, fields = read_headers(raw)
    assert headers == [(name.lower(), value.rstrip(b" \t")) for name, value in raw if b"_" not in name]
    assert fields == dict(headers)


@given(st.text("/.a-_%2eF;\\#~ é", max_size=12).map(str.encode))
def test_a_path_that_passes_at_a_glance_passes_the_long_look(path: bytes) -> None:
    if _PLAIN_PATH.fullmatch(path):
        assert _PATH_PROBLEM.search(path) is None


@pytest.mark.parametrize("path", [b"/openai/v1/chat/completions", b"/a", b"/a/", b"/a/b.c/d_e~f-g"])
def test_a_path_of_plain_segments_passes_at_a_glance(path: bytes) -> None:
    assert _PLAIN_PATH.fullmatch(path)
