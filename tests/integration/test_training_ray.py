"""Ray Train from a dataset to a bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from fleetcast.contract.vocabulary import PROFILES
from fleetcast.dataset.reader import Dataset
from fleetcast.dataset.storage import Storage
from fleetcast.dataset.writer import write_manifest, write_part
from fleetcast.errors import IncompatibleError, RunLockedError, TrainingError, UsageError
from fleetcast.forecast.batch import forecast_dataset
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.model.bundle import Bundle
from fleetcast.model.manifest import load_manifest
from fleetcast.operate.locks import hold
from fleetcast.training.options import TrainOptions
from fleetcast.training.run import train
from fleetcast.windows.arrays import arrays_from_dataset

pytestmark = pytest.mark.ray


def options_of(dataset: Path, models: Path, **fields: object) -> TrainOptions:
    return TrainOptions.model_validate(
        {
            "data": str(dataset),
            "models": str(models),
            "preset": "tiny",
            "holdout": timedelta(hours=30),
            "samples_per_epoch": 128,
            "epochs": 1,
            **fields,
        }
    )


def test_a_run_ends_with_a_bundle_that_says_where_it_came_from(tiny_bundle: Path, tiny_dataset: Path) -> None:
    manifest, data = load_manifest(tiny_bundle), Dataset.open(tiny_dataset).manifest
    assert manifest.data_fingerprint == data.fingerprint
    assert data.end - manifest.cutoff == timedelta(hours=30)
    assert manifest.training["best"]["validation_loss"] > 0
    run = tiny_bundle.parent
    suffixes = {path.suffix for path in run.rglob("*") if path.is_file() and path.parent.name != "tensorboard"}
    assert suffixes == {".safetensors", ".json", ".jsonl"}, "no pickle among what we save"


def test_two_workers_train_one_model_and_resume_goes_on(ray_session: None, tiny_dataset: Path, tmp_path: Path) -> None:
    seen: list[dict[str, object]] = []
    first = train(options_of(tiny_dataset, tmp_path, run="two", workers=2), seen.append)
    assert [message["epoch"] for message in seen if message["kind"] == "epoch"] == [1]
    with pytest.raises(TrainingError, match="there already"):
        train(options_of(tiny_dataset, tmp_path, run="two"), seen.append)
    first.rename(tmp_path / "kept")
    with pytest.raises(IncompatibleError, match=r"window.horizon.*48.*96"):
        train(options_of(tiny_dataset, tmp_path, run="two", resume=True, horizon=48), seen.append)
    seen.clear()
    train(options_of(tiny_dataset, tmp_path, run="two", resume=True, epochs=2, workers=1), seen.append)
    assert [message["epoch"] for message in seen if message["kind"] == "epoch"] == [2], "epoch 1 is not done again"
    Forecaster.load(tmp_path / "two" / "bundle")


def test_a_second_training_into_a_run_is_refused_with_pid_and_time(
    ray_session: None, tiny_dataset: Path, tmp_path: Path
) -> None:
    script = f"from fleetcast.operate.locks import hold\nimport sys\nwith hold({str(tmp_path / 'busy' / 'run.lock')!r}):\n print('held', flush=True)\n sys.stdin.read()"  # noqa: E501
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(RunLockedError, match=rf"{other.pid}.*started 20"):
            train(options_of(tiny_dataset, tmp_path, run="busy"), lambda message: None)
        other.communicate()
    with hold(tmp_path / "busy" / "run.lock") as mine:
        assert mine.pid != other.pid


@pytest.mark.parametrize("name", ["../out", "current", "", ".hidden", "a/b"])
def test_a_run_stays_in_its_folder(ray_session: None, tiny_dataset: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        train(options_of(tiny_dataset, tmp_path / "models", run=name), lambda message: None)
    assert not (tmp_path / "models").exists()


def test_more_workers_than_cores_are_refused(ray_session: None, tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="64 workers need 64 CPU"):
        train(options_of(tiny_dataset, tmp_path, run="wide", workers=64), lambda message: None)


def test_batch_forecast_equals_the_forecaster(tiny_bundle: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    counts: list[tuple[int, int]] = []
    out = tmp_path / "forecast.parquet"
    summary = forecast_dataset(tiny_bundle, str(tiny_dataset), out, report=lambda *pair: counts.append(pair))
    dataset = Dataset.open(tiny_dataset)
    assert summary.origin == dataset.manifest.end
    assert counts[-1] == (9, 9)
    assert sum(summary.sources.values()) == 9
    expected = Forecaster.load(tiny_bundle).forecast(arrays_from_dataset(dataset), dataset.manifest.end).to_table()
    table = pq.read_table(out).cast(expected.schema)  # Parquet has no seconds: they come back as milliseconds
    assert table.num_rows == summary.rows == expected.num_rows
    pair = [
        found.sort_by([(name, "ascending") for name in ("server", "metric", "step")]) for found in (table, expected)
    ]
    assert (
        pair[0]
        .select(["server", "metric", "timestamp", "source"])
        .equals(pair[1].select(["server", "metric", "timestamp", "source"]))
    )
    for column in ("q0.02", "q0.5", "q0.98"):
        left, right = (found[column].to_pandas() for found in pair)
        assert (left.isna() == right.isna()).all()
        assert (left - right).abs().max() < 1e-6
    assert list(tmp_path.iterdir()) == [out], "no temporary file is left"


def rewritten(source: Path, folder: Path, change: Callable[[pa.Table], pa.Table]) -> Path:
    """A dataset like `source` but for what `change` does to the rows of each part."""
    dataset, storage = Dataset.open(source), Storage(folder)
    storage.create()
    metrics, parts = dataset.manifest.metrics, []
    for number, table in enumerate(dataset.tables()):
        parts.append(write_part(storage, number, change(table), metrics))
    storage.write_table("maintenance.parquet", dataset.maintenance())
    write_manifest(storage, parts, metrics, dataset.manifest.timezone)
    return folder


def forecast_rows(bundle: Path, dataset: Path) -> pa.Table:
    out = dataset.with_suffix(".parquet")
    forecast_dataset(bundle, str(dataset), out)
    return pq.read_table(out).sort_by([(name, "ascending") for name in ("server", "metric", "step")])


def quantiles_of(table: pa.Table) -> npt.NDArray[np.float32]:
    """Quantiles [row, level]."""
    return np.stack([table[name].to_numpy() for name in table.schema.names if name.startswith("q0.")], axis=1)


def test_a_bundle_of_seven_profiles_forecasts_fleets_with_six_or_with_an_unknown_one(
    tiny_bundle: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    lone = "conductor_mgmt"

    def without(table: pa.Table) -> pa.Table:
        return table.filter(pc.not_equal(table["profile"], lone))

    def renamed(table: pa.Table) -> pa.Table:
        words = pc.if_else(pc.equal(table["profile"], lone), "mainframe", table["profile"])
        return table.set_column(table.schema.get_field_index("profile"), "profile", words)

    trained = rewritten(tiny_dataset, tmp_path / "seven", lambda table: table)
    six = rewritten(tiny_dataset, tmp_path / "six", without)
    unknown = rewritten(tiny_dataset, tmp_path / "unknown", renamed)
    found = {path.name: forecast_rows(tiny_bundle, path) for path in (trained, six, unknown)}
    profiles = {name: set(table["profile"].to_pylist()) for name, table in found.items()}
    assert profiles["seven"] == set(PROFILES)
    assert profiles["six"] == set(PROFILES) - {lone}
    assert profiles["unknown"] == profiles["six"] | {"mainframe"}
    for table in found.values():
        assert set(table["source"].to_pylist()) == {"model"}
    common = found["seven"].filter(pc.not_equal(found["seven"]["profile"], lone))
    keys = [name for name in common.schema.names if not name.startswith("q0.")]
    for other in (found["six"], found["unknown"].filter(pc.not_equal(found["unknown"]["profile"], "mainframe"))):
        assert other.select(keys).equals(common.select(keys))
        assert np.abs(quantiles_of(other) - quantiles_of(common)).max() < 1e-6, "equal to float32 rounding"
    new = quantiles_of(found["unknown"].filter(pc.equal(found["unknown"]["profile"], "mainframe")))
    assert len(new) == len(load_manifest(tiny_bundle).targets) * load_manifest(tiny_bundle).horizon
    assert np.isfinite(new).all()
    assert (np.diff(new, axis=1) >= 0).all()


def test_a_batch_forecast_off_the_data_is_refused(tiny_bundle: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    late = Dataset.open(tiny_dataset).manifest.end + timedelta(hours=1)
    with pytest.raises(UsageError, match="outside the data"):
        forecast_dataset(tiny_bundle, str(tiny_dataset), tmp_path / "x.parquet", origin=late)
    assert not list(tmp_path.iterdir())


def test_bundles_are_json_and_safetensors(tiny_bundle: Path) -> None:
    assert sorted(path.name for path in tiny_bundle.iterdir()) == ["manifest.json", "model.safetensors"]
    json.loads((tiny_bundle / "manifest.json").read_text())


def test_networks_are_trained_one_after_another_and_finished_ones_are_kept(
    ray_session: None, tiny_dataset: Path, tmp_path: Path
) -> None:
    seen: list[dict[str, object]] = []
    bundle = train(options_of(tiny_dataset, tmp_path, run="pair", members=2, workers=1), seen.append)
    epochs = [(message["member"], message["epoch"]) for message in seen if message["kind"] == "epoch"]
    assert epochs == [(1, 1), (2, 1)]
    steps = [message["step"] for message in seen if message["kind"] == "epoch"]
    assert steps == [2, 4], "steps count on over the networks"
    manifest = load_manifest(bundle)
    assert manifest.members == 2
    assert len(manifest.training["best"]["members"]) == 2
    bundle.rename(tmp_path / "kept")
    seen.clear()
    third = train(options_of(tiny_dataset, tmp_path, run="pair", members=3, workers=1, resume=True), seen.append)
    assert [message["member"] for message in seen if message["kind"] == "epoch"] == [3]
    weights, kept = Bundle.load(third).weights, Bundle.load(tmp_path / "kept").weights
    assert all(torch.equal(weights[name], tensor) for name, tensor in kept.items())
