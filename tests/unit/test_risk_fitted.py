"""The fitted risk model: what it may read, that a forecast alone can raise a level, and that it survives a bundle."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from fleetcast.contract.metrics import DEFAULT_TARGETS, METRIC_NAMES
from fleetcast.contract.schema import MAINTENANCE, TOPOLOGY
from fleetcast.errors import BundleError
from fleetcast.forecast.table import ForecastArrays
from fleetcast.risk.assess import assess
from fleetcast.risk.calibration import Calibration
from fleetcast.risk.features import Features, risk_features
from fleetcast.risk.judge import judge
from fleetcast.risk.learning import RiskSamples, fit_risk_model
from fleetcast.risk.limits import critical_limits
from fleetcast.risk.model import RiskModel
from fleetcast.risk.spread import Spread
from fleetcast.windows.arrays import FleetArrays

START = datetime(2026, 1, 5, tzinfo=UTC)
STEPS = 700
ORIGIN = START + (STEPS - 100) * timedelta(minutes=5)
LEVELS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
SERVERS = 300


def fleet_of(servers: int = SERVERS, seed: int = 0) -> FleetArrays:
    """Noisy servers; in every fifth memory climbs at the end."""
    values = np.abs(np.random.default_rng(seed).normal(0.3, 0.03, (servers, STEPS, len(METRIC_NAMES))))
    climb = np.linspace(0, 0.4, 160)
    values[::5, -260:-100, METRIC_NAMES.index("memory_used")] += climb
    names = tuple(f"web{number}" for number in range(servers))
    return FleetArrays(
        names, ("web_api",) * servers, METRIC_NAMES, int(START.timestamp()), values.astype(np.float32),
        MAINTENANCE.empty_table(),
    )  # fmt: skip


def forecast_of(fleet: FleetArrays, center: float = 0.3) -> ForecastArrays:
    quantiles = np.tile(center + np.linspace(-0.1, 0.1, 7, dtype=np.float32), (len(fleet.servers), 5, 96, 1))
    count = len(fleet.servers)
    return ForecastArrays(
        fleet.servers, fleet.profiles, DEFAULT_TARGETS, LEVELS, ORIGIN, quantiles, ("model",) * count, ("",) * count
    )


def features_of(fleet: FleetArrays, center: float = 0.3) -> Features:
    return risk_features(fleet, forecast_of(fleet, center), critical_limits(fleet.profiles, DEFAULT_TARGETS))


@pytest.fixture(scope="module")
def model() -> RiskModel:
    """Fitted where climbing memory means an incident four times in five."""
    fleet = fleet_of()
    found = features_of(fleet)
    climbing = np.arange(SERVERS) % 5 == 0
    happened = climbing & (np.random.default_rng(1).random(SERVERS) < 0.8)
    outcomes = np.repeat(happened[:, None].astype(float), 3, axis=1)
    tiled = [np.tile(one, (8, *([1] * (one.ndim - 1)))) for one in (found.values, outcomes)]
    samples = RiskSamples(
        found.names, found.rising, tiled[0], tiled[1], np.tile(np.arange(SERVERS), 8), np.ones(8 * SERVERS),
        {"30m": 5, "2h": 100, "8h": 100},
    )  # fmt: skip
    fitted, held_out = fit_risk_model(samples)
    assert fitted is not None
    assert np.isnan(held_out[:, 0]).all()
    return fitted


def test_a_horizon_with_few_incidents_keeps_the_line_and_says_so(model):
    fleet = fleet_of(10, seed=3)
    limits = critical_limits(fleet.profiles, DEFAULT_TARGETS)
    found = judge(forecast_of(fleet), limits, Calibration(), model, fleet)
    assert found.source == ("line", "fitted", "fitted")
    assert judge(forecast_of(fleet), limits, Calibration()).source == ("line",) * 3


def test_what_the_samples_show_is_told_although_no_threshold_is_near(model):
    fleet = fleet_of(50, seed=4)
    said = model.probabilities(features_of(fleet))[:, 2]
    assert said[::5].min() > 0.5 > said[np.arange(50) % 5 != 0].max()


def test_nothing_after_the_origin_is_read():
    fleet = fleet_of(10)
    before = features_of(fleet).values
    fleet.values[:, -99:] = 0.99
    np.testing.assert_array_equal(features_of(fleet).values, before)
    fleet.values[:, -110:-100] = 0.99
    assert not np.array_equal(features_of(fleet).values, before, equal_nan=True)


def test_servers_do_not_look_at_each_other():
    fleet = fleet_of(10)
    order = np.random.default_rng(0).permutation(10)
    np.testing.assert_array_equal(features_of(fleet.of_servers(order)).values, features_of(fleet).values[order])


def test_a_higher_forecast_never_lowers_a_probability(model):
    fleet = fleet_of(20, seed=5)
    said = [model.probabilities(features_of(fleet, center))[:, 1:] for center in np.linspace(0.1, 1.2, 12)]
    assert (np.diff(np.stack(said), axis=0) >= -1e-12).all()


@pytest.mark.parametrize("fitted_30m", [False, True])
def test_a_rising_forecast_raises_a_calm_server_to_p1_with_an_unchanged_past(model, fitted_30m):
    fleet = fleet_of(4, seed=6)
    if fitted_30m:
        model = RiskModel(model.features, {**model.horizons, "30m": model.horizons["2h"]})
    closed = np.zeros((4, 5), dtype=bool)
    calm = assess(forecast_of(fleet), closed, Calibration(), model, fleet)[1]
    steps = [assess(forecast_of(fleet, c), closed, Calibration(), model, fleet)[1] for c in np.linspace(0.3, 3.5, 30)]
    assert calm.level == "P4"
    assert steps[-1].level == "P1"
    scores = [risk.score for risk in steps]
    assert scores == sorted(scores)


def test_probabilities_grow_with_the_horizon_and_the_driver_has_the_servers_own(model):
    fleet = fleet_of(30, seed=7)
    for risk in assess(forecast_of(fleet), np.zeros((30, 5), dtype=bool), Calibration(), model, fleet):
        assert 0 <= risk.p_30m <= risk.p_2h <= risk.p_8h <= 1
        assert risk.p_8h == pytest.approx(max(risk.metric_probabilities.values()))
    climbing = assess(forecast_of(fleet), np.zeros((30, 5), dtype=bool), Calibration(), model, fleet)[5]
    assert climbing.metric == "memory_used"


def test_an_upstream_at_risk_raises_what_depends_on_it_and_nothing_else(model):
    fleet = fleet_of(10, seed=8)
    topology = pa.table(
        {"upstream": ["web5"], "downstream": ["web1"], "strength": pa.array([0.9], pa.float32())}, schema=TOPOLOGY
    )
    limits, spread = critical_limits(fleet.profiles, DEFAULT_TARGETS), {"8h": Spread(reach=0.8)}
    alone = judge(forecast_of(fleet), limits, Calibration(spread=spread), model, fleet).server[:, 2]
    joined = judge(forecast_of(fleet), limits, Calibration(spread=spread), model, fleet, topology).server[:, 2]
    changed = np.abs(joined - alone) > 1e-9
    assert changed.tolist() == [number == 1 for number in range(10)]
    assert joined[1] > alone[1]


def test_a_fleet_that_never_had_one_of_the_forecast_metrics_is_judged_all_the_same(model):
    whole = fleet_of(10)
    kept = [METRIC_NAMES.index(name) for name in METRIC_NAMES if name != "filesystem_used"]
    names = tuple(METRIC_NAMES[place] for place in kept)
    fleet = replace(whole, metrics=names, values=whole.values[:, :, kept])
    topology = pa.table(
        {"upstream": ["web5"], "downstream": ["web1"], "strength": pa.array([0.9], pa.float32())}, schema=TOPOLOGY
    )
    limits = critical_limits(fleet.profiles, DEFAULT_TARGETS)
    judged = judge(forecast_of(fleet), limits, Calibration(spread={"8h": Spread(reach=0.8)}), model, fleet, topology)
    assert np.isfinite(judged.server).all()


def test_a_model_survives_its_text_and_a_damaged_text_is_one_clear_line(model):
    found = features_of(fleet_of(10))
    again = RiskModel.loads(model.dumps())
    np.testing.assert_array_equal(again.probabilities(found), model.probabilities(found))
    for text in ("{", model.dumps().replace('"format":1', '"format":9'), model.dumps()[:-20]):
        with pytest.raises(BundleError, match="risk model"):
            RiskModel.loads(text)
