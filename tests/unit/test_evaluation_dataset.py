"""A backtest of a dataset on disk: read by chunks, the same figures, whole files or none, seen and unseen servers."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fleetcast.cli import main
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import EvaluationError
from fleetcast.evaluation.backtest import run_backtest
from fleetcast.evaluation.figures import BacktestReport
from fleetcast.evaluation.forecast_file import ForecastFile
from fleetcast.evaluation.rivals import BaselineForecaster, BaselineManifest
from fleetcast.evaluation.seen import seen_servers, unseen_only
from fleetcast.evaluation.source import DatasetSource
from fleetcast.evaluation.summary import summarise
from fleetcast.model.baselines import BASELINES
from fleetcast.model.manifest import load_manifest
from fleetcast.windows.arrays import arrays_from_dataset
from tests.unit.test_model import bundle_of

START = datetime(2026, 1, 8, tzinfo=UTC)
LEVELS = (0.1, 0.5, 0.9)


def forecaster():
    manifest = BaselineManifest(("cpu_utilization", "memory_used"), LEVELS, 24, START)
    return BaselineForecaster("residual_floor", BASELINES["residual_floor"], manifest)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "model" / "bundle"
    path.parent.mkdir()
    bundle_of().save(path)
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def test_chunks_of_any_size_give_the_figures_and_forecasts_of_the_whole(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    whole = arrays_from_dataset(dataset)
    expected = summarise(run_backtest(forecaster(), whole, 3, None))
    tables = []
    for size in (2, 100):
        source = DatasetSource(dataset, size=size)
        with ForecastFile(tmp_path / str(size), LEVELS) as file:
            found = summarise(run_backtest(forecaster(), source, 3, None, listeners=[file]))
        rows, ours = found.model_dump(), expected.model_dump()
        assert rows == ours
        table = pq.read_table(tmp_path / str(size) / "forecasts.parquet")
        keys = [(name, "ascending") for name in ("server", "metric", "origin", "step")]
        tables.append(table.sort_by(keys))
    assert tables[0].equals(tables[1])
    assert tables[0].num_rows == 9 * 2 * 3 * 24


def test_a_source_hands_out_the_servers_asked_for(tiny_dataset: Path) -> None:
    dataset = Dataset.open(tiny_dataset)
    whole = arrays_from_dataset(dataset)
    whole = whole.of_servers([whole.servers.index(name) for name in dataset.manifest.servers])
    keep = np.arange(9) % 2 == 0
    source = DatasetSource(dataset, keep, size=2)
    assert source.servers == whole.servers[::2]
    assert sum((chunk.servers for chunk in source.chunks()), ()) == source.servers
    assert all(len(chunk.servers) <= 2 for chunk in source.chunks())
    some = source.of([1, 4])
    assert some.servers == (whole.servers[2], whole.servers[8])
    np.testing.assert_array_equal(some.values, whole.values[[2, 8]])
    assert (source.start, source.steps) == (whole.start, whole.steps)
    with pytest.raises(EvaluationError, match="no server"):
        DatasetSource(dataset, np.zeros(9, bool))


def test_forecasts_are_seen_whole_or_not_at_all(tiny_dataset: Path, tmp_path: Path) -> None:
    source = DatasetSource(Dataset.open(tiny_dataset), size=4)

    class Failing:
        calls = 0

        def add(self, fleet, forecasts):
            self.calls += 1
            if self.calls == 2:
                raise RuntimeError("killed")

    with ForecastFile(tmp_path, LEVELS) as file:
        run_backtest(forecaster(), source, 1, None, listeners=[file])
    before = (tmp_path / "forecasts.parquet").read_bytes()
    with pytest.raises(RuntimeError, match="killed"), ForecastFile(tmp_path, LEVELS) as file:
        run_backtest(forecaster(), source, 2, None, listeners=[file, Failing()])
    assert [path.name for path in tmp_path.iterdir()] == ["forecasts.parquet"]
    assert (tmp_path / "forecasts.parquet").read_bytes() == before


def test_the_command_writes_a_report_and_the_bundle_carries_its_figures(
    bundle: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    rivals = "residual_floor,naive,oracle"
    options = ["--windows", "2", "--stride", 48, "--rivals", rivals, "--json"]
    assert run("backtest", "--model", bundle, "--data", tiny_dataset, "--out", out, *options) == 0
    printed = BacktestReport.model_validate_json(capsys.readouterr().out)
    assert printed == BacktestReport.model_validate_json((out / "report.json").read_text())
    assert (printed.windows, printed.stride, printed.servers) == (2, 48, 9)
    assert [item.rival for item in printed.comparisons] == ["naive", "residual_floor", "oracle"]
    assert printed.fingerprint == Dataset.open(tiny_dataset).manifest.fingerprint
    assert load_manifest(bundle).evaluation["windows"] == 2
    assert {path.name for path in out.iterdir()} >= {"report.md", "forecasts.parquet", "horizon.png"}


def test_what_cannot_be_scored_leaves_nothing(
    bundle: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options, told in (
        (["--windows", "some"], "write for example 18, or all"),
        (["--rivals", "astrology"], "unknown rival"),
        (["--purge", 1], "purge gap"),
        (["--windows", 500], "would fit"),
        (["--unseen"], "--trained-on"),
        (["--trained-on", tiny_dataset], "fingerprint"),
    ):
        out = tmp_path / "out"
        assert run("backtest", "--model", bundle, "--data", tiny_dataset, "--out", out, *options) in (1, 2)
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
        assert not out.exists()


def test_all_windows_is_as_many_as_fit(
    bundle: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--windows", "all", "--rivals", "none", "--json"]
    assert run("backtest", "--model", bundle, "--data", tiny_dataset, "--out", tmp_path / "out", *options) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["windows"] == (96 * 12 - 1) // report["horizon"]
    assert report["stride"] == report["horizon"]


def test_which_servers_were_seen_is_known_or_said_to_be_unknown(tiny_dataset: Path) -> None:
    scored, model = Dataset.open(tiny_dataset).manifest, bundle_of().manifest
    assert seen_servers(model, scored) is None
    own = model.model_copy(update={"data_fingerprint": scored.fingerprint})
    assert seen_servers(own, scored).all()
    some = own.model_copy(update={"training": {"servers": scored.servers[:4]}})
    assert seen_servers(some, scored).tolist() == [True] * 4 + [False] * 5
    np.testing.assert_array_equal(unseen_only(seen_servers(some, scored)), np.arange(9) >= 4)
    with pytest.raises(EvaluationError, match="every server"):
        unseen_only(seen_servers(own, scored))


def test_the_same_name_in_another_simulated_fleet_is_another_server(tiny_dataset: Path) -> None:
    scored = Dataset.open(tiny_dataset).manifest
    model = bundle_of().manifest.model_copy(update={"data_fingerprint": scored.fingerprint})
    specification = scored.source["spec"]
    other = scored.model_copy(update={"source": {**scored.source, "spec": {**specification, "seed": 12}}})
    longer = scored.model_copy(update={"source": {**scored.source, "spec": {**specification, "hours": 200.0}}})
    assert not seen_servers(model, other, trained_on=scored).any()
    assert seen_servers(model, longer, trained_on=scored).all()
