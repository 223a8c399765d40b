"""Figures of a report: calibration, peaks, slices, intervals, ratios to rivals and to the oracle."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.contract.schema import MAINTENANCE
from fleetcast.evaluation import bootstrap
from fleetcast.evaluation.backtest import run_backtest
from fleetcast.evaluation.metrics import geometric_mean, pinball, pit_counts, pit_shares
from fleetcast.evaluation.scores import bucket_edges, bucket_names
from fleetcast.evaluation.summary import summarise
from fleetcast.forecast.table import MODEL, ForecastArrays
from fleetcast.windows.arrays import FleetArrays

START = datetime(2026, 1, 5, tzinfo=UTC)
LEVELS = (0.02, 0.1, 0.5, 0.9, 0.98)
METRICS = ("cpu_utilization", "load1_per_core")
STEPS, HORIZON = 600, 30
NORMAL = np.array([-2.0537, -1.2816, 0.0, 1.2816, 2.0537])  # standard normal quantiles at LEVELS


@dataclass(frozen=True)
class Manifest:
    targets = METRICS
    levels = LEVELS
    horizon = HORIZON
    cutoff = START


@dataclass(frozen=True)
class Gaussian:
    """Forecasts a normal distribution around 1, `factor` times as wide as the truth's; a model and a rival."""

    factor: float = 1.0
    manifest: Manifest = Manifest()

    def quantiles(self, past, metrics, horizon, levels):
        shape = (len(past.servers), len(metrics), horizon, len(levels))
        return np.broadcast_to(1 + 0.1 * self.factor * NORMAL, shape).astype(np.float32)

    def forecast(self, fleet, origin):
        servers = len(fleet.servers)
        found = self.quantiles(fleet, METRICS, HORIZON, LEVELS)
        return ForecastArrays(
            fleet.servers, fleet.profiles, METRICS, LEVELS, origin, found, (MODEL,) * servers, ("",) * servers
        )


def make_fleet(servers: int = 8) -> FleetArrays:
    values = 1 + 0.1 * np.random.default_rng(0).standard_normal((servers, STEPS, 2))
    names = tuple(f"s{number}" for number in range(servers))
    profiles = tuple(("web_api", "database")[number % 2] for number in range(servers))
    return FleetArrays(
        names, profiles, METRICS, int(START.timestamp()), values.astype(np.float32), MAINTENANCE.empty_table()
    )


def report_of(model=None, rivals=None, seen=None, fleet=None):
    result = run_backtest(model or Gaussian(), fleet or make_fleet(), 10, None, rivals=rivals or {})
    return summarise(result, seen=seen)


def test_a_calibrated_forecast_has_the_expected_histogram_coverage_and_width():
    row = report_of().rows_of(METRICS[0])[0]
    np.testing.assert_allclose(row.pit, pit_shares(LEVELS), atol=0.03)
    assert row.coverage_80 == pytest.approx(0.8, abs=0.03)
    assert row.coverage_96 == pytest.approx(0.96, abs=0.03)
    assert row.width_80 == pytest.approx(0.25632, rel=1e-4)
    assert row.width_96 == pytest.approx(0.41074, rel=1e-4)


def test_a_forecast_that_is_too_narrow_piles_up_in_the_outer_bins():
    row = report_of(Gaussian(0.3)).rows_of(METRICS[0])[0]
    assert row.pit[0] > 5 * pit_shares(LEVELS)[0]
    assert row.pit[-1] > 5 * pit_shares(LEVELS)[-1]
    assert row.coverage_80 < 0.4


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, float("nan")]), min_size=1, max_size=30))
def test_the_histogram_counts_every_known_point_once(truth):
    quantiles = np.sort(np.random.default_rng(len(truth)).integers(0, 3, (len(truth), 5)), axis=1).astype(float)
    counts = pit_counts(np.array(truth), quantiles, LEVELS)
    assert counts.sum() == pytest.approx(np.isfinite(truth).sum())
    assert (counts >= 0).all()


def test_a_point_on_quantiles_is_spread_over_the_bins_that_they_bound():
    def histogram(truth, quantiles):
        return pit_counts(np.array([truth]), np.array([quantiles]), (0.1, 0.5, 0.9))

    np.testing.assert_allclose(histogram(0.0, [0.0, 0.0, 0.0]), [0.1, 0.4, 0.4, 0.1])
    np.testing.assert_allclose(histogram(1.5, [1.0, 2.0, 3.0]), [0, 1, 0, 0])
    np.testing.assert_allclose(histogram(0.0, [0.0, 0.0, 3.0]), [1 / 9, 4 / 9, 4 / 9, 0])
    np.testing.assert_allclose(histogram(9.0, [1.0, 2.0, 3.0]), [0, 0, 0, 1])


def test_the_peak_is_the_highest_value_against_the_highest_of_each_quantile():
    fleet = make_fleet(2)
    fleet.values[0, -HORIZON + 3, 0] = np.nan
    result = run_backtest(Gaussian(), fleet, 1, None, rivals={})
    row = summarise(result).rows_of(METRICS[0])[0]
    truth = np.nanmax(fleet.values[:, -HORIZON:, 0], axis=1)
    loss = pinball(truth, np.broadcast_to(1 + 0.1 * NORMAL, (2, 5)).astype(np.float32), LEVELS)
    assert row.peak_pinball == pytest.approx(loss.mean())
    assert row.peak_wql == pytest.approx(2 * loss.sum() / (5 * truth.sum()))
    assert list(row.peak_pinball_by_level.values()) == pytest.approx(loss.mean(axis=0).tolist())


