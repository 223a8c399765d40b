"""`fleetcast explain`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetcast.dataset.reader import Dataset
from fleetcast.forecast.counterfactual import LEADS, counterfactual, recent
from fleetcast.forecast.edits import Shift
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.windows.arrays import arrays_from_dataset
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


def test_what_if_tells_the_forecast_of_the_edited_samples_beside_the_one_that_is(
    bundle: str, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = Dataset.open(tiny_dataset)
    server, origin = dataset.manifest.servers[-1], "2026-01-10T12:00Z"
    asked = ["explain", "--model", bundle, "--data", str(tiny_dataset), "--server", server, "--origin", origin]
    both = ["--what-if", "memory_used=-0.2", "--what-if", "cpu_utilization = usual", "--recent", "2h"]
    code, out, _ = run(capsys, *asked, *both, "--json")
    assert code == 0
    found = json.loads(out)["what_if"]
    moment = datetime(2026, 1, 10, 12, tzinfo=UTC)
    edits = [recent("memory_used", moment, 2, Shift(by=-0.2)), recent("cpu_utilization", moment, 2, "usual")]
    forecaster = Forecaster.load(bundle)
    leads = [lead for lead in LEADS if lead < forecaster.spec.horizon] + [forecaster.spec.horizon]
    wanted = counterfactual(forecaster, arrays_from_dataset(dataset), server, moment, edits, leads)
    assert found == json.loads(wanted.model_dump_json())
    assert found["edited"] > 24, "two metrics over two hours"
    code, out, _ = run(capsys, *asked, *both)
    assert code == 0
    assert "memory_used down by 20.00%, cpu_utilization as usual" in " ".join(out.split())
    change = next(one for one in found["changes"] if one["target"] == "memory_used")
    middle = found["levels"].index(0.5)
    assert change["difference"][middle] < 0
    assert f"{change['before'][middle]:.2%}" in out
    assert f"{change['after'][middle]:.2%}" in out
    code, out, _ = run(capsys, *asked, "--json")
    assert json.loads(out)["what_if"] is None


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
        (["--server", "SERVER", "--what-if", "memory_used=lots"], "write METRIC=VALUE"),
        (["--server", "SERVER", "--what-if", "memory_used"], "write METRIC=VALUE"),
        (["--server", "SERVER", "--what-if", "fan_speed=1"], "cannot edit fan_speed"),
        (["--server", "SERVER", "--what-if", "memory_used=7"], "cannot be 7"),
        (["--server", "SERVER", "--what-if", "memory_used=+nan"], "cannot be moved by nan"),
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
