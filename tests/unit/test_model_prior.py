"""A young server's bands: its profile's spread at first, its own in the end."""

import numpy as np
import pytest

from fleetcast.model.base import ResidualBase
from fleetcast.model.prior import OWN_STEPS, FleetSpread, YoungBase, blended

LEVELS = (0.1, 0.5, 0.9)
METRIC = ("cpu_utilization",)
HORIZON = 24


def walks(servers: int, steps: int, spread: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0.5, spread, (servers, steps, 1))
    return noise.astype(np.float32)


@pytest.fixture(scope="module")
def fitted() -> FleetSpread:
    values = np.concatenate([walks(20, 900, 0.02), walks(20, 900, 0.1, 1)])
    return FleetSpread.fit(values, ("generic",) * 20 + ("database",) * 20, METRIC, HORIZON, LEVELS)


def test_a_server_of_an_hour_has_its_profiles_band_and_it_holds_what_it_says(fitted):
    spread = fitted.of(("database", "generic"), METRIC, HORIZON)
    assert spread.shape == (2, HORIZON, 1, 3)
    width = spread[:, :, 0, 2] - spread[:, :, 0, 0]
    assert (width[0] > 3 * width[1]).all()
    values = walks(200, 12 + HORIZON, 0.1, 2)
    base = YoungBase(ResidualBase(values, 0, HORIZON, LEVELS, 8), fitted.of(("database",) * 200, METRIC, HORIZON))
    found = base.at(np.arange(200), np.full(200, 11))
    truth = values[:, 12:]
    inside = (truth >= found[..., 0]) & (truth <= found[..., 2])
    assert 0.75 < inside.mean() < 0.85


def test_a_profile_that_training_did_not_see_has_the_fleets_band(fitted):
    spread = fitted.of(("web_api",), METRIC, HORIZON)
    both = fitted.of(("generic", "database"), METRIC, HORIZON)
    assert both[0, 0, 0, 2] < spread[0, 0, 0, 2] < both[1, 0, 0, 2]


def test_an_old_server_has_its_own_band_alone(fitted):
    steps = OWN_STEPS + 2 * HORIZON
    values = walks(3, steps, 0.02, 3)
    own = ResidualBase(values, 0, HORIZON, LEVELS, 8)
    young = YoungBase(own, fitted.of(("database",) * 3, METRIC, HORIZON))
    rows, ends = np.arange(3), np.full(3, steps - 1)
    np.testing.assert_array_equal(young.at(rows, ends), own.at(rows, ends))


def test_the_weight_of_the_own_past_grows_with_it():
    own, spread = np.ones((HORIZON, 1, 3), np.float32), np.zeros((HORIZON, 1, 3), np.float32)
    found = [blended(own, np.zeros(1, np.float32), spread, age)[:, 0, 0] for age in range(0, OWN_STEPS + HORIZON, 40)]
    assert (np.diff(np.stack(found), axis=0) >= 0).all()
    assert found[0].max() == 0


def test_it_survives_the_manifest(fitted):
    assert FleetSpread.model_validate_json(fitted.model_dump_json()) == fitted
