"""Several networks in one bundle: the forecast is the median of what each says alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.dataset.reader import Dataset
from fleetcast.errors import IncompatibleError
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.model.bundle import Bundle
from fleetcast.model.members import joined, median, member_seed, parted
from fleetcast.settings import ForecastSettings
from fleetcast.windows.arrays import FleetArrays, arrays_from_dataset
from tests.unit.test_model import bundle_of


@pytest.fixture(scope="module")
def fleet(tiny_dataset: Path) -> FleetArrays:
    return arrays_from_dataset(Dataset.open(tiny_dataset))


def bundle_of_members(count: int) -> tuple[Bundle, list[Bundle]]:
    members = [bundle_of(seed=number) for number in range(count)]
    manifest = members[0].manifest.model_copy(update={"members": count})
    return Bundle(manifest, joined([member.weights for member in members])), members


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "eager"])
@pytest.mark.parametrize("count", [2, 3])
def test_a_forecast_is_the_median_of_the_members(count: int, compiled: bool, fleet: FleetArrays) -> None:
    whole, members = bundle_of_members(count)
    settings, origin = ForecastSettings(compiled=compiled), fleet.time_at(fleet.steps - 1)
    found = Forecaster(whole, settings).forecast(fleet, origin).quantiles
    assert np.isfinite(found).any()
    each = [Forecaster(member, settings).forecast(fleet, origin).quantiles for member in members]
    np.testing.assert_allclose(found, np.median(each, axis=0), atol=1e-6)
    assert (np.nan_to_num(np.abs(found - each[0])) > 1e-4).any()


def test_a_bundle_of_members_is_read_as_it_was_written(tmp_path: Path, fleet: FleetArrays) -> None:
    whole, _ = bundle_of_members(3)
    whole.save(tmp_path / "bundle")
    origin = fleet.time_at(fleet.steps - 1)
    again = Forecaster.load(tmp_path / "bundle").forecast(fleet, origin).quantiles
    np.testing.assert_array_equal(again, Forecaster(whole).forecast(fleet, origin).quantiles)


def test_a_missing_member_is_refused() -> None:
    whole, _ = bundle_of_members(2)
    with pytest.raises(IncompatibleError, match=r"2\.transformer"):
        Forecaster(replace(whole, manifest=whole.manifest.model_copy(update={"members": 3})))


@given(seed=st.integers(0, 999), count=st.integers(1, 5))
def test_the_median_of_ascending_quantiles_ascends(seed: int, count: int) -> None:
    quantiles = list(torch.rand(count, 4, 7, generator=torch.Generator().manual_seed(seed)).sort(dim=-1).values)
    found = median(quantiles)
    assert (found.diff(dim=-1) >= 0).all()
    np.testing.assert_allclose(found, np.median(torch.stack(quantiles).numpy(), axis=0), atol=1e-6)


@given(count=st.integers(1, 12))
def test_members_come_apart_as_they_were_joined(count: int) -> None:
    members = [{"a.weight": torch.full((2,), float(number)), "b": torch.ones(1)} for number in range(count)]
    again = parted(joined(members), count)
    assert [member.keys() for member in again] == [member.keys() for member in members]
    assert [float(member["a.weight"][0]) for member in again] == list(range(count))


def test_seeds_of_members_are_their_own() -> None:
    seeds = [member_seed(seed, number) for seed in range(50) for number in range(5)]
    assert len(set(seeds)) == len(seeds)
    assert member_seed(7, 0) == 7
