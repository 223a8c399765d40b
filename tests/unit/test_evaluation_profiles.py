"""Coverage by profile, beside what is asked."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from fleetcast.contract.schema import MAINTENANCE
from fleetcast.evaluation.backtest import run_backtest
from fleetcast.evaluation.profiles import coverage_table, profile_coverage
from fleetcast.evaluation.rivals import BaselineForecaster, BaselineManifest
from fleetcast.evaluation.summary import summarise
from fleetcast.windows.arrays import FleetArrays

START = datetime(2026, 1, 5, tzinfo=UTC)
LEVELS = (0.1, 0.5, 0.9)


def unit_band(series: np.ndarray, horizon: int, levels: tuple[float, ...]) -> np.ndarray:
    return np.broadcast_to(np.array(levels, np.float32), (len(series), horizon, 3)).copy()


def test_the_coverage_of_a_profile_is_that_of_its_own_points() -> None:
    random = np.random.default_rng(0)
    values = random.random((4, 400, 2)).astype(np.float32)  # uniform: 80 % lie within 0.1 and 0.9
    values[2:] = 0.5 + (values[2:] - 0.5) / 2  # all of these do
    values[0, 300:, 1] = np.nan
    profiles = ("web_api", "web_api", "database", "database")
    fleet = FleetArrays(
        ("a", "b", "c", "d"), profiles, ("cpu_utilization", "memory_used"), int(START.timestamp()), values,
        MAINTENANCE.empty_table(),
    )  # fmt: skip
    manifest = BaselineManifest(fleet.metrics, LEVELS, 24, START)
    report = summarise(run_backtest(BaselineForecaster("band", unit_band, manifest), fleet, 4, None, rivals={}))
    truth = values[:2, -96:]
    share = ((truth >= 0.1) & (truth <= 0.9)).sum() / (~np.isnan(truth)).sum()
    assert profile_coverage(report) == pytest.approx({"database": 1.0, "web_api": share})
    headings, rows = coverage_table(report)
    assert headings == ["profile", "all metrics", "within 70-90 %", "cpu_utilization", "memory_used"]
    assert [row[:3] for row in rows] == [
        ["database", "100.0 %", "no"],
        ["web_api", f"{100 * share:.1f} %", "yes"],
    ]
