from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import main
from proxy.logs import frames, loop_error, to_stderr, write_stderr
from proxy.settings import Style
from tests.sidecar import Process

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "config/quickstart.yaml"
CALL = {"model": "gpt-4o-mini", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
SECRET = "zq7x-secret"

log = logging.getLogger("agent_ledger.test")


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[Callable[[], Any], Style], list[str]]:
    def run(tell: Callable[[], Any], style: Style = "json") -> list[str]:
        with to_stderr(style):
            tell()
        return capsys.readouterr().err.splitlines()

    return run


def fail() -> None:
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        raise ValueError(f"Bearer {SECRET}") from error


def failing() -> ValueError:
    with pytest.raises(ValueError) as raised:
        fail()
    return raised.value


# -- lines -----------------------------------------------------------------------------------------------------------
def test_a_line_is_an_object_with_its_time_level_logger_and_message(said):
    [line] = said(lambda: log.warning("budget %s of %d", "day", 7))
    told = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told.pop("time"))
    assert told == {"level": "WARNING", "logger": "agent_ledger.test", "message": "budget day of 7"}


def test_a_message_of_many_lines_and_of_controls_is_one_line_and_prints(said):
    [line] = said(lambda: log.info("%s", "a\nb\r\x1b[31m\u202e\u2028é"))
    assert json.loads(line)["message"] == "a\nb\r\x1b[31m\u202e\u2028é"
    assert line.isascii()
    assert line.isprintable()


def test_at_a_terminal_it_is_text_with_its_lines_and_without_controls(said):
    first, second = said(lambda: log.error("%s", "a\nb\r\x1b[31m\u202e\x9b é"), "text")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ERROR a", first)
    assert second == r"b\x0d\x1b[31m\u202e\x9b é"


def test_nothing_is_left_behind(said):
    before = (list(logging.getLogger().handlers), threading.excepthook, sys.unraisablehook, warnings.showwarning)
    said(lambda: None)
    assert before == (logging.getLogger().handlers, threading.excepthook, sys.unraisablehook, warnings.showwarning)


# -- errors ----------------------------------------------------------------------------------------------------------
def test_promise_10_of_an_error_its_frames_and_types_are_told_and_never_its_message():
    told = frames(failing())
    assert told.index("KeyError") < told.index("ValueError")
    assert "in fail" in told
    assert SECRET not in told


def test_an_error_that_came_of_itself_ends():
    error = ValueError()
    error.__context__ = KeyError()
    error.__context__.__context__ = error
    assert frames(error) == "KeyError\nValueError"


@pytest.mark.parametrize("style", ["json", "text"])
def test_promise_10_no_road_to_the_log_shows_an_errors_message(said, style):
    async def astray() -> None:
        asyncio.get_running_loop().set_exception_handler(loop_error)

        async def lost() -> None:
            raise failing()

        task = asyncio.create_task(lost())
        await asyncio.wait([task])
        del task
        gc.collect()

    class Bad:
        def __del__(self) -> None:
            raise failing()

    def all_of_them() -> None:
        log.error("caught", exc_info=failing())
        asyncio.run(astray())
        thread = threading.Thread(target=fail, name="worker")
        thread.start()
        thread.join()
        Bad()
        gc.collect()

    lines = said(all_of_them, style)
    text = "\n".join(lines)
    assert SECRET not in text
    assert text.count("in fail") >= 4
    for message in ("caught", "Task exception was never retrieved", "the thread worker ended by an error", "ignored"):
        assert message in text
    if style == "json":
        told = [json.loads(line) for line in lines]
        assert len(told) == 4
        assert all(each["exception"].endswith("ValueError") for each in told)


def test_a_warning_is_a_line_too(said):
    def warn() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(False)
            logging.captureWarnings(True)  # as the block did, in pytest's own stead
            warnings.warn("old", DeprecationWarning, stacklevel=1)

    [line] = said(warn)
    assert (json.loads(line)["logger"], "old" in json.loads(line)["message"]) == ("py.warnings", True)


def test_lines_of_many_threads_do_not_mix(capfd):
    lines = [b"%d" % number * 3000 + b"\n" for number in range(8)]

    def write(line: bytes) -> None:
        for _ in range(20):
            write_stderr(line)

    threads = [threading.Thread(target=write, args=(line,)) for line in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = capfd.readouterr().err.encode().splitlines(keepends=True)
    assert sorted(got) == sorted(lines * 20)


# -- the command -----------------------------------------------------------------------------------------------------
def lines_of(sidecar: Process) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sidecar.log.read_text().splitlines()]


