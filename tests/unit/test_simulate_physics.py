"""What is possible on a server, over random fleets: the metrics agree with each other and with the states."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.contract.metrics import DEFAULT_TARGETS
from fleetcast.contract.thresholds import threshold
from fleetcast.contract.validate import validate
from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_HOUR, state_names
from fleetcast.simulate.episodes import Schedule
from fleetcast.simulate.simulator import SimulatedArrays, simulate, simulate_arrays
from fleetcast.simulate.spec import FleetSpec
from fleetcast.windows.arrays import arrays_from_table

FLEETS = st.builds(
    FleetSpec,
    servers=st.integers(1, 12),
    hours=st.integers(6, 96),
    seed=st.integers(0, 2**63 - 1),
    incidents_per_day=st.sampled_from([0.0, 0.1, 3.0]),
)
random_fleets = settings(max_examples=15, deadline=None)


def _arrays(spec: FleetSpec) -> SimulatedArrays:
    return simulate_arrays(Schedule(spec), range(spec.servers))


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
def test_filesystems_fill_and_fall_only_at_clean_ups(spec: FleetSpec) -> None:
    schedule, arrays = Schedule(spec), _arrays(spec)
    index = {schedule.layout.name(server): server for server in range(spec.servers)}
    for row, name in enumerate(arrays.servers):
        used = arrays.values["filesystem_used"][row]
        change = np.diff(used[~np.isnan(used)])
        clean_ups = 1 + change[change > 0].sum() / 0.06 + len(schedule.episodes(index[name]))
        assert (change < 0).sum() <= clean_ups


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
    arrays = _arrays(FleetSpec(servers=100, hours=120, incidents_per_day=0))
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


def test_traffic_drives_cpu_network_and_connections_together() -> None:
    arrays = _arrays(FleetSpec(servers=25, hours=120, incidents_per_day=0))
    for row in np.flatnonzero(np.array(arrays.profiles) == "web_api"):
        kept = ~np.isnan(arrays.values["cpu_user"][row])
        cpu = arrays.values["cpu_user"][row][kept]
        for name in ("network_receive_bytes", "network_transmit_bytes", "tcp_close_wait", "load1_per_core"):
            assert np.corrcoef(cpu, arrays.values[name][row][kept])[0, 1] > 0.6


def _troubled() -> tuple[Schedule, SimulatedArrays]:
    spec = FleetSpec(servers=50, hours=240, seed=5, incidents_per_day=0.5)
    schedule = Schedule(spec)
    return schedule, simulate_arrays(schedule, range(spec.servers))


def _of_kind(schedule: Schedule, arrays: SimulatedArrays, kind: str) -> list[tuple[int, int, int, int]]:
    """(row, start, onset, end) of the incidents of a kind that lie within the span by themselves."""
    found = []
    for server in range(schedule.spec.servers):
        row = arrays.servers.index(schedule.layout.name(server))
        episodes = schedule.episodes(server)
        for one in episodes:
            apart = all(other is one or other.end + 60 < one.start or one.end + 60 < other.start for other in episodes)
            if (
                one.kind.name == kind
                and one.strikes
                and apart
                and one.start > 60
                and one.end + 60 < schedule.spec.steps
            ):
                found.append((row, one.start, one.onset, one.end))
    return found


def _mean(series: npt.NDArray[np.floating], first: int, last: int) -> float:
    return float(np.nanmean(series[first:last]))


def test_a_memory_leak_climbs_swaps_and_is_over_after_a_restart() -> None:
    schedule, arrays = _troubled()
    leaks = [leak for leak in _of_kind(schedule, arrays, "memory_leak") if leak[2] > leak[1]]
    assert leaks
    for row, start, onset, end in leaks:
        memory, swap = arrays.values["memory_used"][row], arrays.values["swap_used"][row]
        middle = (start + onset) // 2
        assert _mean(memory, start - 12, start) < _mean(memory, middle, onset) < _mean(memory, onset, end)
        assert _mean(swap, onset + 3, end) > 0.2 + _mean(swap, start - 12, start)
        assert memory[end] < _mean(memory, start - 12, start)
        assert abs(_mean(memory, end + 48, end + 60) - _mean(memory, start - 12, start)) < 0.1


def test_waiting_for_disks_raises_iowait_load_and_disk_time_together() -> None:
    schedule, arrays = _troubled()
    found = _of_kind(schedule, arrays, "io_saturation")
    assert found
    for row, start, onset, end in found:
        for name, rise in (("cpu_iowait", 1.5), ("load1_per_core", 1.5), ("disk_io_time", 1.2)):
            series = arrays.values[name][row]
            assert _mean(series, onset + 2, end) > rise * _mean(series, start - 12, start)


def test_labelled_incidents_can_be_observed_and_hardly_any_others() -> None:
    schedule, arrays = _troubled()
    critical = np.zeros(arrays.states.shape, dtype=bool)
    for name in DEFAULT_TARGETS:
        for row, profile in enumerate(arrays.profiles):
            limit = threshold(name, profile)
            assert limit is not None
            critical[row] |= np.nan_to_num(arrays.values[name][row]) >= limit.critical
    labelled = np.zeros_like(critical)
    seen = total = 0
    for server in range(schedule.spec.servers):
        row = arrays.servers.index(schedule.layout.name(server))
        for episode in schedule.episodes(server):
            if not episode.strikes or episode.onset + STEPS_PER_HOUR > schedule.spec.steps:
                continue
            impact = critical[row, episode.onset : episode.end]
            total += 1
            seen += int(np.convolve(impact, np.ones(3), "valid").max() == 3)
            labelled[row, max(0, episode.start) : episode.end + 6] = True
    assert total > 100
    assert seen / total > 0.93
    assert (critical & ~labelled).sum() < 0.02 * critical.sum()


def test_states_last() -> None:
    """States last minutes to hours, not seconds: few steps change the state."""
    arrays = _arrays(FleetSpec(servers=25, hours=168))
    words = state_names(arrays.states)
    assert (words[:, 1:] != words[:, :-1]).mean() < 0.1
    assert {"healthy", "heavy_load", "morning_spike", "critical_issue", "recovery", "maintenance"} <= set(words.ravel())
