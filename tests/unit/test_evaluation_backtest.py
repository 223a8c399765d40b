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
from fleetcast.errors import EvaluationError
from fleetcast.evaluation.backtest import run_backtest
from fleetcast.evaluation.figures import BacktestReport, Section
from fleetcast.evaluation.forecast_file import ForecastFile
from fleetcast.evaluation.metrics import coverage, mase, weighted_quantile_loss
from fleetcast.evaluation.report import tables, write_report
from fleetcast.evaluation.rivals import BaselineForecaster, BaselineManifest
from fleetcast.evaluation.source import ArraysSource
from fleetcast.evaluation.summary import summarise
from fleetcast.forecast.table import ForecastArrays
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


class Kept:
    """A listener that keeps the forecasts of a backtest, joined over the chunks."""

    def __init__(self):
        self.chunks = []

    def add(self, fleet, forecasts):
        self.chunks.append(forecasts)

    @property
    def forecasts(self):
        return [ForecastArrays.concat(parts) for parts in zip(*self.chunks, strict=True)]


def forecasts_of(*arguments, **options):
    kept = Kept()
    run_backtest(*arguments, **options, listeners=[kept])
    return kept.forecasts


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
    before = forecasts_of(make_forecaster(name), fleet, 3, HORIZON, rivals={})
    first = fleet.index_of(before[0].origin)
    values = fleet.values.copy()
    ahead = values[:, first + 1 :]
    ahead[...] = np.nan if gap else np.random.default_rng(seed).random(ahead.shape)
    after = forecasts_of(make_forecaster(name), replace(fleet, values=values), 3, HORIZON, rivals={})
    np.testing.assert_array_equal(before[0].quantiles, after[0].quantiles)


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
    straight = forecasts_of(make_forecaster(), fleet, 2, HORIZON)
    permuted = forecasts_of(make_forecaster(), fleet.of_servers(order), 2, HORIZON)
    np.testing.assert_array_equal(straight[1].quantiles[order], permuted[1].quantiles)


def test_permuting_servers_permutes_every_score():
    fleet, order = make_fleet(), [2, 0, 3, 1]
    straight = run_backtest(make_forecaster(), fleet, 2, HORIZON)
    permuted = run_backtest(make_forecaster(), fleet.of_servers(order), 2, HORIZON)
    assert permuted.servers == tuple(straight.servers[row] for row in order)
    for name, scores in straight.scores.items():
        for field in ("pinball", "scaled", "inside", "width", "pit", "peak"):
            np.testing.assert_array_equal(getattr(scores, field)[order], getattr(permuted.scores[name], field))


def test_the_report_does_not_depend_on_the_order_of_the_servers():
    fleet = make_fleet()
    straight = summarise(run_backtest(make_forecaster(), fleet, 2, HORIZON))
    assert summarise(run_backtest(make_forecaster(), fleet.of_servers([2, 0, 3, 1]), 2, HORIZON)) == straight