def test_every_line_of_a_whole_life_is_json_off_a_terminal(tmp_path):
    policy, text = tmp_path / "policy.yaml", QUICKSTART.read_text()
    policy.write_text(text)
    with Process(policy, tmp_path / "data") as sidecar:
        headers = {"X-Agent-Id": "quickstart", "X-Request-Id": "req-7", "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
        answer = sidecar.api.post("/demo/v1/chat/completions", json=CALL, headers=headers)
        sidecar.api.post("/demo/v1/chat/completions", json=CALL, headers={"X-Agent-Id": "nobody"})
        policy.write_text(text + "nonsense: 1\n")
        sidecar.process.send_signal(signal.SIGHUP)
        sidecar.wait_for_log("policy reload refused")
        assert sidecar.stop() == 0
        told = lines_of(sidecar)
    assert all({"time", "level"} <= line.keys() for line in told)
    messages = {line["message"]: line for line in told if "message" in line}
    [refused] = [line for message, line in messages.items() if message.startswith("policy reload refused")]
    assert (refused["level"], "\n" in refused["message"]) == ("ERROR", True)
    assert any(message.startswith("stopping: ") for message in messages)
    [call] = [line for line in told if line.get("event") == "call"]
    assert (call["requestId"], call["traceId"]) == ("req-7", "ab" * 16)
    assert call["actionId"] == answer.headers["x-ledger-action-id"]
    [denied] = [line for line in told if line.get("event") == "refused"]
    assert denied["reason"] == "agent_not_found"


@pytest.mark.parametrize(
    ("arguments", "terminal", "of_calls", "others"),
    [
        ([], True, "text", "text"),
        ([], False, "json", "json"),
        (["--log", "json"], True, "json", "json"),
        (["--log", "text"], False, "text", "text"),
        (["--call-log", "json"], True, "json", "json"),
        (["--call-log", "text"], False, "text", "text"),
        (["--call-log", "off"], False, None, "json"),
        (["--call-log", "off"], True, None, "text"),
        (["--log", "text", "--call-log", "json"], True, "json", "text"),
        (["--log", "json", "--call-log", "text"], False, "text", "json"),
    ],
)
def test_log_says_how_all_lines_look_and_call_log_how_those_of_calls(
    tmp_path, monkeypatch, arguments, terminal, of_calls, others
):
    styles = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setattr("proxy.cli.to_stderr", lambda style: styles.append(style) or contextlib.nullcontext())
    monkeypatch.setattr("proxy.cli.serve", lambda settings, greet: settings)
    monkeypatch.setattr("proxy.cli.run", lambda settings: styles.append(settings.call_log))
    assert main(["serve", str(QUICKSTART), "--data", str(tmp_path / "data"), *arguments]) == 0
    assert styles == [others, of_calls]


def test_text_is_text_off_a_terminal_too(tmp_path):
    with Process(QUICKSTART, tmp_path / "data", "--log", "text") as sidecar:
        answer = sidecar.api.post("/demo/v1/chat/completions", json=CALL, headers={"X-Agent-Id": "quickstart"})
        sidecar.stop()
        lines = sidecar.log.read_text().splitlines()
    [call] = [line for line in lines if line.endswith(f" ms {answer.headers['x-ledger-action-id']}")]
    assert " quickstart demo:gpt-4o-mini success $" in call
    others = [line for line in lines if line != call]
    assert others
    assert all(re.match(r"\d{4}-\d\d-\d\d .* INFO ", line) for line in others)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["missing.yaml"], 1, "missing.yaml"),
        (["broken.yaml"], 1, "broken.yaml:2:1: unknown key"),
        ([str(QUICKSTART), "--no-auth", "--host", "0.0.0.0"], 2, "loopback only"),
    ],
)
def test_why_it_does_not_start_is_a_line_too(tmp_path, monkeypatch, capsys, arguments, status, said):
    monkeypatch.chdir(tmp_path)
    Path("broken.yaml").write_text("version: 1\nnonsense: {}\n")
    assert main(["serve", *arguments, "--port", "0"]) == status
    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["level"] == "CRITICAL"
    assert said in json.loads(line)["message"]
    assert main(["serve", *arguments, "--port", "0", "--log", "text"]) == status
    first = capsys.readouterr().err.splitlines()[0]
    assert said in first
    assert not first.startswith("{")


def test_an_error_of_its_own_is_one_as_well(monkeypatch, capsys):
    monkeypatch.setattr("proxy.cli.admin_source", lambda *_: fail())
    assert main(["serve", str(QUICKSTART)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["exception"].endswith("ValueError")
    assert SECRET not in line
    with pytest.raises(ValueError, match=SECRET):
        main(["serve", str(QUICKSTART), "--log", "text"])


def test_json_at_a_terminal_is_json_and_shows_no_token(monkeypatch, capsys):
    from proxy import cli
    from proxy.settings import Settings

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    settings = Settings(QUICKSTART, Path("data"), admin_token=SECRET)
    with to_stderr("json"):
        cli._greet(settings, "http://127.0.0.1:1", "json")
    lines = capsys.readouterr().err.splitlines()
    assert all(json.loads(line) for line in lines)
    assert SECRET not in str(lines)
    with to_stderr("text"):
        cli._greet(settings, "http://127.0.0.1:1", "text")
    assert SECRET in capsys.readouterr().err
