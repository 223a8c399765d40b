"""A rival that another program forecasts, on a sample of servers and origins."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from fleetcast.contract.schema import MAINTENANCE
from fleetcast.errors import EvaluationError, UsageError
from fleetcast.evaluation import sampled
from fleetcast.evaluation.backtest import run_backtest
from fleetcast.evaluation.rivals import UNTRAINED, BaselineForecaster, BaselineManifest
from fleetcast.evaluation.sampled import SampledRival, auto_theta_command
from fleetcast.evaluation.source import ArraysSource
from fleetcast.evaluation.splits import rolling_origins
from fleetcast.evaluation.summary import summarise
from fleetcast.model.baselines import BASELINES
from fleetcast.windows.arrays import FleetArrays

START = datetime(2026, 1, 5, tzinfo=UTC)
METRICS, LEVELS, HORIZON = ("cpu_utilization", "load1_per_core"), (0.1, 0.5, 0.9), 24
DAY_BEFORE = """
import sys
import numpy as np
given = np.load(sys.argv[1])
season, horizon = int(given["season"]), int(given["horizon"])
path = given["past"][:, -season:][:, :horizon]
np.savez(sys.argv[2], quantiles=np.repeat(path[:, :, None], len(given["levels"]), axis=2))
"""


def make_fleet(servers: int = 4) -> FleetArrays:
    values = np.random.default_rng(0).random((servers, 700, 2), np.float32)
    values[np.random.default_rng(1).random(values.shape) < 0.03] = np.nan
    values[:, :20] = np.nan
    names = tuple(f"web{number}" for number in range(servers))
    return FleetArrays(
        names, ("web_api",) * servers, METRICS, int(START.timestamp()), values, MAINTENANCE.empty_table()
    )


def run(fleet: FleetArrays, command: list[str], size: int = 100):
    model = BaselineForecaster(
        "quantiles_last_24h", BASELINES["quantiles_last_24h"], BaselineManifest(METRICS, LEVELS, HORIZON, START)
    )
    origins = rolling_origins(fleet.start, fleet.steps, HORIZON, 3, None, START)
    scoring = SampledRival("other", command, fleet.servers, origins)
    rivals = {name: UNTRAINED[name] for name in ("residual_floor", "seasonal_naive")}
    report = summarise(run_backtest(model, ArraysSource(fleet, size), 3, None, rivals=rivals, listeners=[scoring]))
    return report, scoring.section()


@pytest.mark.parametrize("size", [1, 100])
def test_another_program_is_scored_as_the_same_rival_of_ours_is(tmp_path: Path, size: int) -> None:
    (tmp_path / "day_before.py").write_text(DAY_BEFORE)
    report, section = run(make_fleet(), [sys.executable, str(tmp_path / "day_before.py")], size)
    ours = {(row.metric, row.forecaster): row for row in report.rows}
    assert len(section.rows) == 2 * 3
    for row in section.data["rows"]:
        name = {"other": "seasonal_naive"}.get(row["forecaster"], row["forecaster"])
        expected = ours[row["metric"], name]
        for figure in ("points", "wql", "mase_mean", "mase_median", "coverage_80", "peak_wql"):
            assert row[figure] == pytest.approx(getattr(expected, figure))


def test_the_sample_is_spread_over_servers_and_origins(tmp_path: Path) -> None:
    (tmp_path / "day_before.py").write_text(DAY_BEFORE)
    fleet = make_fleet(25)
    fleet.values[0] = np.nan
    origins = rolling_origins(fleet.start, fleet.steps, HORIZON, 10, None, START)
    scoring = SampledRival("other", ["true"], fleet.servers, origins)
    assert len(scoring.servers) == 10
    assert {"web0", "web24"} <= scoring.servers
    assert len(scoring.origins.positions) == 4
    assert {origins.positions[0], origins.positions[-1]} <= set(scoring.origins.positions)
    _, section = run(fleet, [sys.executable, str(tmp_path / "day_before.py")])
    points = {row["points"] for row in section.data["rows"]}
    assert all(0 < count <= 9 * 3 * HORIZON for count in points), "a server without a value is scored for nobody"


def test_a_program_that_fails_is_told_with_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise ValueError('no such model')")
    with pytest.raises(EvaluationError, match="other failed: ValueError: no such model; leave it out"):
        run(make_fleet(), [sys.executable, str(tmp_path / "broken.py")])


@pytest.mark.skipif(sampled.PYTHON.exists(), reason="statsforecast is there")
def test_without_its_environment_the_way_to_it_is_told() -> None:
    with pytest.raises(UsageError, match="make peers-stats"):
        auto_theta_command()


@pytest.mark.skipif(not sampled.PYTHON.exists(), reason="needs `make peers-stats`")
def test_auto_theta_forecasts() -> None:
    _, section = run(make_fleet(1), auto_theta_command())
    assert all(row["wql"] > 0 for row in section.data["rows"])


@pytest.mark.skipif(not sampled.PYTHON.exists(), reason="needs `make peers-stats`")
def test_the_bands_of_auto_theta_are_as_wide_as_the_noise_not_as_the_season() -> None:
    fleet, time = make_fleet(1), np.arange(700)
    noise = 0.02 * np.random.default_rng(0).standard_normal((700, 2))
    fleet.values[0] = 0.3 + 0.1 * np.sin(time[:, None] * 2 * np.pi / 288) + noise
    _, section = run(fleet, auto_theta_command())
    for row in section.data["rows"]:
        if row["forecaster"] == "other":
            assert 2 * 1.28 * 0.02 < row["width_80"] < 0.1, "five times the noise; the season's spread is 0.18"
