"""A dataset with CPU alone: imported, trained on, backtested and forecast."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fleetcast.dataset.check import check_dataset
from fleetcast.dataset.reader import Dataset
from fleetcast.evaluation.backtest import MODEL_NAME, run_backtest
from fleetcast.forecast.batch import forecast_dataset
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.model.manifest import load_manifest
from fleetcast.sources.ingest import import_csv
from fleetcast.training.options import TrainOptions
from fleetcast.training.run import train
from fleetcast.windows.arrays import arrays_from_dataset

pytestmark = pytest.mark.ray

HOSTS = ("db1", "web1", "web2")
START, HOURS, HOLDOUT = 1_767_600_000, 96, timedelta(hours=30)  # from 2026-01-05T08:00Z, on the grid
MAPPING = """\
files:
  - match: "*.csv"
    server: {column: host}
    profile: {from_host: true}
    time: {column: t, format: unix_s}
    metrics:
      cpu_utilization: {column: cpu, unit: percent}
"""


def write_csv(path: Path) -> None:
    """Days of CPU per cent with a daily course, a sample in five minutes."""
    draws, steps = np.random.default_rng(3), np.arange(HOURS * 12)
    lines = ["host,t,cpu"]
    for phase, host in enumerate(HOSTS):
        cpu = 40 + 15 * np.sin(2 * np.pi * steps / 288 + phase) + draws.normal(0, 3, len(steps))
        lines += [f"{host},{START + 300 * step},{value:.2f}" for step, value in zip(steps, cpu, strict=True)]
    path.write_text("\n".join(lines) + "\n")


def test_cpu_alone_is_valid_and_is_trained_on_backtested_and_forecast(ray_session: None, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_csv(tmp_path / "cpu.csv")
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    import_csv(tmp_path / "cpu.csv", tmp_path / "mapping.yaml", data, show_progress=False)
    dataset = Dataset.open(data)
    assert dataset.manifest.metrics == ["cpu_utilization"]
    assert check_dataset(dataset).ok

    options = TrainOptions(
        data=str(data), models=str(tmp_path), run="cpu", preset="tiny", holdout=HOLDOUT, epochs=1, samples_per_epoch=64,
        workers=1,
    )  # fmt: skip
    bundle = train(options, lambda message: None)
    manifest = load_manifest(bundle)
    assert (manifest.targets, manifest.features) == (("cpu_utilization",), ("cpu_utilization",))

    tested = run_backtest(Forecaster.load(bundle), arrays_from_dataset(dataset), windows=2, stride=manifest.horizon)
    assert len(tested.origins.positions) == 2
    assert tested.sources == {"model": 2 * len(HOSTS)}
    assert tested.truth.points.sum() == 2 * len(HOSTS) * manifest.horizon, "every point is scored"
    assert np.isfinite(tested.scores[MODEL_NAME].pinball).all()

    summary = forecast_dataset(bundle, str(data), tmp_path / "forecast.parquet")
    assert (summary.sources, summary.reasons) == ({"model": len(HOSTS)}, {})
    table = pq.read_table(tmp_path / "forecast.parquet")
    assert table.num_rows == len(HOSTS) * manifest.horizon
    assert set(table["metric"].to_pylist()) == {"cpu_utilization"}
    assert table["q0.5"].null_count == 0
    assert np.isfinite(table["q0.5"].to_numpy()).all()
