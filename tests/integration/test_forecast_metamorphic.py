"""What may not change the forecasts of a trained model, and what must."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fleetcast.dataset.reader import Dataset
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.forecast.table import MODEL
from fleetcast.windows.arrays import FleetArrays, arrays_from_dataset
from tests.conftest import TINY_HOLDOUT_HOURS

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

BACK = [0, 7, 12 * (TINY_HOLDOUT_HOURS - 8)]  # steps from the end of the data to the origin
TIMES = ("start", "end")
ROUNDING = 1e-5  # a server's place in a batch may change the last bits


@pytest.fixture(scope="module")
def forecaster(tiny_bundle: Path) -> Forecaster:
    return Forecaster.load(tiny_bundle)


@pytest.fixture(scope="module")
def fleet(tiny_dataset: Path) -> FleetArrays:
    """The simulated servers as they are, gaps included."""
    return arrays_from_dataset(Dataset.open(tiny_dataset))


@pytest.fixture(params=BACK)
def index(request: pytest.FixtureRequest, fleet: FleetArrays) -> int:
    return fleet.steps - 1 - int(request.param)


def shifted(fleet: FleetArrays, span: timedelta) -> FleetArrays:
    """The same samples and plans at another time."""
    moved = {name: [None if t is None else t + span for t in fleet.maintenance[name].to_pylist()] for name in TIMES}
    maintenance = fleet.maintenance
    for name, values in moved.items():
        place = maintenance.schema.get_field_index(name)
        field = maintenance.schema.field(place)
        maintenance = maintenance.set_column(place, field, pa.array(values, field.type))
    return replace(fleet, start=fleet.start + int(span.total_seconds()), maintenance=maintenance)


def test_the_model_forecasts_most_servers(forecaster: Forecaster, fleet: FleetArrays, index: int) -> None:
    """So that the tests below are about the model."""
    assert forecaster.forecast(fleet, fleet.time_at(index)).sources.count(MODEL) >= 7


def test_nothing_after_the_origin_changes_a_forecast(forecaster: Forecaster, fleet: FleetArrays, index: int) -> None:
    origin, generator = fleet.time_at(index), np.random.default_rng(0)
    later = np.concatenate([fleet.values, fleet.values[:, -200:]], axis=1)
    later[:, index + 1 :] = generator.random(later[:, index + 1 :].shape) * 4
    later[generator.random(later.shape[:2]) < 0.3, :] = np.nan
    later[:, : index + 1] = fleet.values[:, : index + 1]
    before, after = forecaster.forecast(fleet, origin), forecaster.forecast(replace(fleet, values=later), origin)
    np.testing.assert_array_equal(before.quantiles, after.quantiles)
    assert (before.sources, before.reasons) == (after.sources, after.reasons)


def test_permuted_servers_have_permuted_forecasts(forecaster: Forecaster, fleet: FleetArrays, index: int) -> None:
    origin, order = fleet.time_at(index), np.random.default_rng(1).permutation(len(fleet.servers))
    straight = forecaster.forecast(fleet, origin).of_servers(order)
    permuted = forecaster.forecast(fleet.of_servers(order), origin)
    assert (permuted.servers, permuted.sources) == (straight.servers, straight.sources)
    np.testing.assert_allclose(permuted.quantiles, straight.quantiles, atol=ROUNDING)


def test_more_servers_change_nobodys_forecast(forecaster: Forecaster, fleet: FleetArrays, index: int) -> None:
    """Neither wild, nor silent ones, nor so many that they come in several batches."""
    origin, count = fleet.time_at(index), len(fleet.servers)
    wild = fleet.values[:4] * np.array([0, 1, 4, np.nan], np.float32)[:, None, None]
    values = np.concatenate([fleet.values, *[wild] * 80])
    names = (*fleet.servers, *(f"extra{number:03d}" for number in range(len(values) - count)))
    profiles = (*fleet.profiles, *("mainframe",) * (len(values) - count))
    larger = replace(fleet, servers=names, profiles=profiles, values=values)
    found, wanted = forecaster.forecast(larger, origin), forecaster.forecast(fleet, origin)
    assert found.sources[:count] == wanted.sources
    np.testing.assert_allclose(found.quantiles[:count], wanted.quantiles, atol=ROUNDING)


def test_the_same_samples_weeks_later_have_the_same_forecast(
    forecaster: Forecaster, fleet: FleetArrays, index: int
) -> None:
    origin, span = fleet.time_at(index), timedelta(weeks=3)  # all in winter time
    before, after = forecaster.forecast(fleet, origin), forecaster.forecast(shifted(fleet, span), origin + span)
    assert after.origin == before.origin + span
    np.testing.assert_array_equal(before.quantiles, after.quantiles)


def test_another_weekday_or_hour_has_another_forecast(forecaster: Forecaster, fleet: FleetArrays, index: int) -> None:
    origin = fleet.time_at(index)
    before = forecaster.forecast(fleet, origin)
    for span in (timedelta(days=3), timedelta(hours=12)):
        moved = forecaster.forecast(shifted(fleet, span), origin + span)
        assert moved.sources == before.sources
        assert np.nanmax(np.abs(moved.quantiles - before.quantiles)) > ROUNDING


def test_a_plan_ahead_is_read_and_one_beyond_the_horizon_is_not(forecaster: Forecaster, fleet: FleetArrays) -> None:
    """Planned maintenance is the only future that a forecast knows."""
    origin = fleet.time_at(fleet.steps - 1)

    def planned(hours: float) -> FleetArrays:
        row: dict[str, str | datetime | None] = dict.fromkeys(fleet.maintenance.schema.names)
        row |= {"server": fleet.servers[0], "start": origin + timedelta(hours=hours)}
        row |= {"end": origin + timedelta(hours=hours + 2)}
        return replace(fleet, maintenance=pa.Table.from_pylist([row], schema=fleet.maintenance.schema))

    near, far = (forecaster.forecast(planned(hours), origin).quantiles for hours in (1, 9))
    none = forecaster.forecast(replace(fleet, maintenance=fleet.maintenance.schema.empty_table()), origin).quantiles
    np.testing.assert_array_equal(far, none)
    np.testing.assert_array_equal(near[1:], none[1:])
    assert not np.array_equal(near[0], none[0], equal_nan=True)
