"""A fleet that does not send one of the model's targets is forecast all the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from fleetcast.dataset.reader import Dataset
from fleetcast.forecast.explain import explain
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.risk.cycle import Watch
from fleetcast.windows.arrays import FleetArrays, arrays_from_dataset
from serve_app.cycle import _assess, _snapshot
from serve_app.forecaster import describe
from serve_app.snapshot import for_model
from serve_app.trends import trends
from tests.unit.test_model import bundle_of


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    return Forecaster(bundle_of())


def without(fleet: FleetArrays, names: set[str]) -> FleetArrays:
    kept = [name for name in fleet.metrics if name not in names]
    return replace(fleet, metrics=tuple(kept), values=fleet.select(kept))


def test_a_target_that_nobody_sends_has_no_forecast_and_the_others_have_theirs(
    tiny_dataset: Path, forecaster: Forecaster
) -> None:
    whole = arrays_from_dataset(Dataset.open(tiny_dataset))
    origin: datetime = whole.time_at(whole.steps - 1)
    targets = forecaster.manifest.targets
    poor = for_model(without(whole, {targets[0]}), targets, "UTC")
    found = forecaster.forecast(poor, origin)
    assert "model" in found.sources
    assert np.isnan(found.quantiles[:, 0]).all()
    assert np.isfinite(found.quantiles[[source == "model" for source in found.sources], 1:]).any()
    reasons = {row["reason"] for row in found.to_table().to_pylist() if row["metric"] == targets[0]}
    assert "no recent sample of this metric" in reasons
    model = describe(forecaster)
    risks, _ = _assess(poor, found, model, Watch(), None)
    assert {risk.metric for risk in risks} <= {*targets[1:], None}
    snapshot = _snapshot(poor, found, risks, model)
    assert np.isnan(snapshot.latest[:, snapshot.metrics.index(targets[0])]).all()
    first = next(row for row, source in enumerate(found.sources) if source == "model")
    explained = explain(forecaster, poor, poor.servers[first], origin)
    assert explained.server == poor.servers[first]
    assert set(trends(poor, targets[0]).profiles.popitem()[1].mean) == {None}


def test_a_fleet_that_sends_none_of_them_has_no_forecast_and_no_error(
    tiny_dataset: Path, forecaster: Forecaster
) -> None:
    whole = arrays_from_dataset(Dataset.open(tiny_dataset))
    poor = for_model(without(whole, set(forecaster.manifest.targets)), forecaster.manifest.targets, "UTC")
    found = forecaster.forecast(poor, whole.time_at(whole.steps - 1))
    assert set(found.sources) == {"none"}
    risks, _ = _assess(poor, found, describe(forecaster), Watch(), None)
    assert {risk.p_8h for risk in risks} == {None}
