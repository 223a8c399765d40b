"""An explanation comes from the model: its weights, its attention, and the model run again on edited samples."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from fleetcast.contract.vocabulary import STEPS_PER_DAY
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import UsageError
from fleetcast.forecast.attribution import attribute
from fleetcast.forecast.counterfactual import counterfactual, recent, reforecast
from fleetcast.forecast.drivers import rank_drivers
from fleetcast.forecast.edits import Edit, Shift, apply_edits
from fleetcast.forecast.explain import explain
from fleetcast.forecast.explain_figure import explanation_figure
from fleetcast.forecast.explanation import Explanation
from fleetcast.forecast.forecaster import Forecaster
from fleetcast.windows.arrays import FleetArrays, arrays_from_dataset
from tests.unit.test_model import bundle_of

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module", params=["tiny", "reference"])
def forecaster(request: pytest.FixtureRequest) -> Forecaster:
    return Forecaster(bundle_of(request.param))


@pytest.fixture(scope="module")
def fleet(tiny_dataset: Path) -> FleetArrays:
    """Servers without gaps, so that the model forecasts all of them."""
    found = arrays_from_dataset(Dataset.open(tiny_dataset))
    values = found.values.copy()
    gaps = np.isnan(values).all(axis=2)
    values[gaps] = 0.4
    return replace(found, values=values)


def cpu(fleet: FleetArrays) -> int:
    return fleet.metrics.index("cpu_utilization")


def test_weights_are_what_the_library_interprets(forecaster: Forecaster, fleet: FleetArrays) -> None:
    """Names and numbers: the library's own reading of the network's output, averaged over tokens."""
    history = forecaster.history(fleet.of_servers([2]), fleet.time_at(fleet.steps - 1))
    found = attribute(forecaster, history)
    network = forecaster.networks[0].transformer
    with torch.inference_mode():
        told = network.interpret_output(network(forecaster.inputs(history), attention=True), reduction="sum")
    for kind, names in (
        ("static", network.static_variables),
        ("encoder", network.encoder_variables),
        ("decoder", network.decoder_variables),
    ):
        weights = getattr(found, kind)
        assert list(weights.values()) == sorted(weights.values(), reverse=True)
        assert sum(weights.values()) == pytest.approx(1, abs=1e-4)
        assert set(names) == set(getattr(forecaster.manifest.network, f"{kind}_reals")) | set(
            getattr(forecaster.manifest.network, f"{kind}_categoricals", ())
        )
        wanted = dict(zip(names, told[f"{kind}_variables"].tolist(), strict=True))
        assert weights == pytest.approx(wanted, abs=1e-5)


def test_attention_is_told_in_time(forecaster: Forecaster, fleet: FleetArrays) -> None:
    origin = fleet.time_at(fleet.steps - 1)
    found = attribute(forecaster, forecaster.history(fleet.of_servers([0]), origin))
    assert sum(span.share for span in found.past) + found.ahead == pytest.approx(1, abs=1e-4)
    assert found.past[-1].end == origin
    assert found.past[0].first_step == 1 - forecaster.spec.context
    assert tuple(span.steps for span in found.past) == forecaster.spec.pools
    for before, after in zip(found.past, found.past[1:], strict=False):
        assert before.last_step + 1 == after.first_step
    for span in found.past:
        assert span.start == origin + timedelta(minutes=5 * span.first_step)
        assert span.end == origin + timedelta(minutes=5 * span.last_step)


def test_opposite_histories_give_different_answers(forecaster: Forecaster, fleet: FleetArrays) -> None:
    origin = fleet.time_at(fleet.steps - 1)
    high, low = (
        counterfactual(
            forecaster, fleet, fleet.servers[0], origin, [recent("cpu_utilization", origin, 6, to)], leads=(1, 96)
        )
        for to in (0.95, 0.02)
    )
    pairs = [(up, down) for up, down in zip(high.changes, low.changes, strict=True) if up.target == "cpu_utilization"]
    assert [up.lead for up, _ in pairs] == [1, 96]
    median = high.levels.index(0.5)
    assert pairs[0][0].difference[median] > 0.05 + pairs[0][1].difference[median]
    for up, down in pairs:
        assert up.before == down.before
        assert up.difference != down.difference
        for change in (up, down):
            np.testing.assert_allclose(change.difference, np.subtract(change.after, change.before), atol=1e-6)


def test_opposite_histories_have_opposite_drivers(fleet: FleetArrays) -> None:
    """What has just risen drives the peak up; what has just fallen holds it down."""
    forecaster, origin = Forecaster(bundle_of()), fleet.time_at(fleet.steps - 1)
    effects = []
    for level in (0.95, 0.0):
        values = fleet.values.copy()
        values[0, :-48, cpu(fleet)] = 0.4
        values[0, -48:, cpu(fleet)] = level
        target = rank_drivers(forecaster, replace(fleet, values=values), fleet.servers[0], origin)[0]
        effects.append({driver.metric: driver.effect for driver in target.drivers}["cpu_utilization"])
    assert effects[0] > 0 > effects[1]


@pytest.mark.parametrize("to", ["day_before", "usual", "median", 0.25])
def test_a_counterfactual_that_changes_nothing_differs_by_nothing(
    forecaster: Forecaster, fleet: FleetArrays, to: str | float
) -> None:
    values = fleet.values.copy()
    values[:, :, cpu(fleet)] = 0.25
    same, origin = replace(fleet, values=values), fleet.time_at(fleet.steps - 1)
    found = counterfactual(forecaster, same, fleet.servers[0], origin, [recent("cpu_utilization", origin, 3, to)])
    assert found.edited == 0
    assert found.changes
    assert all(value == 0 for change in found.changes for value in change.difference)


def test_a_counterfactual_is_the_forecast_of_the_edited_samples(forecaster: Forecaster, fleet: FleetArrays) -> None:
    """Untrained base, scales and states follow: it is as if these samples had come."""
    origin = fleet.time_at(fleet.steps - 1)
    edited = fleet.values.copy()
    edited[0, -36:, cpu(fleet)] = edited[0, -36 - STEPS_PER_DAY : -STEPS_PER_DAY, cpu(fleet)]
    wanted = forecaster.forecast(replace(fleet, values=edited), origin)
    edits = [recent("cpu_utilization", origin, 3, "day_before")]
    found = reforecast(forecaster, fleet, fleet.servers[0], origin, [edits])
    np.testing.assert_allclose(found.quantiles[0], wanted.quantiles[0], atol=1e-5)
    np.testing.assert_allclose(found.forecast.quantiles, forecaster.forecast(fleet, origin).quantiles[:1], atol=1e-5)


def test_planned_maintenance_holds_in_a_counterfactual_too(fleet: FleetArrays) -> None:
    forecaster, name = Forecaster(bundle_of()), fleet.servers[0]
    end = fleet.time_at(fleet.steps - 1)
    row = {field.name: None for field in fleet.maintenance.schema}
    row |= {"server": name, "start": end + timedelta(hours=1), "end": end + timedelta(hours=3)}
    planned = replace(fleet, maintenance=fleet.maintenance.schema.empty_table().from_pylist([row]))
    cases = [[recent("cpu_utilization", end, 1, 0.9)]]
    with_plan, without = (reforecast(forecaster, one, name, end, cases).quantiles for one in (planned, fleet))
    assert not np.array_equal(with_plan, without)


def test_edits_read_the_samples_as_they_came(fleet: FleetArrays) -> None:
    forecaster, origin = Forecaster(bundle_of()), fleet.time_at(fleet.steps - 1)
    values = fleet.values[:1].copy()
    values[0, -1, cpu(fleet)] = np.nan
    values[0, -2 - STEPS_PER_DAY, cpu(fleet)] = np.nan
    history = forecaster.history(replace(fleet.of_servers([0]), values=values), origin)
    found = apply_edits(history, [recent("cpu_utilization", origin, 1, "day_before")], origin)[0, :, cpu(fleet)]
    series = history.values[0, :, cpu(fleet)]
    assert np.isnan(found[-1]), "no sample is invented"
    assert found[-2] == series[-2], "where nothing came a day before the sample stays"
    np.testing.assert_array_equal(found[-12:-2], series[-12 - STEPS_PER_DAY : -2 - STEPS_PER_DAY])
    np.testing.assert_array_equal(found[:-12], series[:-12])
    usual = apply_edits(history, [recent("cpu_utilization", origin, 1, "usual")], origin)[0, -3, cpu(fleet)]
    assert usual == np.nanmedian(series[-3 - STEPS_PER_DAY :: -STEPS_PER_DAY])


def test_a_shift_moves_what_was_and_stays_within_the_hard_range(fleet: FleetArrays) -> None:
    forecaster, origin = Forecaster(bundle_of()), fleet.time_at(fleet.steps - 1)
    values = fleet.values[:1].copy()
    values[0, -4:, cpu(fleet)] = (0.05, 0.5, np.nan, 0.9)
    history = forecaster.history(replace(fleet.of_servers([0]), values=values), origin)
    for by, wanted in ((-0.2, (0.0, 0.3, np.nan, 0.7)), (0.0, (0.05, 0.5, np.nan, 0.9))):
        found = apply_edits(history, [recent("cpu_utilization", origin, 4 / 12, Shift(by=by))], origin)
        np.testing.assert_allclose(found[0, -4:, cpu(fleet)], wanted, atol=1e-6)
        np.testing.assert_array_equal(found[0, :-4], history.values[0, :-4])
    edit = recent("cpu_utilization", origin, 1, Shift(by=-0.2))
    assert Edit.model_validate_json(edit.model_dump_json()) == edit


def test_what_cannot_be_edited_is_refused_in_one_line(forecaster: Forecaster, fleet: FleetArrays) -> None:
    origin = fleet.time_at(fleet.steps - 20)
    late, early = origin + timedelta(minutes=5), origin - timedelta(days=9)
    for edit, told in (
        (Edit(metric="cpu_utilization", first=origin, last=late, to=0.1), "after the origin"),
        (Edit(metric="cpu_utilization", first=early, last=origin, to=0.1), "begins before"),
        (Edit(metric="cpu_utilization", first=origin, last=origin - timedelta(minutes=5), to=0.1), "ends before"),
        (Edit(metric="cpu_utilization", first=origin.replace(tzinfo=None), last=origin, to=0.1), "time zone"),
        (Edit(metric="cpu_utilization", first=origin, last=origin, to=-1.0), "cannot be -1"),
        (Edit(metric="cpu_utilization", first=origin, last=origin, to=float("nan")), "cannot be nan"),
        (Edit(metric="fan_speed", first=origin, last=origin, to=0.1), "cannot edit fan_speed"),
    ):
        with pytest.raises(UsageError, match=told):
            counterfactual(forecaster, fleet, fleet.servers[0], origin, [edit])
    with pytest.raises(UsageError, match="nobody"):
        explain(forecaster, fleet, "nobody", origin)
    with pytest.raises(UsageError, match="horizon"):
        counterfactual(forecaster, fleet, fleet.servers[0], origin, [], leads=(97,))


def test_an_explanation_ranks_drivers_and_reads_nothing_after_the_origin(
    forecaster: Forecaster, fleet: FleetArrays
) -> None:
    origin = fleet.time_at(fleet.steps - 30)
    found = explain(forecaster, fleet, fleet.servers[3], origin)
    assert (found.source, found.server, found.profile) == ("model", fleet.servers[3], fleet.profiles[3])
    assert [target.target for target in found.drivers] == list(forecaster.spec.targets)
    forecast = forecaster.forecast(fleet, origin)
    for column, target in enumerate(found.drivers):
        path = forecast.quantiles[3, column, :, forecast.levels.index(0.9)]
        assert target.peak == pytest.approx(path.max(), abs=1e-5)
        sizes = [abs(driver.effect) for driver in target.drivers]
        assert sizes == sorted(sizes, reverse=True)
        for driver in target.drivers:
            assert driver.effect == pytest.approx(target.peak - driver.without, abs=1e-6)
    changed = fleet.values.copy()
    changed[:, -29:] = np.float32(0.9)
    assert explain(forecaster, replace(fleet, values=changed), fleet.servers[3], origin) == found
    assert Explanation.model_validate_json(found.model_dump_json()) == found


def test_a_fallback_says_that_the_model_did_not_make_it(forecaster: Forecaster, fleet: FleetArrays) -> None:
    values = fleet.values.copy()
    values[0, -8:] = np.nan
    values[1] = np.nan
    gappy, origin = replace(fleet, values=values), fleet.time_at(fleet.steps - 1)
    fallback, none = (explain(forecaster, gappy, name, origin) for name in fleet.servers[:2])
    assert (fallback.source, none.source) == ("fallback", "none")
    assert "model did not make this forecast" in fallback.note
    assert "no sample for 40 min" in fallback.note
    assert "no forecast" in none.note
    for one in (fallback, none):
        assert one.weights is None
        assert one.drivers == ()
        assert explanation_figure(one).startswith(b"\x89PNG")


def test_a_target_without_samples_has_neither_drivers_nor_changes(fleet: FleetArrays) -> None:
    forecaster = Forecaster(bundle_of())
    values = fleet.values.copy()
    values[0, :, fleet.metrics.index("memory_used")] = np.nan
    gappy, origin = replace(fleet, values=values), fleet.time_at(fleet.steps - 1)
    found = explain(forecaster, gappy, fleet.servers[0], origin)
    assert [target.target for target in found.drivers] == ["cpu_utilization"]
    edits = [recent("cpu_utilization", origin, 1, 0.9)]
    changes = counterfactual(forecaster, gappy, fleet.servers[0], origin, edits).changes
    assert {change.target for change in changes} == {"cpu_utilization"}


def test_the_figure_shows_attention_and_drivers(fleet: FleetArrays) -> None:
    found = explain(Forecaster(bundle_of()), fleet, fleet.servers[0], fleet.time_at(fleet.steps - 1))
    assert explanation_figure(found).startswith(b"\x89PNG")
