from __future__ import annotations

import os
import stat

import pytest

from proxy.tokens import ADMIN_TOKEN_ENV, LOOK_S, METRICS_TOKEN_ENV, TokenError, Tokens, admin_source, token_source

OLD, NEW = "old-" + "o" * 16, "new-" + "n" * 16
FILE_ENV = f"{ADMIN_TOKEN_ENV}_FILE"


class Watched:
    """Tokens of a file, and the clock by which it is looked at."""

    def __init__(self, file):
        self.at = 0.0
        self.tokens = Tokens(file=file, clock=lambda: self.at)

    def good(self):
        self.at += LOOK_S
        return self.tokens.held()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"{OLD}\n")
    return path


def test_a_fixed_token_is_the_only_one():
    tokens = Tokens("the-only-token-there-is")
    assert tokens.accept("the-only-token-there-is")
    for other in ("", "the-only-token-there-i", "the-only-token-there-is ", "\xe9", "THE-ONLY-TOKEN-THERE-IS"):
        assert not tokens.accept(other)


def test_promise_11_where_no_token_was_set_none_is_accepted():
    assert not Tokens().accept("")


def test_a_rollover_without_a_restart(file):
    watched = Watched(file)
    assert watched.good() == (OLD,)
    file.write_text(f"{OLD}\n\n  {NEW}\r\n")
    assert watched.good() == (OLD, NEW)
    assert watched.tokens.accept(OLD)
    assert watched.tokens.accept(NEW)
    file.write_text(f"{NEW}\n")
    assert watched.good() == (NEW,)
    assert not watched.tokens.accept(OLD)


def test_the_file_is_looked_at_once_a_second_at_most(file, monkeypatch):
    watched = Watched(file)
    assert watched.good() == (OLD,)
    file.write_text(NEW)
    watched.at += LOOK_S * 0.9
    assert watched.tokens.held() == (OLD,)
    watched.at += LOOK_S * 0.2
    assert watched.tokens.held() == (NEW,)


def test_a_file_that_did_not_change_is_not_read_again(file, monkeypatch):
    watched = Watched(file)
    watched.good()
    monkeypatch.setattr("proxy.tokens._read", lambda file: pytest.fail("read again"))
    assert watched.good() == (OLD,)


def test_a_mounted_secret_is_swapped_by_its_symbolic_link(tmp_path):
    """As the kubelet does it: `token` → `..data/token`, `..data` → the folder of that version."""
    for version, token in (("v1", OLD), ("v2", NEW)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "token").write_text(token)
        os.utime(tmp_path / version / "token", ns=(0, 0))
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "token").symlink_to("..data/token")
    watched = Watched(tmp_path / "token")
    assert watched.good() == (OLD,)
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").rename(tmp_path / "..data")
    assert watched.good() == (NEW,)


GONE = {
    "removed": lambda file: file.unlink(),
    "emptied": lambda file: file.write_text("\n"),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "too short": lambda file: file.write_text("fifteen-letters"),
    "not ASCII": lambda file: file.write_text("tök" * 10),
    "two words": lambda file: file.write_text(f"{OLD} {NEW}"),
    "a comment": lambda file: file.write_text(f"#{OLD}"),
}


@pytest.mark.parametrize("change", GONE.values(), ids=GONE.keys())
def test_promise_11_what_the_file_no_longer_holds_opens_nothing(file, change, caplog):
    """A leaked token must not live on because the file that took it out is not right."""
    watched = Watched(file)
    assert watched.good() == (OLD,)
    change(file)
    with caplog.at_level("INFO", "agent_ledger"):
        assert watched.good() == ()
        assert not watched.tokens.accept(OLD)
    assert "holds no token" in caplog.text
    assert OLD not in caplog.text


def test_nobody_is_locked_out_once_the_file_is_right_again(file):
    watched = Watched(file)
    watched.good()
    file.unlink()
    assert watched.good() == ()
    file.write_text(NEW)
    assert watched.good() == (NEW,)


def test_a_wrong_line_is_told_and_the_others_are_good(file, caplog):
    watched = Watched(file)
    file.write_text(f"short-secret\n{NEW}\n")
    assert watched.good() == (NEW,)
    assert "line 1 is no token" in caplog.text
    assert "short-secret" not in caplog.text


# -- where they come from ----------------------------------------------------------------------------------------------


def test_the_admin_token_is_made_once_into_a_private_file(tmp_path):
    token, path = admin_source(tmp_path / "data", {})
    assert (token, path) == ("", tmp_path / "data" / "admin-token")
    (made,) = Tokens(file=path).held()
    assert len(made) >= 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert admin_source(tmp_path / "data", {}) == ("", path)
    assert Tokens(file=path).held() == (made,)
    assert [file.name for file in path.parent.iterdir()] == ["admin-token"]


def test_an_empty_token_file_of_ours_is_made_anew(tmp_path):
    (tmp_path / "admin-token").write_text("\n")
    _, path = admin_source(tmp_path, {ADMIN_TOKEN_ENV: "  "})
    assert Tokens(file=path).held()


def test_the_environments_token_leaves_no_file(tmp_path):
    assert admin_source(tmp_path, {ADMIN_TOKEN_ENV: "from-the-environment"}) == ("from-the-environment", None)
    assert list(tmp_path.iterdir()) == []


def test_the_environments_file(file, tmp_path):
    assert admin_source(tmp_path, {FILE_ENV: str(file)}) == ("", file)
    assert token_source({f"{METRICS_TOKEN_ENV}_FILE": str(file)}, METRICS_TOKEN_ENV) == ("", file)
    assert token_source({}, METRICS_TOKEN_ENV) == ("", None)


@pytest.mark.parametrize(
    ("env", "written", "told"),
    [
        ({ADMIN_TOKEN_ENV: "fifteen-letters"}, "", "16 or more"),
        ({ADMIN_TOKEN_ENV: "has a space in the middle"}, "", "16 or more"),
        ({FILE_ENV: "@"}, "", "holds no token"),
        ({FILE_ENV: "@"}, f"{OLD}\nfifteen-letters\n", "line 2 is no token"),
        ({FILE_ENV: "@"}, f"# the new one\n{OLD}\n", "line 1 is no token"),
        ({FILE_ENV: "@/missing"}, "", "can't be read"),
        ({FILE_ENV: "@", ADMIN_TOKEN_ENV: OLD}, OLD, "both set"),
        ({}, "fifteen-letters", "line 1 is no token"),
    ],
)
def test_a_token_that_is_none_is_refused_at_start(tmp_path, env, written, told):
    path = tmp_path / "admin-token"
    path.write_text(written)
    with pytest.raises(TokenError, match=told) as error:
        admin_source(tmp_path, {name: value.replace("@", str(path)) for name, value in env.items()})
    assert "fifteen" not in str(error.value)
    assert OLD not in str(error.value)
