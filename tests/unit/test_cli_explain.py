"""`fleetcast explain`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleetcast.dataset.reader import Dataset
from tests.unit.test_cli import run
from tests.unit.test_model import bundle_of


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "bundle"
    bundle_of().save(path)
    return str(path)


def test_a_server_is_explained_as_a_table_as_json_and_as_a_picture(
    bundle: str, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Dataset.open(tiny_dataset).manifest
    server, origin = manifest.servers[-1], "2026-01-10T12:00Z"
    asked = ["explain", "--model", bundle, "--data", str(tiny_dataset), "--server", server, "--origin", origin]
    code, out, _ = run(capsys, *asked, "--json", "--out", str(tmp_path / "why.png"))
    assert code == 0
    found = json.loads(out)
    assert (found["server"], found["source"], found["origin"]) == (server, "model", "2026-01-10T12:00:00Z")
    assert [target["target"] for target in found["drivers"]] == ["cpu_utilization", "memory_used"]
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = run(capsys, *asked)
    assert code == 0
    assert server in out
    assert found["drivers"][0]["drivers"][0]["metric"] in out
    assert "Where the model looks" in out


def test_a_server_with_too_short_a_history_is_told_of_as_such(
    bundle: str, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Dataset.open(tiny_dataset).manifest.servers[0]
    asked = ["explain", "--model", bundle, "--data", str(tiny_dataset), "--server", server]
    code, out, _ = run(capsys, *asked, "--origin", "2026-01-08T08:00Z", "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["source"], found["weights"], found["drivers"]) == ("fallback", None, [])
    assert "model did not make this forecast" in found["note"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--server", "nobody"], "no server 'nobody'"),
        (["--server", "SERVER", "--origin", "2027-01-01"], "outside the data"),
        (["--server", "SERVER", "--origin", "2026-01-10T12:01Z"], "grid"),
        (["--server", "SERVER", "--recent", "soon"], "write for example"),
        (["--server", "SERVER", "--recent", "0h"], "recent"),
        (["--server", "SERVER", "--out", "/nowhere/why.png"], "cannot write"),
    ],
)
def test_what_cannot_be_explained_is_one_line(
    wrong: list[str], told: str, bundle: str, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Dataset.open(tiny_dataset).manifest.servers[0]
    words = [word.replace("SERVER", server) for word in wrong]
    code, _, err = run(capsys, "explain", "--model", bundle, "--data", str(tiny_dataset), *words)
    assert code in (1, 2)
    assert told in err
    assert err.count("\n") == 1
