"""The backtest: no leak, the same points for everyone, figures that can be checked by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from fleetcast.contract.schema import MAINTENANCE
from fleetcast.errors import EvaluationError, LeakageError, UsageError
from fleetcast.evaluation.backtest import run_backtest
from fleetcast.evaluation.metrics import coverage, weighted_quantile_loss
from fleetcast.evaluation.report import tables, write_report
from fleetcast.evaluation.rivals import BaselineForecaster, BaselineManifest
from fleetcast.evaluation.splits import rolling_windows
from fleetcast.evaluation.summary import BacktestReport, summarise
from fleetcast.model.baselines import BASELINES
from fleetcast.windows.arrays import FleetArrays

START = datetime(2026, 1, 5, tzinfo=UTC)
STEP = timedelta(minutes=5)
METRICS = ("cpu_utilization", "load1_per_core")
LEVELS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
STEPS, HORIZON = 700, 24


def make_fleet(seed: int = 0, servers: int = 4) -> FleetArrays:
    random = np.random.default_rng(seed)
    day = 0.4 + 0.2 * np.sin(np.arange(STEPS) * 2 * np.pi / 288)
    values = day[None, :, None] * (1 + 0.2 * random.standard_normal((servers, STEPS, 2)))
    values = (values.clip(0) * np.array([1.0, 30.0])).astype(np.float32)
    values[random.random(values.shape) < 0.03] = np.nan
    names = tuple(f"web{number}" for number in range(servers))
    return FleetArrays(
        names, ("web_api",) * servers, METRICS, int(START.timestamp()), values, MAINTENANCE.empty_table()
    )


def make_forecaster(name: str = "quantiles_last_24h", levels=LEVELS, cutoff: datetime = START, horizon: int = HORIZON):
    return BaselineForecaster(name, BASELINES[name], BaselineManifest(METRICS, levels, horizon, cutoff))


def test_the_last_horizon_ends_with_the_data_and_origins_are_a_stride_apart():
    windows = rolling_windows(make_fleet(), HORIZON, 3, 10, START)
    end = START + (STEPS - 1) * STEP
    assert [window.origin for window in windows] == [end - (HORIZON + back) * STEP for back in (20, 10, 0)]


def test_input_ends_at_the_origin_and_truth_begins_after_it():
    fleet = make_fleet()
    window = rolling_windows(fleet, HORIZON, 1, 1, START)[0]
    past, truth = window.input(), window.truth(METRICS)
    assert past.time_at(past.steps - 1) == window.origin
    assert truth.shape == (4, 2, HORIZON)
    np.testing.assert_array_equal(truth.transpose(0, 2, 1), fleet.values[:, past.steps : past.steps + HORIZON])


def test_windows_before_the_cutoff_and_a_gap_are_refused_with_the_way_out():
    fleet = make_fleet()
    cutoff = START + (STEPS - 1 - 3 * HORIZON) * STEP  # leaves a gap and room for two windows at this stride
    with pytest.raises(LeakageError) as caught:
        rolling_windows(fleet, HORIZON, 3, HORIZON, cutoff)
    message = str(caught.value)
    allowed = cutoff + HORIZON * STEP
    assert f"{cutoff:%Y-%m-%dT%H:%MZ}" in message
    assert f"the first origin allowed is {allowed:%Y-%m-%dT%H:%MZ}" in message
    assert f"{HORIZON} steps" in message
    assert "2 windows would fit" in message
    assert rolling_windows(fleet, HORIZON, 2, HORIZON, cutoff)[0].origin == allowed


def test_one_step_before_the_first_allowed_origin_is_still_refused():
    cutoff = START + (STEPS - 2 * HORIZON) * STEP
    with pytest.raises(LeakageError, match="bring later data"):
        rolling_windows(make_fleet(), HORIZON, 1, 1, cutoff)


def test_too_little_data_and_senseless_counts_are_told_apart_from_leaks():
    with pytest.raises(EvaluationError, match="700"):
        rolling_windows(make_fleet(), HORIZON, 100, HORIZON, START)
    with pytest.raises(UsageError, match="at least 1"):
        rolling_windows(make_fleet(), HORIZON, 0, HORIZON, START)


def test_data_without_a_target_is_refused():
    fleet = make_fleet()
    fleet = replace(fleet, metrics=("cpu_utilization",), values=fleet.values[:, :, :1])
    with pytest.raises(EvaluationError, match="load1_per_core"):
        run_backtest(make_forecaster(), fleet, 1, 1)


@pytest.mark.parametrize("name", list(BASELINES))
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), gap=st.booleans())
def test_what_comes_after_an_origin_changes_no_forecast(name, seed, gap):
    fleet = make_fleet()
    before = run_backtest(make_forecaster(name), fleet, 3, HORIZON, baselines={})
    first = before.windows[0].index
    values = fleet.values.copy()
    ahead = values[:, first + 1 :]
    ahead[...] = np.nan if gap else np.random.default_rng(seed).random(ahead.shape)
    after = run_backtest(make_forecaster(name), replace(fleet, values=values), 3, HORIZON, baselines={})
    np.testing.assert_array_equal(before.forecasts[0].quantiles, after.forecasts[0].quantiles)


def test_a_forecaster_sees_nothing_after_the_origin():
    seen = []

    class Watcher(BaselineForecaster):
        def forecast(self, fleet, origin):
            seen.append((fleet.time_at(fleet.steps - 1), origin))
            return super().forecast(fleet, origin)

    run_backtest(Watcher("naive", BASELINES["naive"], make_forecaster().manifest), make_fleet(), 4, 7)
    assert len(seen) == 4
    assert all(last == origin for last, origin in seen)


def test_permuting_servers_permutes_the_forecasts():
    fleet, order = make_fleet(), [2, 0, 3, 1]
    straight = run_backtest(make_forecaster(), fleet, 2, HORIZON)
    permuted = run_backtest(make_forecaster(), fleet.of_servers(order), 2, HORIZON)
    np.testing.assert_array_equal(straight.forecasts[1].quantiles[order], permuted.forecasts[1].quantiles)


def test_a_model_that_is_a_rival_has_the_rivals_figures():
    report = summarise(run_backtest(make_forecaster("residual_floor"), make_fleet(), 3, HORIZON))
    for metric in METRICS:
        rows = {row.forecaster: row for row in report.rows_of(metric)}
        model, rival = rows["model"], rows["residual_floor"]
        assert model.wql == pytest.approx(rival.wql)
        assert model.mase_mean == pytest.approx(rival.mase_mean)
        assert model.coverage_96 == rival.coverage_96
    ours = next(item for item in report.comparisons if item.rival == "residual_floor")
    assert ours.wql_ratio == pytest.approx(1.0)


def test_figures_are_those_of_the_metrics_on_all_windows():
    fleet = make_fleet()
    result = run_backtest(make_forecaster(), fleet, 3, HORIZON)
    report = summarise(result)
    for column, metric in enumerate(METRICS):
        truth = np.stack([window.truth((metric,))[:, 0] for window in result.windows])
        quantiles = np.stack([forecast.quantiles[:, column] for forecast in result.forecasts])
        model = report.rows_of(metric)[0]
        assert model.wql == pytest.approx(weighted_quantile_loss(truth, quantiles, LEVELS))
        assert model.coverage_80 == pytest.approx(coverage(truth, quantiles[..., 1], quantiles[..., 5]))
        assert model.coverage_96 == pytest.approx(coverage(truth, quantiles[..., 0], quantiles[..., 6]))
        assert report.scopes[column].points == (~np.isnan(truth)).sum()
        best = min(row.wql for row in report.rows_of(metric) if row.forecaster != "model")
        assert model.wql_ratio == pytest.approx(model.wql / best)


def test_a_server_without_a_forecast_is_scored_for_nobody_and_counted():
    fleet = make_fleet()
    fleet.values[1, : STEPS - HORIZON] = np.nan
    report = summarise(run_backtest(make_forecaster(), fleet, 1, HORIZON))
    assert report.sources == {"fallback": 3, "none": 1}
    assert report.scopes[0].servers == 3
    assert report.scopes[0].unscored == (~np.isnan(fleet.values[1, -HORIZON:, 0])).sum()
    assert any("not scored" in note for note in report.notes)


def test_the_share_of_fallback_forecasts_is_told():
    report = summarise(run_backtest(make_forecaster(), make_fleet(), 1, HORIZON))
    assert report.rows[0].fallback_share == 1.0
    assert report.reasons == {"baseline quantiles_last_24h": 4}


def test_other_levels_are_interpolated_and_the_report_says_so():
    forecaster = make_forecaster(levels=(0.1, 0.5, 0.9))
    result = run_backtest(forecaster, make_fleet(), 1, HORIZON, levels=(0.05, 0.1, 0.3, 0.5, 0.9))
    own = run_backtest(forecaster, make_fleet(), 1, HORIZON)
    asked, had = result.forecasts[0].quantiles, own.forecasts[0].quantiles
    np.testing.assert_array_equal(asked[..., [1, 3, 4]], had)
    np.testing.assert_allclose(asked[..., 2], (had[..., 0] + had[..., 1]) / 2, rtol=1e-5)
    np.testing.assert_array_equal(asked[..., 0], had[..., 0])
    notes = " ".join(result.notes)
    assert "at 0.3 are interpolated" in notes
    assert "at 0.05 its outermost quantile" in notes
    assert not own.notes


def test_progress_counts_the_windows():
    calls = []
    run_backtest(make_forecaster(), make_fleet(), 3, 5, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_the_report_is_written_whole(tmp_path):
    result = run_backtest(make_forecaster(), make_fleet(), 2, HORIZON)
    report = write_report(result, tmp_path / "report", {"model": "runs/a"})
    folder = tmp_path / "report"
    assert sorted(path.name for path in folder.iterdir()) == [
        "fans.png",
        "forecasts.parquet",
        "report.json",
        "report.md",
    ]
    assert BacktestReport.model_validate_json((folder / "report.json").read_text()) == report
    assert (folder / "fans.png").read_bytes().startswith(b"\x89PNG")
    table = pq.read_table(folder / "forecasts.parquet")
    assert table.num_rows == 2 * 4 * 2 * HORIZON
    assert [f"q{level:g}" for level in LEVELS] == [name for name in table.column_names if name.startswith("q")]
    text = (folder / "report.md").read_text()
    console = Console(width=200, record=True)
    console.print(tables(report))
    for shown in (text, console.export_text()):
        assert "runs/a" in shown
        for row in report.rows:
            assert row.forecaster in shown
            assert f"{row.wql:.4f}" in shown
