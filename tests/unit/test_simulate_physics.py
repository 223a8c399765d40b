"""What is possible on a server, over random fleets: the metrics agree with each other and with the states."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.contract.metrics import DEFAULT_TARGETS
from fleetcast.contract.thresholds import threshold
from fleetcast.contract.validate import validate
from fleetcast.contract.vocabulary import STATES, STEP_SECONDS, STEPS_PER_HOUR, state_names
from fleetcast.simulate.episode_steps import CLEAN_UP
from fleetcast.simulate.simulator import SimulatedArrays, simulate, simulate_arrays
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.world import World
from fleetcast.windows.arrays import arrays_from_table

FLEETS = st.builds(
    FleetSpec,
    servers=st.integers(1, 12),
    hours=st.integers(6, 96),
    seed=st.integers(0, 2**63 - 1),
    incidents_per_day=st.sampled_from([0.0, 0.1, 2.0]),
)
random_fleets = settings(max_examples=15, deadline=None)


def _arrays(spec: FleetSpec) -> SimulatedArrays:
    return simulate_arrays(World(spec), range(spec.servers))[0]


@given(FLEETS)
@random_fleets
def test_every_row_fits_the_contract(spec: FleetSpec) -> None:
    table = simulate(spec).table
    assert validate(table).quarantined_rows == 0
    for column in table.columns:
        assert column.null_count == 0


@given(FLEETS)
@random_fleets
def test_cpu_modes_add_up_to_the_utilisation(spec: FleetSpec) -> None:
    values = _arrays(spec).values
    total = values["cpu_user"] + values["cpu_system"] + values["cpu_iowait"]
    np.testing.assert_allclose(total, values["cpu_utilization"], atol=1e-6)
    assert np.nanmax(values["cpu_utilization"]) <= 1.0


@given(FLEETS)
@random_fleets
def test_filesystems_fill_monotonically_and_fall_only_at_clean_ups(spec: FleetSpec) -> None:
    arrays = _arrays(spec)
    used = arrays.values["filesystem_used"]
    falls = np.diff(used) < 0
    assert not (falls & ((arrays.flags[:, 1:] & CLEAN_UP) == 0)).any()


@given(FLEETS)
@random_fleets
def test_uptime_counts_and_resets_only_after_steps_without_samples(spec: FleetSpec) -> None:
    arrays = _arrays(spec)
    for uptime in arrays.values["uptime_seconds"]:
        change = np.diff(uptime)
        assert set(change[~np.isnan(change)]) <= {float(STEP_SECONDS)}
        back = np.isnan(uptime[:-1]) & ~np.isnan(uptime[1:])
        assert (uptime[1:][back] == STEP_SECONDS / 2).all()


@given(FLEETS)
@random_fleets
def test_stored_states_are_those_of_the_state_function(spec: FleetSpec) -> None:
    shard, arrays = simulate(spec), _arrays(spec)
    fleet = arrays_from_table(shard.table, spec.start, maintenance=shard.maintenance, timezone=spec.timezone)
    steps = fleet.steps  # trailing offline steps have no rows
    assert fleet.servers == arrays.servers
    np.testing.assert_array_equal(fleet.states(), arrays.states[:, :steps])


@given(st.integers(0, 2**63 - 1))
@settings(max_examples=8, deadline=None)
def test_a_fleet_without_incidents_is_never_critical(seed: int) -> None:
    spec = FleetSpec(servers=25, hours=168, seed=seed, incidents_per_day=0)
    shard = simulate(spec)
    assert shard.incidents.num_rows == 0
    assert "critical_issue" not in shard.table["state"].unique().to_pylist()


def test_healthy_servers_sit_near_the_baselines_of_their_profile() -> None:
    arrays = _arrays(FleetSpec(servers=100, hours=48, incidents_per_day=0))  # two trading days
    means = {
        (profile, name): np.nanmean(arrays.values[name][np.array(arrays.profiles) == profile])
        for profile in ("ml_compute", "database", "web_api", "risk_analytics")
        for name in ("cpu_user", "memory_used", "load1_per_core", "filesystem_used")
    }
    assert means["database", "cpu_user"] == pytest.approx(0.25, rel=0.2)
    assert means["web_api", "cpu_user"] == pytest.approx(0.18, rel=0.2)
    assert means["ml_compute", "memory_used"] == pytest.approx(0.72, abs=0.05)
    assert means["risk_analytics", "load1_per_core"] == pytest.approx(1.0, rel=0.2)
    assert means["database", "filesystem_used"] == pytest.approx(0.70, abs=0.06)


def _troubled(seed: int = 5) -> tuple[World, SimulatedArrays, npt.NDArray[np.void]]:
    world = World(FleetSpec(servers=50, hours=240, seed=seed, incidents_per_day=0.5))
    arrays, episodes = simulate_arrays(world, range(world.spec.servers))
    return world, arrays, episodes


def test_labelled_incidents_can_be_observed_and_hardly_any_others() -> None:
    world, arrays, episodes = _troubled()
    first, steps = world.spec.first_step, world.spec.steps
    critical = np.zeros(arrays.states.shape, dtype=bool)
    for name in DEFAULT_TARGETS:
        for row, profile in enumerate(arrays.profiles):
            limit = threshold(name, profile)
            assert limit is not None
            critical[row] |= np.nan_to_num(arrays.values[name][row]) >= limit.critical
    labelled = np.zeros_like(critical)
    seen = total = 0
    for one in episodes:
        row = arrays.servers.index(world.layout.name(int(one["server"])))
        start, onset, end = (int(one[name]) - first for name in ("start", "onset", "end"))
        labelled[row, max(0, start) : end + 6] = True
        if one["full"] and onset + STEPS_PER_HOUR <= steps:
            total += 1
            seen += int(np.convolve(critical[row, onset:end], np.ones(3), "valid").max() == 3) if end > onset else 0
    assert total > 100
    assert seen / total > 0.93
    assert (critical & ~labelled).sum() < 0.02 * critical.sum()


@given(st.integers(0, 2**63 - 1))
@settings(max_examples=6, deadline=None)
def test_states_last_for_minutes_to_hours(seed: int) -> None:
    words = state_names(_arrays(FleetSpec(servers=50, hours=336, seed=seed)).states)
    dwell: dict[str, list[int]] = {}
    for row in words:
        edges = np.flatnonzero(np.concatenate([[True], row[1:] != row[:-1], [True]]))
        for begin, end in itertools.pairwise(edges):
            dwell.setdefault(str(row[begin]), []).append(int(end - begin))
    assert set(STATES) - {"idle"} <= set(dwell) <= set(STATES)
    for state in ("healthy", "heavy_load", "critical_issue", "recovery"):
        assert np.median(dwell[state]) >= STEPS_PER_HOUR / 2
        assert np.mean(np.array(dwell[state]) == 1) < 0.15  # of one step


def test_states_never_contradict_the_metrics() -> None:
    arrays = _arrays(FleetSpec(servers=25, hours=168, incidents_per_day=1.0))
    words = state_names(arrays.states)
    assert (np.isnan(arrays.values["cpu_utilization"]) == (words == "offline")).all()
    assert (arrays.values["cpu_utilization"][words == "idle"] < 0.07).all()
    heavy = (words == "heavy_load") | (words == "morning_spike")
    busy = (arrays.values["cpu_utilization"] >= 0.5) | (arrays.values["load1_per_core"] >= np.float32(0.85))
    assert busy[heavy].all()


def test_fleet_wide_shocks_hit_many_servers_at_once() -> None:
    spec = FleetSpec(servers=50, hours=480, incidents_per_day=0)
    world = World(spec)
    _, shock = world.shared(world.fleet_state(), spec.first_step, spec.steps)
    jumps = np.flatnonzero(np.diff(shock) > 0.2) + 1
    assert 2 <= len(jumps) <= 30
    demand = simulate_arrays(world, range(50))[0].values["network_receive_bytes"]
    rise = np.nanmedian(
        [demand[:, jump : jump + 6].mean(axis=1) / demand[:, jump - 6 : jump].mean(axis=1) for jump in jumps], axis=0
    )
    web = np.array(_arrays(spec).profiles) == "web_api"
    assert np.nanmedian(rise[web]) > 1.1


def test_without_noise_the_days_repeat() -> None:
    arrays = _arrays(
        FleetSpec(servers=9, hours=72, noise=0, incidents_per_day=0, start=datetime(2026, 1, 13, 5, tzinfo=UTC))
    )
    tuesday, _, thursday = np.split(arrays.values["cpu_utilization"], 3, axis=1)
    np.testing.assert_allclose(tuesday[:, 12:-12], thursday[:, 12:-12], rtol=1e-3)
