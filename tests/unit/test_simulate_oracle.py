"""The oracle: fair futures from the latent state, exact where nothing is random, and never the future that comes."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pyarrow.compute as pc
import pytest

from fleetcast.contract.metrics import DEFAULT_TARGETS
from fleetcast.contract.schema import forecast_schema
from fleetcast.contract.vocabulary import QUANTILE_LEVELS
from fleetcast.errors import UsageError
from fleetcast.simulate.oracle import INCIDENT_STEPS, OracleForecast, oracle_forecast
from fleetcast.simulate.simulator import SimulatedArrays, simulate_arrays, simulate_episodes
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.world import World

SPEC = FleetSpec(servers=50, hours=24 * 8, seed=31, incidents_per_day=0.4)
HORIZON = 96


def _origins(spec: FleetSpec, count: int, first_hours: float = 30, every_hours: float = 11) -> list[datetime]:
    return [spec.start + timedelta(hours=first_hours + every_hours * number) for number in range(count)]


def _truth(arrays: SimulatedArrays, spec: FleetSpec, origins: list[datetime]) -> np.ndarray:
    """Values [origin, server, metric, step] that came."""
    steps = [int((origin - spec.start).total_seconds()) // 300 + 1 for origin in origins]
    values = np.stack([arrays.values[name] for name in DEFAULT_TARGETS], axis=1)
    return np.stack([values[:, :, step : step + HORIZON] for step in steps])


@pytest.fixture(scope="module")
def arrays() -> SimulatedArrays:
    return simulate_arrays(World(SPEC), range(SPEC.servers))[0]


@pytest.fixture(scope="module")
def forecast() -> OracleForecast:
    return oracle_forecast(SPEC, range(SPEC.servers), _origins(SPEC, 12), samples=128)


def _in_order(forecast: OracleForecast, arrays: SimulatedArrays) -> list[int]:
    return [arrays.servers.index(name) for name in forecast.servers]


def test_without_noise_the_oracle_is_the_future() -> None:
    spec = FleetSpec(servers=25, hours=72, noise=0, incidents_per_day=0)
    origins = _origins(spec, 3)
    found = oracle_forecast(spec, range(25), origins, samples=8)
    arrays = simulate_arrays(World(spec), range(25))[0]
    truth = _truth(arrays, spec, origins)[:, _in_order(found, arrays)]
    known = ~np.isnan(truth)
    assert known.mean() > 0.9
    for level in range(len(found.levels)):
        np.testing.assert_array_equal(found.quantiles[..., level][known], truth[known])
    assert (found.quantile_error == 0).all()
    assert (found.probability == 0).all()


def test_it_knows_the_waves_of_a_scenario_as_the_clock_does() -> None:
    spec = FleetSpec(servers=25, hours=30, noise=0, incidents_per_day=0, scenario="critical", scenario_after=10)
    found = oracle_forecast(spec, range(25), [spec.start + timedelta(hours=9)], samples=8)
    struck = simulate_episodes(World(spec), range(25))
    first = spec.first_step + 9 * 12
    soon = struck[struck["full"] & (struck["onset"] > first) & (struck["onset"] <= first + 96) & (struck["cause"] < 0)]
    names = {World(spec).layout.name(int(server)) for server in soon["server"]}
    assert len(names) >= 5
    assert {name for name, said in zip(found.servers, found.probability[0, :, 2], strict=True) if said == 1} >= names


def test_its_bands_cover_what_they_promise(forecast: OracleForecast, arrays: SimulatedArrays) -> None:
    truth = _truth(arrays, SPEC, _origins(SPEC, 12))[:, _in_order(forecast, arrays)]
    known = ~np.isnan(truth)
    for low, high, promised in ((1, 5, 0.8), (2, 4, 0.5), (0, 6, 0.96)):
        inside = (truth >= forecast.quantiles[..., low]) & (truth <= forecast.quantiles[..., high])
        assert inside[known].mean() == pytest.approx(promised, abs=0.03)


def test_its_probabilities_are_those_of_what_happens(forecast: OracleForecast) -> None:
    episodes = simulate_episodes(World(SPEC), range(SPEC.servers))
    struck = episodes[episodes["full"]]
    names = {World(SPEC).layout.name(server): server for server in range(SPEC.servers)}
    for column, within in enumerate(INCIDENT_STEPS):
        happened = np.zeros(forecast.probability.shape[:2], bool)
        for number, origin in enumerate(forecast.origins // 300):
            ahead = struck[(struck["onset"] > origin) & (struck["onset"] <= origin + within)]
            happened[number] = [names[name] in set(ahead["server"]) for name in forecast.servers]
        said = forecast.probability[..., column]
        spread = np.sqrt((said * (1 - said)).sum())
        assert abs(said.sum() - happened.sum()) < 3 * spread + 1  # servers of a cascade go together
        if happened.any():
            assert said[happened].mean() > 3 * said[~happened].mean()


def test_the_monte_carlo_error_shrinks_with_the_root_of_the_samples() -> None:
    servers, origins = list(range(9)), _origins(SPEC, 2)
    few = oracle_forecast(SPEC, servers, origins, samples=64)
    many = oracle_forecast(SPEC, servers, origins, samples=1024)
    median = QUANTILE_LEVELS.index(0.5)
    ratio = few.quantile_error[..., median].mean() / many.quantile_error[..., median].mean()
    assert 3 < ratio < 5.3  # sqrt(1024 / 64) = 4
    gap = np.abs(few.quantiles - many.quantiles)[..., median]
    error = np.hypot(few.quantile_error, many.quantile_error)[..., median]
    assert (gap < 4 * error + 1e-6).mean() > 0.98
    assert many.probability_error.max() < few.probability_error.max()


def test_it_knows_nothing_of_what_comes(forecast: OracleForecast) -> None:
    """A longer span, other servers beside it: the same answer. And no future that it draws is the one that comes."""
    alone = oracle_forecast(
        SPEC.model_copy(update={"hours": 1.0, "servers": 10}), [3, 7], _origins(SPEC, 12), samples=128
    )
    rows = [forecast.servers.index(name) for name in alone.servers]
    np.testing.assert_array_equal(forecast.quantiles[:, rows], alone.quantiles)
    np.testing.assert_array_equal(forecast.probability[:, rows], alone.probability)


def test_the_real_future_is_never_drawn(arrays: SimulatedArrays) -> None:
    origin = _origins(SPEC, 1)
    found = oracle_forecast(SPEC, [0], origin, samples=8, horizon=4, levels=(0.0, 1.0), metrics=["cpu_user"])
    name = World(SPEC).layout.name(0)
    step = int((origin[0] - SPEC.start).total_seconds()) // 300 + 1
    truth = arrays.values["cpu_user"][arrays.servers.index(name), step : step + 4]
    assert not np.isin(truth, found.quantiles[0, 0, 0]).any()


def test_its_table_is_a_forecast_table(forecast: OracleForecast) -> None:
    table = forecast.table()
    assert table.schema == forecast_schema(QUANTILE_LEVELS)
    assert table.num_rows == 12 * 50 * len(DEFAULT_TARGETS) * HORIZON
    assert pc.unique(table["source"]).to_pylist() == ["oracle"]
    ahead = pc.subtract(table["timestamp"].cast("int64"), table["origin"].cast("int64"))
    assert pc.all(pc.equal(ahead, pc.multiply(table["step"].cast("int64"), 300))).as_py()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"samples": 12}, "samples is 12"),
        ({"horizon": 0}, "horizon 0"),
        ({"metrics": ["uptime_seconds"]}, "uptime_seconds"),
        ({"origins": []}, "origins"),
        ({"origins": [SPEC.start - timedelta(hours=1)]}, "before the fleet's start"),
        ({"servers": [99]}, "not in the fleet"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, object], told: str) -> None:
    given = {"servers": [0], "origins": _origins(SPEC, 1), "samples": 8, **wrong}
    with pytest.raises(UsageError, match=told):
        oracle_forecast(SPEC, **given)  # type: ignore[arg-type]
