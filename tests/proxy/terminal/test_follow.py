"""`actions --follow`: each action once, in order, whatever happens to the sidecar or to who reads."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from msgspec import Raw

from proxy.terminal import follow as module
from proxy.terminal.client import NotAnswering, Refusal, TerminalError
from proxy.terminal.follow import NOW, follow
from tests.proxy.terminal.conftest import QUICKSTART, make_agent, report
from tests.sidecar import ADMIN, Process


def raw(number):
    return Raw(b'{"id":"act_%d"}' % number)


class Ledger:
    """A feed of what is recorded, by its count; what it does on each read is scripted."""

    def __init__(self, *script):
        self.recorded = []
        self.script = list(script)

    def _step(self):
        if not self.script:
            raise KeyboardInterrupt
        step = self.script.pop(0)
        if isinstance(step, BaseException):
            raise step
        self.recorded += step

    def latest(self, limit):
        self._step()
        return [raw(number) for number in self.recorded[-limit:]] if limit else []

    def after(self, place, most=3):
        self._step()
        if place == NOW:
            return [], str(len(self.recorded)), False
        found = self.recorded[int(place) :][:most]
        return [raw(number) for number in found], str(int(place) + len(found)), len(found) == most


def followed(ledger, limit=10, ends=KeyboardInterrupt):
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_wait", lambda seconds: None)
        with pytest.raises(ends):
            follow(ledger, limit, lambda raws: shown.extend(json.loads(bytes(each))["id"] for each in raws))
    return [int(each.removeprefix("act_")) for each in shown]


def test_what_is_recorded_while_it_begins_is_shown_once():
    assert followed(Ledger([1, 2], [3, 4], [5], [], [6, 7, 8, 9, 10], [], [11])) == list(range(1, 12))
    assert followed(Ledger([1, 2], [3, 4], [5]), limit=1) == [4, 3, 5]
    assert followed(Ledger([1, 2], [3], [4]), limit=0) == [3, 4]


def test_a_pause_is_told_once_and_nothing_is_lost_or_repeated(capsys):
    silence = [NotAnswering("nobody is there")] * 3
    assert followed(Ledger([1], [], [2], *silence, [3, 4], *silence, [5], [6, 7, 8, 9], [])) == list(range(1, 10))
    told = ["agent-ledger: nobody is there; waiting for it", "agent-ledger: it answers again"]
    assert capsys.readouterr().err.splitlines() == told * 2


def test_another_ledger_in_its_place_is_told(capsys):
    gone = Refusal("after: a place", 422, "after")
    assert followed(Ledger([1], [], [2], gone, [], [3], [])) == [1, 2, 3]
    assert "another one, or restored" in capsys.readouterr().err


@pytest.mark.parametrize("error", [NotAnswering("x"), TerminalError("x")])
def test_what_fails_at_the_beginning_ends_it(error):
    assert followed(Ledger(error), ends=TerminalError) == []


def test_what_can_not_pass_ends_it():
    assert followed(Ledger([1], [], TerminalError("a wrong token"), [2]), ends=TerminalError) == [1]
    assert followed(Ledger([1], [], Refusal("agentId: x", 422, "agentId"), [2]), ends=Refusal) == [1]


# -- as a process ------------------------------------------------------------------------------------------------------


class Following:
    """`agent-ledger actions --follow` as a child process."""

    def __init__(self, url, *options):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "proxy", "actions", "--follow", "--url", url, *options],
            env={**os.environ, "AGENT_LEDGER_ADMIN_TOKEN": ADMIN, "PYTHONPATH": os.fspath(QUICKSTART.parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def line(self):
        return self.process.stdout.readline().decode()

    def ids(self, count):
        return [json.loads(self.line())["id"] for _ in range(count)]

    def ended(self):
        """The exit code and stderr."""
        code = self.process.wait(20)
        return code, self.process.stderr.read().decode()

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def test_across_a_restart_until_ctrl_c(tmp_path, tmp_path_factory):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    data = tmp_path_factory.mktemp("followed") / "data"
    with Process(QUICKSTART, data, "--port", port) as sidecar:
        agent = make_agent(sidecar)
        made = [report(sidecar, agent) for _ in range(3)]
        following = Following(sidecar.url, "--json", "--limit", "2")
        assert following.ids(2) == made[1:]
        made += [report(sidecar, agent) for _ in range(3)]
        assert following.ids(3) == made[3:]
        made.append(report(sidecar, agent))
        sidecar.kill()
    with following, Process(QUICKSTART, data, "--port", port) as sidecar:
        made += [report(sidecar, agent) for _ in range(2)]
        assert following.ids(3) == made[6:]
        following.process.send_signal(signal.SIGINT)
        code, err = following.ended()
        assert following.process.stdout.read() == b""
    assert code == 130
    assert err.splitlines()[-1] == "agent-ledger: it answers again"
    assert "waiting for it" in err
    assert "Traceback" not in err


def test_it_ends_when_its_reader_leaves_though_nothing_happens(sidecar):
    agent = make_agent(sidecar)
    with Following(sidecar.url, "--agent", agent) as following:
        assert following.line().startswith("TIME")
        time.sleep(0.1)  # it waits
        following.process.stdout.close()
        assert following.ended() == (141, "")


def test_a_short_list_into_a_closed_pipe(sidecar):
    command = f"{sys.executable} -m proxy agents --url {sidecar.url} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PYTHONPATH": os.fspath(QUICKSTART.parents[1])},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.stdout, done.stderr) == ("141\n", "")
