"""A probable upstream is named where one goes ahead of an incident's servers, and hardly ever where none does."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from fleetcast.alerting.correlation import METRICS, STEPS, Correlator
from fleetcast.alerting.engine import AlertEngine
from fleetcast.alerting.fleet import FleetMap
from fleetcast.alerting.routing import Routing
from fleetcast.simulate.simulator import simulate_arrays
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.world import World
from fleetcast.store.engine import open_store
from tests.unit.test_alerting import SETTINGS, START, risk

Doubles = npt.NDArray[np.float64]


def fleet(servers: int, seed: int, metrics: int = 3) -> Doubles:
    """[metric, server, step]: what lasts (AR(1)), rare bursts, a drift of each server's own, a rush hour of all."""
    random = np.random.default_rng(seed)
    values = random.standard_normal((metrics, servers, STEPS))
    for step in range(1, STEPS):
        values[:, :, step] += 0.6 * values[:, :, step - 1]
    values += 8.0 * (random.random((metrics, servers, STEPS)) < 0.01)
    return np.asarray(
        values + random.normal(0, 0.05, (metrics, servers, 1)) * np.arange(STEPS)
        + 4.0 * np.sin(np.arange(STEPS) / 9.0)
    )  # fmt: skip


NAMES = [f"s{number}" for number in range(80)]


@pytest.mark.parametrize(("seed", "lag"), [(1, 1), (2, 5), (3, 9)])
def test_a_server_whose_trouble_reaches_others_later_is_named(seed: int, lag: int) -> None:
    values = fleet(80, seed)
    wave = np.zeros(STEPS)
    wave[30:34], wave[60:66] = 9.0, 9.0
    values[1, 7] += wave
    for follower in (20, 21, 22):
        values[2, follower] += np.roll(wave, lag)
    found = Correlator(NAMES, values).find(["s20", "s21", "s22"])
    assert found is not None
    assert (found.server, found.strength > 1) == ("s7", True)


def test_a_server_that_follows_is_not_named() -> None:
    values, wave = fleet(80, 4), np.zeros(STEPS)
    wave[30:34], wave[60:66] = 9.0, 9.0
    values[1, 7] += np.roll(wave, 25)
    values[2, 20] += wave
    assert Correlator(NAMES, values).find(["s20"]) is None


def test_hardly_anything_is_named_in_an_incident_free_fleet() -> None:
    """Simulated servers without incidents: of the steps, each asked about other servers, less than 1 % name anybody."""
    spec = FleetSpec(servers=100, hours=60, seed=3, incidents_per_day=0.0)
    arrays, _ = simulate_arrays(World(spec), range(100))
    values = np.stack([arrays.values[name] for name in METRICS])
    names, random, asked, named = [str(n) for n in range(100)], np.random.default_rng(0), 0, 0
    for end in range(STEPS, values.shape[2], 3):
        group = [names[row] for row in random.choice(100, random.integers(1, 9), replace=False)]
        named += Correlator(names, values[:, :, end - STEPS : end]).find(group) is not None
        asked += 1
    assert asked >= 200
    assert named / asked < 0.01


def test_what_is_not_known_names_nobody() -> None:
    values = fleet(80, 5)
    assert Correlator(NAMES, values[:, :, :50]).find(["s1"]) is None
    assert Correlator(NAMES, values).find(["elsewhere"]) is None
    assert Correlator(NAMES, np.full_like(values, np.nan)).find(["s1"]) is None
    assert Correlator(NAMES, np.full_like(values, 0.5)).find(["s1"]) is None
    assert Correlator(NAMES[:1], values[:, :1]).find(["s0"]) is None


def test_an_incident_carries_its_probable_upstream_and_says_so(tmp_path: Path) -> None:
    values, wave = fleet(80, 1), np.zeros(STEPS)
    wave[30:34], wave[60:66] = 9.0, 9.0
    values[1, 7] += wave
    for follower in (20, 21, 22):
        values[2, follower] += np.roll(wave, 4)
    rules = SETTINGS.model_copy(update={"open_after_cycles": 1})
    cells = FleetMap(edges={"s21": ["s20"], "s22": ["s20"]})
    engine = AlertEngine(open_store(f"sqlite:///{tmp_path}/a.db"), rules, Routing.default(), cells)
    risks = [risk("P1", f"s{number}") for number in (20, 21, 22)]
    opened = engine.observe(risks, START + timedelta(minutes=5), correlator=Correlator(NAMES, values)).opened
    (head,) = (alert for alert in opened if alert.parent_id is None)
    assert head.suspect == "s7"
    assert "suspect" in [event.event for event in head.timeline]
    assert all("probable upstream: s7" in note.text for note in head.notifications)
