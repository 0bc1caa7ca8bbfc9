import pytest

from proxy.headers import request_headers, response_headers

HOP_BY_HOP = [
    (b"connection", b"keep-alive, X-Mine ,close"),
    (b"connection", b"x-other"),
    (b"x-mine", b"1"),
    (b"x-other", b"1"),
    (b"keep-alive", b"timeout=5"),
    (b"proxy-authenticate", b"Basic"),
    (b"proxy-authorization", b"Basic c2VjcmV0"),
    (b"proxy-connection", b"keep-alive"),
    (b"te", b"trailers"),
    (b"trailer", b"x-sum"),
    (b"upgrade", b"h2c"),
]
OURS = [(b"x-agent-id", b"painter"), (b"x-ledger-key", b"alk_x"), (b"x-ledger-action-id", b"1")]


def test_hazard_19_hop_by_hop_headers_and_ours_are_stripped_both_ways() -> None:
    passing = [(b"accept", b"*/*"), (b"x-mined", b"1")]
    assert request_headers([*HOP_BY_HOP, *OURS, *passing], {}) == passing
    spelled = [(name.title(), value) for name, value in [*HOP_BY_HOP, *OURS]]
    assert response_headers([*spelled, (b"X-Mined", b"1")]) == [(b"X-Mined", b"1")]


def test_hazard_19_connection_can_not_unframe_a_body() -> None:
    raw = [(b"connection", b"content-length, host"), (b"content-length", b"3")]
    assert request_headers(raw, {}) == [(b"content-length", b"3")]
    assert response_headers(raw) == [(b"content-length", b"3")]


def test_hazard_20_duplicates_keep_their_number_and_order() -> None:
    cookies = [(b"Set-Cookie", b"a=1"), (b"X", b"y"), (b"Set-Cookie", b"b=2"), (b"set-cookie", b"a=1")]
    assert response_headers(cookies) == cookies
    crumbs = [(b"cookie", b"a=1"), (b"cookie", b"b=2")]
    assert request_headers(crumbs, {}) == crumbs


@pytest.mark.parametrize("order", [1, -1])
def test_hazard_07_the_two_framings_are_never_passed_together(order: int) -> None:
    both = [(b"content-length", b"3"), (b"transfer-encoding", b"chunked")][::order]
    assert request_headers(both, {}) == [(b"transfer-encoding", b"chunked")]
    assert response_headers(both) == []


def test_set_headers_replace_whatever_their_case() -> None:
    raw = [(b"authorization", b"Bearer theirs"), (b"accept", b"*/*"), (b"host", b"127.0.0.1:8080")]
    replaced = request_headers(raw, {"Authorization": "Bearer ours", "x-new": "é", "Host": "real"})
    assert replaced == [
        (b"accept", b"*/*"),
        (b"authorization", b"Bearer ours"),
        (b"x-new", "é".encode()),
        (b"host", b"real"),
    ]


def test_host_expect_and_underscores_stay_behind() -> None:
    raw = [(b"host", b"127.0.0.1:8080"), (b"expect", b"100-continue"), (b"x_agent_id", b"boss"), (b"a", b"b")]
    assert request_headers(raw, {}) == [(b"a", b"b")]
    assert response_headers([(b"x_request_id", b"1")]) == [(b"x_request_id", b"1")]
