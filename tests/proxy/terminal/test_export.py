"""`agent-ledger export`: all of it, or nothing that could be taken for it."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.cli import main
from proxy.ledger import lookup
from proxy.terminal import client
from proxy.terminal.export import _Rows
from tests.proxy.terminal.conftest import QUICKSTART, make_agent, plain, report
from tests.sidecar import Process

HOSTILE = 'a "quoted"\nline, \x1b[2J =1+1'


@pytest.fixture
def some(sidecar):
    agent = make_agent(sidecar)
    return [report(sidecar, agent, metadata=text) for text in ("x", HOSTILE, "=1+1")]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_it_is_what_the_api_exports(sidecar, some, said, form, tmp_path):
    file = tmp_path / "out"
    sent = sidecar.api.get(f"/api/export?format={form}").content
    assert said("export", "--format", form)[1].encode() == sent
    code, out, err = said("export", "--format", form, "--output", str(file))
    actions = sent.count(b"\n") if form == "jsonl" else len(list(csv.reader(io.StringIO(sent.decode(), "")))) - 1
    assert (code, out) == (0, "")
    assert err.startswith(f"{file}: {actions:,} actions, ")
    assert file.read_bytes() == sent
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_since_and_until(sidecar, some, said):
    ids = [json.loads(line)["id"] for line in said("export", "--since", "today")[1].splitlines()]
    assert set(some) <= set(ids)
    assert said("export", "--since", "2020-01", "--until", "2020-02-01")[1] == ""
    assert said("export", "--until", "2020-02", "--format", "csv")[1].startswith("id,agentId,actionType,")
    code, _, err = said("export", "--since", "2026-11", "--until", "2026-11")
    assert (code, "--until is not after --since" in err) == (1, True)


def breaking_off(handler):
    handler.send_response(200)
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b'9\r\n{"id":1}\n\r\n')
    handler.wfile.flush()
    handler.close_connection = True


def test_what_breaks_off_is_no_file(answering, said, tmp_path):
    answering(breaking_off)
    file = tmp_path / "out"
    code, _, err = said("export", "--output", str(file))
    assert (code, err) == (1, "agent-ledger: the sidecar's answer broke off: what came is not all of it\n")
    assert list(tmp_path.iterdir()) == []
    file.write_text("of yesterday")
    assert said("export", "--output", str(file))[0] == 1
    assert file.read_text() == "of yesterday"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    code, out, _ = said("export")
    assert (code, out) == (1, '{"id":1}\n')


def test_ctrl_c_leaves_no_file(answering, tmp_path):
    def slow(handler):
        breaking_off(handler)
        time.sleep(20)

    url = answering(slow)
    command = [sys.executable, "-m", "proxy", "export", "--url", url, "--output", "out"]
    environment = {**os.environ, "PYTHONPATH": os.fspath(QUICKSTART.parents[1])}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while not (tmp_path / "out.part").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert (process.communicate(timeout=20)[1], process.returncode) == (b"", 130)
    assert list(tmp_path.iterdir()) == []


def test_what_it_can_not_write_to(sidecar, said, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to-pipe").symlink_to(tmp_path / "pipe")
    for output in (tmp_path, tmp_path / "nowhere/out", tmp_path / "pipe", tmp_path / "to-pipe", "/dev/null"):
        code, _, err = said("export", "--output", str(output))
        assert (code, err.startswith("agent-ledger: ")) == (1, True)


def test_a_link_stays_one(sidecar, said, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert said("export", "--output", "link")[0] == 0
    assert (tmp_path / "link").is_symlink()
    assert not (tmp_path / "file").is_symlink()


def test_a_terminal_sees_how_far_it_is(answering, capsys, monkeypatch, tmp_path):
    def two(handler):
        handler.send_response(200)
        handler.send_header("content-length", "18")
        handler.end_headers()
        for _ in range(2):
            handler.wfile.write(b'{"id":1}\n')
            handler.wfile.flush()

    answering(two)
    monkeypatch.setattr("proxy.terminal.export._TELL_S", 0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main(["export", "--output", "out"]) == 0
    err = capsys.readouterr().err
    assert "\r1 actions, 0.0 MB in " in err or "\r2 actions, 0.0 MB in " in err
    assert err.rpartition("\x1b[K")[2].startswith("out: 2 actions, ")


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_rows_are_counted_wherever_the_chunks_divide(form):
    cells = ["", "x", 'a"b', '"', "a\nb\r\n", '""\n"', "é"]
    text = io.StringIO()
    writer = csv.writer(text)
    for number in range(50):
        row = [cells[(number + at) % len(cells)] for at in range(4)]
        text.write(json.dumps(row) + "\n") if form == "jsonl" else writer.writerow(row)
    data, rows, chance = text.getvalue().encode(), _Rows(form), random.Random(7)
    while data:
        size = chance.randint(1, 9)
        rows.add(data[:size])
        data = data[size:]
    assert rows.count == 50 - (form == "csv")


# -- from the folder ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(ended, tmp_path, monkeypatch):
    """A data folder whose sidecar ended, its export before, and nobody at the default URL."""
    monkeypatch.setattr(client, "URL", "http://127.0.0.1:1")
    data, sent = ended
    return Path(shutil.copytree(data, tmp_path / "data")), sent


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    data = tmp_path_factory.mktemp("ended") / "data"
    with Process(QUICKSTART, data) as sidecar:
        agent = make_agent(sidecar)
        for _ in range(5):
            report(sidecar, agent, metadata=HOSTILE)
        sent = {form: sidecar.api.get(f"/api/export?format={form}").content.decode() for form in ("jsonl", "csv")}
    return data, sent


def test_where_no_sidecar_runs_the_folder_is_read(folder, said, monkeypatch):
    data, sent = folder
    before = {path.name: path.stat().st_mtime_ns for path in data.rglob("*")}
    assert said("export") == (0, sent["jsonl"], "")
    assert said("export", "--format", "csv", "--data", str(data)) == (0, sent["csv"], "")
    assert said("export", "--until", "2020-01") == (0, "", "")
    assert {path.name: path.stat().st_mtime_ns for path in data.rglob("*")} == before
    code, _, err = said("export", "--url", "http://127.0.0.1:1")
    assert (code, "no sidecar answers" in err) == (1, True)  # one that is named is meant
    assert said("export", "--data", "nowhere")[0] == 1


def test_an_index_that_is_behind_is_not_exported(folder, said):
    data, _ = folder
    (journal,) = (data / "journal").glob("*.jsonl")
    with journal.open("ab") as file:
        file.write(b"{}\n")
    code, out, err = said("export")
    assert (code, out, "is not up to its journal: start its sidecar" in err) == (1, "", True)
    (data / "index.sqlite").unlink()
    code, out, err = said("export", "--output", "out.jsonl")
    assert (code, "is not up to its journal" in err, Path("out.jsonl").exists()) == (1, True, False)


def test_a_folder_that_is_served_elsewhere(folder, said):
    data, _ = folder
    with Process(QUICKSTART, data):
        code, out, err = said("export")
    assert (code, out, "the process that has data answers elsewhere" in err) == (1, "", True)


def test_a_process_that_begins_meanwhile_is_noticed(folder, said, monkeypatch):
    stamps = iter([(1, 1), (2, 1)])
    monkeypatch.setattr(lookup, "_stamp", lambda data: next(stamps))
    code, _, err = said("export", "--output", "out.jsonl")
    assert (code, "meanwhile" in err, Path("out.jsonl").exists()) == (1, True, False)


def test_a_sidecar_that_refuses_is_not_gone_around(folder, answering, said):
    body = json.dumps({"error": {"code": "ledger_unavailable", "message": "The ledger is not available."}})
    answering(plain(body, 503))
    code, out, err = said("export")
    assert (code, out, "can't answer now: The ledger is not available." in err) == (1, "", True)
