"""Calibration of a forecaster on its own past."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from fleetcast.contract.schema import INCIDENTS, MAINTENANCE, REMEDIATIONS, TOPOLOGY
from fleetcast.errors import EvaluationError, LeakageError
from fleetcast.evaluation.calibrate import fit_risk, lines_of
from fleetcast.evaluation.risk_windows import RiskWindows, risk_windows
from fleetcast.evaluation.rivals import BaselineForecaster, BaselineManifest
from fleetcast.model.baselines import BASELINES
from fleetcast.risk.calibration import Calibration
from fleetcast.windows.arrays import FleetArrays

START = datetime(2026, 1, 5, tzinfo=UTC)
STEP = timedelta(minutes=5)
STEPS, CUTOFF = 900, 800


def make_fleet() -> FleetArrays:
    """Four calm servers; the first has one incident from step 500 to 519."""
    values = np.full((4, STEPS, 1), 0.3, np.float32)
    values[0, 500:520] = 0.99
    names = ("web0", "web1", "web2", "web3")
    return FleetArrays(
        names, ("web_api",) * 4, ("cpu_utilization",), int(START.timestamp()), values, MAINTENANCE.empty_table()
    )


def make_forecaster() -> BaselineForecaster:
    manifest = BaselineManifest(("cpu_utilization",), (0.1, 0.5, 0.9), 24, START + CUTOFF * STEP)
    return BaselineForecaster("constant_quantiles", BASELINES["constant_quantiles"], manifest)


def origins(*positions: int) -> list[datetime]:
    return [START + position * STEP for position in positions]


def lines(*arguments) -> Calibration:
    return lines_of(risk_windows(*arguments))


def test_an_onset_counts_in_every_horizon_that_reaches_it():
    found = lines(make_forecaster(), make_fleet(), origins(490)).horizons
    assert {name: line.events for name, line in found.items()} == {"30m": 0, "2h": 1, "8h": 1}
    assert {line.windows for line in found.values()} == {4}


def test_servers_in_an_incident_or_in_the_hour_after_it_are_left_out():
    fleet, forecaster = make_fleet(), make_forecaster()
    for position, windows in ((499, 4), (500, 3), (510, 3), (531, 3), (532, 4)):
        assert lines(forecaster, fleet, origins(position)).horizons["8h"].windows == windows


def test_windows_without_a_sample_in_the_horizon_are_left_out():
    fleet = make_fleet()
    fleet.values[2, 601:630] = np.nan
    found = lines(make_forecaster(), fleet, origins(600)).horizons
    assert [found[name].windows for name in ("30m", "2h", "8h")] == [3, 3, 4]


def test_what_comes_after_the_cutoff_changes_nothing():
    fleet, forecaster = make_fleet(), make_forecaster()
    before = lines(forecaster, fleet, origins(490, 700))
    fleet.values[:, CUTOFF + 1 :] = 0.99
    assert lines(forecaster, fleet, origins(490, 700)) == before


def test_origins_whose_outcome_lies_after_the_cutoff_are_refused():
    fleet, forecaster = make_fleet(), make_forecaster()
    assert lines(forecaster, fleet, origins(CUTOFF - 96)).horizons["8h"].windows == 4
    with pytest.raises(LeakageError, match="96 steps before"):
        lines(forecaster, fleet, origins(CUTOFF - 95))
    with pytest.raises(EvaluationError, match="at least one"):
        lines(forecaster, fleet, [])


def test_labels_and_remediation_decide_what_is_learnt_from():
    fleet, forecaster = make_fleet(), make_forecaster()
    label = {"incident": "one", "server": "web1", "kind": "memory_leak", "cause": None}
    times = {"precursor_start": START + 600 * STEP, "onset": START + 610 * STEP, "end": START + 630 * STEP}
    labels = pa.Table.from_pylist([label | times], schema=INCIDENTS)
    acted = {"server": "web2", "start": START + 605 * STEP, "end": START + 606 * STEP}
    remediated = pa.Table.from_pylist([acted], schema=REMEDIATIONS)
    windows = risk_windows(forecaster, fleet, origins(490, 600), labels, remediated)
    known = ~np.isnan(windows.outcomes[:, 2])
    assert np.nansum(windows.outcomes[:, 2]) == 1
    assert sorted(windows.servers[known & (windows.origins == 600)].tolist()) == [0, 1, 3]
    assert windows.events == {"30m": 0, "2h": 1, "8h": 1}


def test_with_few_incidents_only_the_lines_are_fitted():
    calibration, model = fit_risk(make_forecaster(), make_fleet(), origins(490, 600))
    assert model is None
    assert not calibration.spread
    assert set(calibration.horizons) == {"30m", "2h", "8h"}


def test_some_of_the_quiet_windows_stand_for_all():
    fleet, forecaster = make_fleet(), make_forecaster()
    every = risk_windows(forecaster, fleet, origins(*range(480, 500)))
    some = risk_windows(forecaster, fleet, origins(*range(480, 500)), quiet_share=0.3)
    assert len(some.weights) < len(every.weights)
    assert np.nansum(some.outcomes[:, 2]) == np.nansum(every.outcomes[:, 2]) == 20
    assert some.weights.sum() == pytest.approx(every.weights.sum(), rel=0.35)


def test_a_dependants_window_finds_its_upstream_at_the_same_origin():
    topology = pa.Table.from_pylist([{"upstream": "web2", "downstream": "web0", "strength": 0.5}], schema=TOPOLOGY)
    windows = risk_windows(make_forecaster(), make_fleet(), origins(490, 495), quiet_share=1e-9, topology=topology)
    assert windows.servers.tolist() == [0, 2, 0, 2]
    assert (windows.weights > 0).tolist() == [True, False, True, False]
    comes = windows.arriving(np.array([0.9, 0.2, 0.9, 0.4]))
    np.testing.assert_allclose(comes.ahead[:, 0], [0.1, 0, 0.2, 0])
    joined = RiskWindows.concat([windows, windows])
    np.testing.assert_allclose(joined.arriving(np.tile([0.9, 0.2, 0.9, 0.4], 2)).ahead[:, 0], [0.1, 0, 0.2, 0] * 2)
