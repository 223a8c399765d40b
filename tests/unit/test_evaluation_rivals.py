"""Rivals that learn or know: nothing from after the cutoff or origin reaches them, and noise teaches nothing."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fleetcast.contract.metrics import DEFAULT_TARGETS
from fleetcast.contract.schema import MAINTENANCE
from fleetcast.contract.vocabulary import STEPS_PER_DAY
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import DatasetError, EvaluationError, LeakageError, UsageError
from fleetcast.evaluation.backtest import run_backtest
from fleetcast.evaluation.catalogue import make_rivals, rival_names
from fleetcast.evaluation.gradient import GradientRival
from fleetcast.evaluation.limits import OracleRival, ReferenceRival
from fleetcast.evaluation.rivals import UNTRAINED, BaselineForecaster, BaselineManifest
from fleetcast.evaluation.source import ArraysSource, DatasetSource
from fleetcast.evaluation.summary import summarise
from fleetcast.model.baselines import BASELINES
from fleetcast.simulate.oracle import oracle_forecast
from fleetcast.simulate.spec import FleetSpec
from fleetcast.windows.arrays import FleetArrays, arrays_from_dataset

START = datetime(2026, 1, 5, tzinfo=UTC)
STEP = timedelta(minutes=5)
METRICS = ("cpu_utilization", "load1_per_core")
LEVELS = (0.1, 0.5, 0.9)
STEPS, HORIZON, CUTOFF = 1500, 24, 1300


def make_fleet(seed: int = 0, servers: int = 6, noise: bool = False) -> FleetArrays:
    """A day that repeats with a drift and noise, or the same values in random order: nothing to learn."""
    random = np.random.default_rng(seed)
    day = 0.4 + 0.3 * np.sin(np.arange(STEPS) * 2 * np.pi / STEPS_PER_DAY + random.random((servers, 1)))
    values = np.stack([day, 3 * day], axis=2) * (1 + 0.1 * random.standard_normal((servers, STEPS, 2)))
    values = values.clip(0).astype(np.float32)
    if noise:
        values = random.permuted(values, axis=1)
    values[random.random(values.shape) < 0.03] = np.nan
    names = tuple(f"web{number}" for number in range(servers))
    return FleetArrays(
        names, ("web_api",) * servers, METRICS, int(START.timestamp()), values, MAINTENANCE.empty_table()
    )


def fit(fleet: FleetArrays, size: int = 100) -> GradientRival:
    source, cutoff = ArraysSource(fleet, size), START + CUTOFF * STEP
    return GradientRival.fit(source, METRICS, LEVELS, HORIZON, cutoff, windows=1200, rounds=30)


def report_of(fleet: FleetArrays, rival: GradientRival):
    manifest = BaselineManifest(METRICS, LEVELS, HORIZON, START + CUTOFF * STEP)
    model = BaselineForecaster("constant_quantiles", BASELINES["constant_quantiles"], manifest)
    rivals = {"lightgbm": rival, **UNTRAINED}
    return summarise(run_backtest(model, fleet, None, None, rivals=rivals))


def changed_after(fleet: FleetArrays, step: int) -> FleetArrays:
    values = fleet.values.copy()
    values[:, step + 1 :] = np.random.default_rng(5).random(values[:, step + 1 :].shape)
    return replace(fleet, values=values)


def test_boosted_trees_learn_what_is_there_to_learn():
    fleet = make_fleet()
    for metric in METRICS:
        losses = {row.forecaster: row.wql for row in report_of(fleet, fit(fleet)).rows_of(metric)}
        assert losses["lightgbm"] < 0.8 * losses["constant_quantiles"]
        assert losses["lightgbm"] < losses["naive"]


def test_on_shuffled_labels_nothing_is_better_than_the_constant():
    fleet = make_fleet(noise=True)
    for metric in METRICS:
        losses = {row.forecaster: row.wql for row in report_of(fleet, fit(fleet)).rows_of(metric)}
        assert min(losses.values()) > 0.97 * losses["constant_quantiles"]


def test_what_comes_after_the_cutoff_changes_no_fit_and_after_the_origin_no_forecast():
    fleet = make_fleet()
    ours, theirs = fit(fleet), fit(changed_after(fleet, CUTOFF))
    past = fleet.until(CUTOFF + 50)
    expected = ours.quantiles(past, METRICS, HORIZON, LEVELS)
    np.testing.assert_array_equal(theirs.quantiles(past, METRICS, HORIZON, LEVELS), expected)
    later = changed_after(fleet, CUTOFF + 50).until(CUTOFF + 50)
    np.testing.assert_array_equal(ours.quantiles(later, METRICS, HORIZON, LEVELS), expected)


def test_trees_do_not_depend_on_chunks_and_permute_with_the_servers():
    fleet, order = make_fleet(), [3, 1, 0, 5, 2, 4]
    rival, past = fit(fleet), fleet.until(CUTOFF)
    expected = rival.quantiles(past, METRICS, HORIZON, LEVELS)
    np.testing.assert_array_equal(fit(fleet, 2).quantiles(past, METRICS, HORIZON, LEVELS), expected)
    permuted = rival.quantiles(past.of_servers(order), METRICS, HORIZON, LEVELS)
    np.testing.assert_array_equal(permuted, expected[order])
    assert (np.diff(expected, axis=-1) >= 0).all()
    assert (expected >= 0).all()


def test_a_series_without_a_value_has_no_forecast_of_trees():
    fleet = make_fleet()
    fleet.values[2, :, 1] = np.nan
    found = fit(fleet).quantiles(fleet.until(CUTOFF), METRICS, HORIZON, LEVELS)
    assert np.isnan(found[2, 1]).all()
    assert np.isfinite(found[2, 0]).all()


def test_trees_without_a_window_before_the_cutoff_are_refused():
    with pytest.raises(EvaluationError, match="before the cutoff"):
        GradientRival.fit(ArraysSource(make_fleet()), METRICS, LEVELS, HORIZON, START, windows=10)


def test_the_oracle_is_the_simulators_and_permutes_with_the_servers(tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    fleet = arrays_from_dataset(dataset)
    spec = FleetSpec(servers=9, hours=96, seed=11)
    rival, at = OracleRival(spec, samples=16), fleet.steps - 1 - HORIZON
    found = rival.quantiles(fleet.until(at), METRICS, HORIZON, LEVELS)
    whole = oracle_forecast(spec, range(9), [fleet.time_at(at)], 16, HORIZON, LEVELS, METRICS)
    for row, name in enumerate(fleet.servers):
        np.testing.assert_array_equal(found[row], whole.quantiles[0, whole.servers.index(name)])
    blind = replace(fleet, values=np.full_like(fleet.values, np.nan)).until(at)
    np.testing.assert_array_equal(rival.quantiles(blind, METRICS, HORIZON, LEVELS), found)
    stranger = replace(fleet, servers=("someone", *fleet.servers[1:]))
    with pytest.raises(EvaluationError, match="someone"):
        rival.quantiles(stranger.until(at), METRICS, HORIZON, LEVELS)


def test_the_reference_forecasts_from_what_it_may_see(tiny_dataset):
    fleet = arrays_from_dataset(Dataset.open(tiny_dataset))
    spec, at = FleetSpec(servers=9, hours=96, seed=11), fleet.steps - 1 - HORIZON
    with pytest.raises(LeakageError, match="seed 11"):
        ReferenceRival.fit(spec, spec, METRICS, HORIZON, at)
    with pytest.raises(UsageError, match="a day"):
        ReferenceRival.fit(spec, spec.model_copy(update={"seed": 5}), METRICS, HORIZON, 100)
    corpus = spec.model_copy(update={"seed": 5, "hours": 60.0})
    rival = ReferenceRival.fit(spec, corpus, METRICS, HORIZON, 300, windows=1024)
    found = rival.quantiles(fleet.until(at), DEFAULT_TARGETS, HORIZON, LEVELS)
    assert found.shape == (9, len(DEFAULT_TARGETS), HORIZON, 3)
    assert np.isfinite(found).all()
    later = changed_after(fleet, at).until(at)
    np.testing.assert_array_equal(rival.quantiles(later, DEFAULT_TARGETS, HORIZON, LEVELS), found)
    with pytest.raises(UsageError, match="uptime"):
        ReferenceRival.fit(spec, corpus, ("cpu_utilization", "uptime_seconds"), HORIZON, 300)


def test_rivals_are_named_in_groups_or_one_by_one():
    assert rival_names(None) == rival_names(["untrained"]) == tuple(UNTRAINED)
    assert rival_names(["oracle", "naive", "naive"]) == ("naive", "oracle")
    assert rival_names(["none"]) == ()
    with pytest.raises(UsageError, match="unknown rival 'astrology'; there are untrained"):
        rival_names(["naive", "astrology"])


def test_the_oracle_of_real_data_is_refused(tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    manifest = BaselineManifest(METRICS, LEVELS, HORIZON, START)
    source, real = DatasetSource(dataset), dataset.manifest.model_copy(update={"source": {"kind": "csv"}})
    with pytest.raises(DatasetError, match="simulated"):
        make_rivals(["oracle"], source, real, manifest, LEVELS, START)
    strange = replace(manifest, targets=("cpu_utilization", "uptime_seconds"))
    with pytest.raises(UsageError, match="does not forecast uptime_seconds: leave it out"):
        make_rivals(["reference"], source, dataset.manifest, strange, LEVELS, START)
    made = make_rivals(["naive", "oracle"], source, dataset.manifest, manifest, LEVELS, START)
    assert isinstance(made["oracle"], OracleRival)
    assert list(made) == ["naive", "oracle"]