@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_figures_do_not_depend_on_the_chunks(size):
    fleet = make_fleet(servers=7)
    whole = summarise(run_backtest(make_forecaster(), fleet, 3, HORIZON))
    kept = Kept()
    result = run_backtest(make_forecaster(), ArraysSource(fleet, size), 3, HORIZON, listeners=[kept])
    assert summarise(result) == whole
    assert len(kept.chunks) == -(-7 // size)
    assert result.servers == fleet.servers


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
    kept = Kept()
    result = run_backtest(make_forecaster(), fleet, 3, HORIZON, listeners=[kept])
    report, windows = summarise(result), result.origins.windows(fleet)
    for column, metric in enumerate(METRICS):
        truth = np.stack([window.truth((metric,))[:, 0] for window in windows])
        quantiles = np.stack([forecast.quantiles[:, column] for forecast in kept.forecasts])
        model = report.rows_of(metric)[0]
        assert model.wql == pytest.approx(weighted_quantile_loss(truth, quantiles, LEVELS))
        assert model.coverage_80 == pytest.approx(coverage(truth, quantiles[..., 1], quantiles[..., 5]))
        assert model.coverage_96 == pytest.approx(coverage(truth, quantiles[..., 0], quantiles[..., 6]))
        known = ~np.isnan(truth)
        assert model.width_80 == pytest.approx((quantiles[..., 5] - quantiles[..., 1])[known].mean())
        assert model.width_96 == pytest.approx((quantiles[..., 6] - quantiles[..., 0])[known].mean())
        pasts = np.stack([window.input().select((metric,))[:, :, 0] for window in windows[-1:]])
        last = mase(truth[-1], quantiles[-1, ..., 3], pasts[0])
        alone = run_backtest(make_forecaster(), fleet, 1, HORIZON).scores["model"].scaled[:, column, 0]
        np.testing.assert_allclose(alone, last, rtol=1e-6)
        assert report.scopes[column].points == known.sum()
        best = min(row.wql for row in report.rows_of(metric) if row.forecaster != "model")
        assert model.wql_ratio == pytest.approx(model.wql / best)


def test_the_unit_of_a_metric_does_not_change_its_weight():
    fleet = make_fleet()
    values = fleet.values * np.array([1, 2**20], np.float32)
    plain, scaled = (
        summarise(run_backtest(make_forecaster(), one, 3, HORIZON)) for one in (fleet, replace(fleet, values=values))
    )
    for before, after in zip(plain.comparisons, scaled.comparisons, strict=True):
        assert after.wql_ratio == pytest.approx(before.wql_ratio, rel=1e-4)
        assert after.mase_ratio == pytest.approx(before.mase_ratio, rel=1e-4)


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
    levels = (0.05, 0.1, 0.3, 0.5, 0.9)
    asked = forecasts_of(forecaster, make_fleet(), 1, HORIZON, levels=levels)[0].quantiles
    had = forecasts_of(forecaster, make_fleet(), 1, HORIZON)[0].quantiles
    result = run_backtest(forecaster, make_fleet(), 1, HORIZON, levels=levels)
    own = run_backtest(forecaster, make_fleet(), 1, HORIZON)
    np.testing.assert_array_equal(asked[..., [1, 3, 4]], had)
    np.testing.assert_allclose(asked[..., 2], (had[..., 0] + had[..., 1]) / 2, rtol=1e-5)
    np.testing.assert_array_equal(asked[..., 0], had[..., 0])
    notes = " ".join(result.notes)
    assert "at 0.3 are interpolated" in notes
    assert "at 0.05 its outermost quantile" in notes
    assert not own.notes


def test_progress_counts_the_servers():
    calls = []
    source = ArraysSource(make_fleet(), 3)
    run_backtest(make_forecaster(), source, 3, HORIZON, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(3, 4), (4, 4)]


def test_overlapping_windows_are_told():
    assert any("overlap" in note for note in run_backtest(make_forecaster(), make_fleet(), 3, 5).notes)
    assert not run_backtest(make_forecaster(), make_fleet(), 3, None).notes


class Counting(Kept):
    """A scoring that adds a section."""

    def section(self):
        count = sum(map(len, self.chunks))
        return Section(title="Incidents", text=["of a kind"], images=["count.png"], data={"forecasts": count})

    def images(self):
        return {"count.png": b"\x89PNG"}


def test_the_report_is_written_whole(tmp_path):
    folder, fleet, forecaster = tmp_path / "report", make_fleet(), make_forecaster()
    added = Counting()
    with ForecastFile(folder, LEVELS) as file:
        result = run_backtest(forecaster, ArraysSource(fleet, 3), 2, HORIZON, listeners=[file, added])
    seen = np.array([True, True, False, False])
    report = write_report(result, forecaster, fleet, folder, {"model": "runs/a"}, seen, "abc", [added])
    images = ["calibration.png", "count.png", "fans.png", "horizon.png"]
    assert report.sections[0].data == {"forecasts": 2 * 2}
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*images, "forecasts.parquet", "report.json", "report.md"]
    )
    assert BacktestReport.model_validate_json((folder / "report.json").read_text()) == report
    for image in images:
        assert (folder / image).read_bytes().startswith(b"\x89PNG")
    table = pq.read_table(folder / "forecasts.parquet")
    assert table.num_rows == 2 * 4 * 2 * HORIZON
    assert [f"q{level:g}" for level in LEVELS] == [name for name in table.column_names if name.startswith("q")]
    text = (folder / "report.md").read_text()
    console = Console(width=300, record=True)
    console.print(tables(report))
    for shown in (text, console.export_text()):
        assert "runs/a" in shown
        assert "of a kind" in shown
        assert "50 % of them unseen" in shown
        assert "oints in the 80 % band by profile" in shown
        for row in report.rows:
            assert row.forecaster in shown
            assert f"{row.wql:.4f}" in shown