def test_buckets_of_leads_partition_the_horizon():
    assert bucket_names(96) == ["0-30 min", "30 min-2 h", "2 h-4 h", "4 h-8 h"]
    assert bucket_names(30) == ["0-30 min", "30 min-2 h", "2 h-2.5 h"]
    assert bucket_edges(6) == (6,)
    report = report_of()
    for metric in METRICS:
        total = report.rows_of(metric)[0]
        for axis, names in (("lead", bucket_names(HORIZON)), ("profile", ["database", "web_api"])):
            slices = report.slices_of(axis, metric)
            assert [one.name for one in slices] == names
            assert sum(one.points for one in slices) == total.points
            mean = sum(one.pinball * one.points for one in slices) / total.points
            assert mean == pytest.approx(total.pinball)
            pit = sum(np.array(one.pit) * one.points for one in slices) / total.points
            np.testing.assert_allclose(pit, total.pit, atol=1e-9)
            for level, loss in total.pinball_by_level.items():
                mean = sum(one.pinball_by_level[level] * one.points for one in slices) / total.points
                assert mean == pytest.approx(loss)
        assert all(one.peak_wql is None for one in report.slices_of("lead", metric))
        peaks = [one.peak_pinball for one in report.slices_of("profile", metric)]  # four servers each
        assert np.mean(peaks) == pytest.approx(total.peak_pinball)


def test_the_slice_of_a_lead_is_the_figure_of_those_steps():
    fleet = make_fleet()
    found = report_of(fleet=fleet).slices_of("lead", METRICS[1])[0]
    ends = STEPS - 1 - HORIZON - HORIZON * np.arange(10)
    truth = fleet.values[:, (ends[:, None] + np.arange(1, 7)).ravel(), 1]
    loss = pinball(truth, np.broadcast_to((1 + 0.1 * NORMAL).astype(np.float32), (*truth.shape, 5)), LEVELS)
    assert found.wql == pytest.approx(2 * loss.sum() / (5 * truth.sum()), rel=1e-5)


def test_seen_and_unseen_servers_are_told_apart_where_both_occur():
    seen = np.arange(8) < 6
    report = report_of(seen=seen)
    assert report.unseen_share == 0.25
    slices = report.slices_of("servers", METRICS[0])
    assert [(one.name, one.points) for one in slices] == [("seen in training", 1800), ("unseen", 600)]
    assert report_of(seen=np.ones(8, bool)).slices_of("servers", METRICS[0]) == []
    assert report_of().unseen_share is None


def test_ratios_are_geometric_means_over_metrics():
    report = report_of(rivals={"wide": Gaussian(3)})
    comparison = report.comparisons[0]
    assert comparison.wql_ratio == pytest.approx(geometric_mean([one.wql_ratio for one in comparison.metrics]))
    for one in comparison.metrics:
        rows = {row.forecaster: row for row in report.rows_of(one.metric)}
        ours, theirs = rows["model"], rows["wide"]
        assert one.wql_ratio == pytest.approx(ours.wql / theirs.wql)
        assert one.peak_ratio == pytest.approx(ours.peak_wql / theirs.peak_wql)
    assert report.best_rival == "wide"


def test_limits_are_no_rivals_and_say_how_much_of_the_way_is_closed():
    rivals = {"wide": Gaussian(3), "oracle": Gaussian(1.0)}
    report = report_of(Gaussian(1.5), rivals)
    by_name = {item.rival: item for item in report.comparisons}
    losses = {row.forecaster: row.wql for row in report.rows_of(METRICS[0])}
    assert by_name["oracle"].is_limit
    assert not by_name["wide"].is_limit
    assert report.best_rival == "wide"
    assert report.rows_of(METRICS[0])[0].wql_ratio == pytest.approx(losses["model"] / losses["wide"])
    assert by_name["oracle"].closed is None
    assert 0.5 < by_name["wide"].closed < 1
    same = report_of(Gaussian(1.0), rivals).comparisons[0]
    assert same.closed == pytest.approx(1.0)
    assert report_of(Gaussian(3), rivals).comparisons[0].closed == pytest.approx(0.0)


def test_intervals_hold_the_figure_and_vanish_where_all_servers_are_alike():
    report = report_of(Gaussian(1.2), {"wide": Gaussian(3)})
    for row in report.rows:
        assert row.wql_interval[0] < row.wql < row.wql_interval[1]
        assert row.mase_interval[0] < row.mase_mean < row.mase_interval[1]
    comparison = report.comparisons[0]
    assert comparison.wql_interval[0] < comparison.wql_ratio < comparison.wql_interval[1]
    fleet = make_fleet()
    alike = replace(fleet, values=np.repeat(fleet.values[:1], 8, axis=0))
    low, high = report_of(fleet=alike).rows[0].wql_interval
    assert high - low < 1e-9


def test_the_bootstrap_is_seeded_and_has_the_spread_of_a_mean():
    loss = np.random.default_rng(1).exponential(size=(400, 1))
    ones = np.ones_like(loss)

    def draw():
        return bootstrap.resample({"model": loss}, {"model": loss}, ones, ones).mase("model")

    first = draw()
    np.testing.assert_array_equal(first, draw())
    assert first.std() == pytest.approx(loss.std() / 20, rel=0.1)
    assert first.mean() == pytest.approx(loss.mean(), rel=0.02)


def test_nothing_known_gives_no_interval():
    assert bootstrap.interval(np.full(5, np.nan)) is None
    assert np.isnan(bootstrap.geometric(np.full((3, 2), np.nan))).all()
