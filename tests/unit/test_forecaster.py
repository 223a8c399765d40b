"""A forecast lies in the future, says where it came from and does not depend on what comes later."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from fleetcast.dataset.reader import Dataset
from fleetcast.errors import ContractError, IncompatibleError
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.forecast.table import ForecastArrays
from fleetcast.model.base import ResidualBase
from fleetcast.model.bundle import Bundle
from fleetcast.windows.arrays import FleetArrays, arrays_from_dataset
from tests.unit.test_model import bundle_of


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    return Forecaster(bundle_of())


@pytest.fixture(scope="module")
def fleet(tiny_dataset: Path) -> FleetArrays:
    found = arrays_from_dataset(Dataset.open(tiny_dataset))
    values = found.values.copy()
    gaps = np.isnan(values[:, -60:]).all(axis=2)
    values[:, -60:][gaps] = 0.4  # nobody is offline at the origins of these tests
    return replace(found, values=values)


def test_steps_follow_the_origin(forecaster: Forecaster, fleet: FleetArrays) -> None:
    origin = fleet.time_at(fleet.steps - 1)
    table = forecaster.forecast(fleet, origin).to_table()
    first = table.filter(pc.equal(table["step"], 1))
    assert set(first["timestamp"].to_pylist()) == {origin + timedelta(minutes=5)}
    assert pc.min(table["timestamp"]).as_py() > origin
    assert pc.max(table["timestamp"]).as_py() == origin + timedelta(minutes=5 * 96)
    assert table.num_rows == len(fleet.servers) * 2 * 96


def test_values_after_the_origin_do_not_change_a_forecast(forecaster: Forecaster, fleet: FleetArrays) -> None:
    origin_index = fleet.steps - 30
    changed = fleet.values.copy()
    changed[:, origin_index + 1 :] = np.float32(0.987)
    before = forecaster.forecast(fleet, fleet.time_at(origin_index))
    after = forecaster.forecast(replace(fleet, values=changed), fleet.time_at(origin_index))
    cut = forecaster.forecast(fleet.until(origin_index), fleet.time_at(origin_index))
    np.testing.assert_array_equal(before.quantiles, after.quantiles)
    np.testing.assert_array_equal(before.quantiles, cut.quantiles)
    assert (before.sources, before.reasons) == (after.sources, after.reasons)


def test_values_before_the_origin_do_change_a_forecast(forecaster: Forecaster, fleet: FleetArrays) -> None:
    changed = fleet.values.copy()
    changed[:, -12:] = np.float32(0.9)
    origin = fleet.time_at(fleet.steps - 1)
    before = forecaster.forecast(fleet, origin).quantiles
    assert np.abs(before - forecaster.forecast(replace(fleet, values=changed), origin).quantiles).max() > 0.01


def test_permuting_the_servers_permutes_the_forecasts(forecaster: Forecaster, fleet: FleetArrays) -> None:
    origin, order = fleet.time_at(fleet.steps - 1), np.random.default_rng(0).permutation(len(fleet.servers))
    straight = forecaster.forecast(fleet, origin).of_servers(order)
    permuted = forecaster.forecast(fleet.of_servers(order), origin)
    assert permuted.servers == straight.servers
    np.testing.assert_allclose(permuted.quantiles, straight.quantiles, atol=1e-6)


def test_shards_equal_the_whole_fleet(forecaster: Forecaster, fleet: FleetArrays) -> None:
    origin = fleet.time_at(fleet.steps - 1)
    parts = [
        forecaster.forecast(fleet.of_servers(rows), origin) for rows in ([0, 1, 2], [3], range(4, len(fleet.servers)))
    ]
    joined = ForecastArrays.concat(parts)
    np.testing.assert_allclose(joined.quantiles, forecaster.forecast(fleet, origin).quantiles, atol=1e-6)


def test_quantiles_do_not_cross_and_are_not_negative(forecaster: Forecaster, fleet: FleetArrays) -> None:
    quantiles = forecaster.forecast(fleet, fleet.time_at(fleet.steps - 1)).quantiles
    assert (np.diff(quantiles, axis=-1) >= 0).all()
    assert (quantiles >= 0).all()


def test_fewer_or_unknown_profiles_are_served(forecaster: Forecaster, fleet: FleetArrays) -> None:
    """The field failure: a fleet that happened to hold fewer profiles than training did."""
    origin = fleet.time_at(fleet.steps - 1)
    for profile in ("database", "mainframe"):
        profiles = (profile,) * len(fleet.servers)
        forecast = forecaster.forecast(replace(fleet, profiles=profiles), origin)
        assert set(forecast.sources) == {"model"}
        assert np.isfinite(forecast.quantiles).all()


def test_silence_falls_back_and_then_ends_the_forecast(forecaster: Forecaster, fleet: FleetArrays) -> None:
    values = fleet.values.copy()
    values[0, -8:] = np.nan
    values[1, -300:] = np.nan
    values[2] = np.nan
    values[3, :-20] = np.nan
    forecast = forecaster.forecast(replace(fleet, values=values), fleet.time_at(fleet.steps - 1))
    assert forecast.sources[:5] == ("fallback", "none", "none", "fallback", "model")
    assert forecast.reasons[0] == "cpu_utilization: no sample for 40 min"
    assert "observed" in forecast.reasons[3]
    assert np.isnan(forecast.quantiles[1:3]).all()
    assert np.isfinite(forecast.quantiles[0]).all()
    table = forecast.to_table()
    silent = table.filter(pc.equal(table["server"], fleet.servers[1]))
    assert silent["q0.5"].null_count == silent.num_rows
    assert set(silent["source"].to_pylist()) == {"none"}
    assert all(silent["reason"].to_pylist())


def test_a_stale_metric_is_not_called_a_model_forecast(forecaster: Forecaster, fleet: FleetArrays) -> None:
    values = fleet.values.copy()
    values[0, -100:, fleet.metrics.index("memory_used")] = np.nan
    forecast = forecaster.forecast(replace(fleet, values=values), fleet.time_at(fleet.steps - 1))
    assert forecast.sources[0] == "fallback"
    assert forecast.reasons[0] == "memory_used: no sample for 500 min"


def test_weights_of_another_network_are_refused_with_both_sides() -> None:
    bundle = bundle_of()
    weights = {**bundle.weights, "transformer.output_layer.bias": torch.zeros(3)}
    with pytest.raises(IncompatibleError, match=r"output_layer.bias.*\(240,\).*\(3,\)"):
        Forecaster(Bundle(bundle.manifest, weights))


def test_a_missing_metric_gets_no_numbers(forecaster: Forecaster, fleet: FleetArrays) -> None:
    values = fleet.values.copy()
    values[0, :, fleet.metrics.index("memory_used")] = np.nan
    forecast = forecaster.forecast(replace(fleet, values=values), fleet.time_at(fleet.steps - 1))
    assert forecast.sources[0] == "model"
    assert np.isfinite(forecast.quantiles[0, 0]).all()
    assert np.isnan(forecast.quantiles[0, 1]).all()
    table = forecast.to_table()
    rows = table.filter(pc.and_(pc.equal(table["server"], fleet.servers[0]), pc.equal(table["metric"], "memory_used")))
    assert set(rows["source"].to_pylist()) == {"none"}
    assert set(rows["reason"].to_pylist()) == {"no recent sample of this metric"}


def test_a_fleet_without_a_target_is_refused_with_both_sides(forecaster: Forecaster, fleet: FleetArrays) -> None:
    alone = replace(fleet, metrics=("cpu_utilization",), values=fleet.values[:, :, :1])
    with pytest.raises(IncompatibleError, match=r"memory_used.*cpu_utilization"):
        forecaster.forecast(alone, fleet.time_at(fleet.steps - 1))


def test_an_origin_off_the_grid_or_without_a_zone_is_refused(forecaster: Forecaster, fleet: FleetArrays) -> None:
    origin = fleet.time_at(fleet.steps - 1)
    for bad in (origin + timedelta(seconds=7), origin.replace(tzinfo=None)):
        with pytest.raises((ContractError, Exception), match=r"grid|zone"):
            forecaster.forecast(fleet, bad)


def test_save_load_forecast_gives_the_same_bits(forecaster: Forecaster, fleet: FleetArrays, tmp_path: Path) -> None:
    bundle_of().save(tmp_path / "bundle")
    origin = fleet.time_at(fleet.steps - 1)
    loaded = Forecaster.load(tmp_path / "bundle").forecast(fleet, origin)
    np.testing.assert_array_equal(loaded.quantiles, forecaster.forecast(fleet, origin).quantiles)


def test_a_young_servers_base_is_that_of_its_own_samples(forecaster: Forecaster, fleet: FleetArrays) -> None:
    """Steps before a server's first sample are no calm that narrows its band: as if the data began with it."""
    origin, young = fleet.time_at(fleet.steps - 1), fleet.slice(fleet.steps - 300, fleet.steps).of_servers([0])
    values = fleet.values[:1].copy()
    values[:, :-300] = np.nan
    late = forecaster.history(replace(fleet.of_servers([0]), values=values), origin)
    alone = ResidualBase(young.select(forecaster.spec.targets), young.start, 96, forecaster.spec.levels, 4)
    expected = alone.at(np.array([0]), np.array([299]))
    np.testing.assert_array_equal(forecaster.inputs(late)["base"].numpy(), expected)
    assert (expected[0, :, :, -1] > expected[0, :, :, 0]).all()
