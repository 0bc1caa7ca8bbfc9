"""The commands that keep a ledger, as an operator runs them: on the folder of a sidecar that serves, and after it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from proxy.cli import main
from tests.sidecar import Process

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "config/quickstart.yaml"
V1 = Path(__file__).parent / "ledger/v1"  # of 2026-10 and 2026-11


@pytest.fixture
def data(tmp_path):
    """A ledger whose open month is a later one than those of its closed months."""
    return Path(shutil.copytree(V1, tmp_path / "data"))


def held(sidecar):
    return {
        path: sidecar.get(path) for path in ("/api/agents", "/api/actions", "/api/alerts", "/api/spend?groupBy=agent")
    }


def report(agent, sidecar):
    body = {"agentId": agent, "actionType": "api_call", "target": "x:y", "cost": 0.01, "outcome": "success"}
    assert sidecar.api.post("/api/actions", json=body).status_code == 201


def test_beside_a_sidecar(data, tmp_path, capsys):
    copy, new, elsewhere, journal = tmp_path / "copy.tar.gz", tmp_path / "new", tmp_path / "elsewhere", data / "journal"
    elsewhere.mkdir()
    carried = json.loads((journal / "2026-11.jsonl").read_bytes().splitlines()[0])["prev"]
    with Process(QUICKSTART, data) as sidecar:
        report("quickstart", sidecar)
        before = held(sidecar)

        assert main(["archive", "--data", str(data), "--before", "2026-11"]) == 0
        lines = f"2026-10: lines 1 to 19, 10928 bytes, head {carried}"
        packed = "2026-10.jsonl.gz"
        assert capsys.readouterr().out == f"{lines}: compressed to {journal / packed}\n"
        assert main(["archive", "--data", str(data), "--before", "2026-11", "--to", str(elsewhere)]) == 0
        said = capsys.readouterr().out
        assert said.startswith(f"{lines}: moved to {elsewhere / packed}\n")
        assert "are now in index.sqlite alone" in said
        assert held(sidecar) == before
        assert main(["verify", "--data", str(data), "--anchor", carried]) == 0
        assert " lines from line 20 on, head " in capsys.readouterr().out
        assert main(["verify", "--data", str(data), "--also", str(elsewhere)]) == 0
        assert "from line" not in capsys.readouterr().out

        assert main(["backup", str(copy), "--data", str(data)]) == 0
        said = capsys.readouterr().out
        assert said.startswith(f"{copy}: ok, ")
        head = said.split("head ")[1].split(",")[0]
        report("quickstart", sidecar)
        assert main(["restore", str(copy), "--data", str(data)]) == 1
        assert "is in use by another process" in capsys.readouterr().err

    assert main(["restore", str(copy), "--data", str(new)]) == 0
    assert f"head {head}\n" in capsys.readouterr().out
    with Process(QUICKSTART, new) as sidecar:
        assert held(sidecar) == before
        report("quickstart", sidecar)
    assert main(["verify", "--data", str(new), "--anchor", head]) == 0
    assert main(["restore", str(copy), "--data", str(new)]) == 1
    assert f"agent-ledger: {new} holds a ledger already" in capsys.readouterr().err


def test_archive_keeps_what_the_ledger_still_needs(data, tmp_path, capsys):
    assert main(["archive", "--data", str(data), "--remove"]) == 0  # no sidecar has made an index yet
    said = capsys.readouterr().out
    assert "2026-10.jsonl.gz and kept there: the read index has not got its rows yet" in said
    assert "alone" not in said


@pytest.mark.parametrize("wrong", [["--before", "2026"], ["--to", ".", "--remove"]])
def test_archive_of_what_can_not_be_meant_is_wrong_usage(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["archive", *wrong])
    assert ended.value.code == 2


@pytest.mark.parametrize("command", [["archive"], ["backup", "copy"], ["restore", "copy"]])
def test_a_folder_without_a_ledger_is_told(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 1
    assert capsys.readouterr().err.startswith("agent-ledger: ")
    assert not (tmp_path / "copy").exists()
