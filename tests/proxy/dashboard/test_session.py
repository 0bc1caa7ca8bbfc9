from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from proxy.dashboard.session import COOKIE, LIFETIME_S, Session, form_ok, form_token, open_session, session_of

NOW = 1_800_000_000.0


def carrying(*cookies: str) -> Headers:
    return Headers(raw=[(b"cookie", cookie.encode()) for cookie in cookies])


def test_a_session_is_good_until_it_expires():
    value = open_session("token", NOW)
    headers = carrying(f"{COOKIE}={value}")
    assert session_of(headers, ["token"], NOW + LIFETIME_S - 1) == Session(value, "token")
    assert session_of(headers, ["token"], NOW + LIFETIME_S) is None


def test_promise_10_a_session_does_not_hold_the_token():
    assert "s3cret" not in open_session("s3cret", NOW)


def test_a_token_that_is_no_longer_good_ends_its_sessions_alone():
    old, new = (carrying(f"{COOKIE}={open_session(token, NOW)}") for token in ("old", "new"))
    assert session_of(old, ["old", "new"], NOW).secret == "old"
    assert session_of(old, ["new"], NOW) is None
    assert session_of(new, ["new"], NOW).secret == "new"


def test_a_session_is_judged_now():
    assert session_of(carrying(f"{COOKIE}={open_session('token')}"), ["token"])
    assert session_of(carrying(f"{COOKIE}={open_session('token', 0)}"), ["token"]) is None
    assert session_of(Headers(), ["token"]) is None


def test_a_sidecar_without_a_token_has_no_sessions():
    assert session_of(carrying(f"{COOKIE}={open_session('', NOW)}"), [], NOW) is None


def later(value: str) -> str:
    expires, _, rest = value.partition(".")
    return f"{int(expires) + 1}.{rest}"


@pytest.mark.parametrize(
    "forge",
    [
        later,
        lambda value: value[:-1] + ("0" if value[-1] != "0" else "1"),
        lambda value: value.rpartition(".")[0] + ".",
        lambda value: value.rpartition(".")[0],
        lambda value: value + "\u00e9",
        lambda value: "\uff11" + value[1:],  # a full-width digit
        lambda value: "",
    ],
)
def test_a_forged_session_is_refused(forge):
    value = open_session("token", NOW)
    assert session_of(carrying(f"{COOKIE}={forge(value)}"), ["token"], NOW) is None


def test_it_is_found_among_the_cookies_of_other_applications_on_this_host():
    value = open_session("token", NOW)
    among = carrying('odd={"a b": [1]}; =x; bare', f"a=b; {COOKIE}={value}; c=d")
    assert session_of(among, ["token"], NOW).value == value


def test_a_form_fits_its_own_session_only():
    mine, other = (Session(open_session("token", NOW), "token") for _ in range(2))
    assert form_ok(mine, form_token(mine))
    assert not form_ok(mine, form_token(other))
    assert not form_ok(mine, form_token(mine._replace(secret="other")))
    assert not form_ok(mine, "\u00e9")
    assert not form_ok(mine, "")
