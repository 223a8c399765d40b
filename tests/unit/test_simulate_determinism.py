"""The same seed gives the same values, whatever is simulated around them."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.simulate.simulator import SimulatedArrays, simulate, simulate_arrays
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.world import World


def _arrays(spec: FleetSpec, servers: list[int] | range) -> SimulatedArrays:
    return simulate_arrays(World(spec), servers)[0]


def _assert_same(left: SimulatedArrays, right: SimulatedArrays, steps: int) -> None:
    """The servers of `right` have the same values in `left`, to the last bit."""
    rows = [left.servers.index(name) for name in right.servers]
    np.testing.assert_array_equal(left.states[rows, :steps], right.states[:, :steps])
    for name in left.values:
        np.testing.assert_array_equal(left.values[name][rows, :steps], right.values[name][:, :steps])


def test_the_same_specification_gives_the_same_tables() -> None:
    spec = FleetSpec(servers=10, hours=48, seed=21)
    first, second = simulate(spec), simulate(spec)
    for field in fields(first):
        assert getattr(first, field.name).equals(getattr(second, field.name))


def test_another_seed_gives_another_fleet() -> None:
    one, other = (simulate(FleetSpec(servers=2, hours=2, seed=seed)).table for seed in (1, 2))
    assert not one["cpu_user"].equals(other["cpu_user"])


@given(st.integers(0, 10**6), st.integers(13, 150), st.integers(1, 99), st.sampled_from([0.1, 2.0]))
@settings(max_examples=12, deadline=None)
def test_a_longer_span_begins_with_the_shorter_one(seed: int, hours: int, more: int, rate: float) -> None:
    spec = FleetSpec(servers=9, hours=hours, seed=seed, incidents_per_day=rate)
    longer = spec.model_copy(update={"hours": float(hours + more)})
    _assert_same(_arrays(longer, range(9)), _arrays(spec, range(9)), spec.steps)


@given(st.integers(0, 10**6), st.lists(st.integers(0, 24), min_size=1, max_size=6, unique=True))
@settings(max_examples=12, deadline=None)
def test_values_do_not_depend_on_the_shard(seed: int, servers: list[int]) -> None:
    spec = FleetSpec(servers=25, hours=30, seed=seed, incidents_per_day=1.0)
    _assert_same(_arrays(spec, range(25)), _arrays(spec, servers), spec.steps)


@pytest.mark.parametrize("scenario", ["healthy", "degrading", "critical", "cascade"])
def test_values_do_not_depend_on_the_rest_of_the_fleet(scenario: str) -> None:
    large = FleetSpec(servers=60, hours=48, incidents_per_day=1.0, scenario=scenario)
    whole = _arrays(large, range(60))
    for servers in (13, 25, 31, 59):  # also in the middle of a cell
        small = large.model_copy(update={"servers": servers})
        _assert_same(whole, _arrays(small, range(servers)), small.steps)
        assert simulate(small).topology.to_pylist() == [
            row for row in simulate(large, range(servers)).topology.to_pylist()
        ]


@pytest.mark.parametrize("step_hours", [1 / 12, 0.25])
def test_very_short_spans_work(step_hours: float) -> None:
    spec = FleetSpec(servers=3, hours=step_hours)
    assert simulate(spec).table.num_rows == 3 * spec.steps
