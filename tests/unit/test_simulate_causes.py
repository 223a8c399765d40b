"""What an incident does, over random fleets: each is compared with the same fleet without incidents.

Random numbers are keyed by seed, server and time, so the difference of the twins is the incident alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_HOUR
from fleetcast.simulate.episode_steps import MAINTENANCE
from fleetcast.simulate.kinds import KIND_NAMES
from fleetcast.simulate.simulator import SimulatedArrays, simulate_arrays
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.world import World

SEEDS = st.integers(0, 2**63 - 1)
random_fleets = settings(max_examples=8, deadline=None)
APART = 60  # steps without another incident before and after
DAY = 24 * STEPS_PER_HOUR  # at the end of the span; what begins there may not be known to its end

# What rises together in the impact of a kind, by at least so much in the contract's units.
IMPACT = {
    "memory_leak": {"memory_used": 0.1, "swap_used": 0.15, "cpu_iowait": 0.03, "major_page_faults": 100},
    "disk_fill": {"filesystem_used": 0.05, "disk_io_time": 0.01},
    "cpu_runaway": {"cpu_utilization": 0.05, "cpu_user": 0.05, "load1_per_core": 1.0},
    "io_saturation": {"cpu_iowait": 0.2, "disk_io_time": 0.1, "load1_per_core": 1.5},
    "connection_leak": {"tcp_close_wait": 150, "memory_used": 0.05, "load1_per_core": 2.0},
    "traffic_surge": {
        "network_receive_bytes": 5e7,
        "network_transmit_bytes": 5e7,
        "tcp_close_wait": 50,
        "cpu_utilization": 0.05,
        "load1_per_core": 1.0,
    },
    "network_saturation": {"network_receive_bytes": 1e8, "network_transmit_bytes": 1e8, "cpu_system": 0.1},
    "thermal_throttling": {"cpu_utilization": 0.05, "load1_per_core": 1.5},
    "scheduler_stall": {"load1_per_core": 2.0, "memory_used": 0.1},
    "lag_growth": {"cpu_iowait": 0.2, "network_receive_bytes": 2e7, "load1_per_core": 1.5},
    "noisy_neighbour": {"cpu_utilization": 0.1, "load1_per_core": 1.5, "cpu_iowait": 0.02},
    "upstream_stall": {"load1_per_core": 2.0, "tcp_close_wait": 100, "cpu_utilization": 0.02},
}


@dataclass(frozen=True)
class Twins:
    """A fleet and the same fleet without incidents, with the first one's episodes."""

    world: World
    arrays: SimulatedArrays
    calm: SimulatedArrays
    episodes: npt.NDArray[np.void]

    def effect(self, metric: str, row: int) -> npt.NDArray[np.floating]:
        return self.arrays.values[metric][row] - self.calm.values[metric][row]

    def incidents(self, kind: str) -> Iterator[tuple[int, int, int, int]]:
        """(row, start, onset, end) of those that are by themselves, within the span, not in maintenance."""
        first, steps = self.world.spec.first_step, self.world.spec.steps
        chosen = self.episodes["full"] & (self.episodes["kind"] == KIND_NAMES.index(kind))
        for one in self.episodes[chosen]:
            row = self.arrays.servers.index(self.world.layout.name(int(one["server"])))
            start, onset, end = (int(one[name]) - first for name in ("start", "onset", "end"))
            others = self.episodes[(self.episodes["server"] == one["server"]) & (self.episodes != one)]
            apart = ((others["end"] - first + APART < start) | (others["start"] - first > end + APART)).all()
            planned = (self.arrays.flags[row, max(0, start - APART) : end + APART] & MAINTENANCE).any()
            if apart and not planned and start > APART and end + APART < steps - DAY:
                yield row, start, onset, end


def twins(seed: int) -> Twins:
    spec = FleetSpec(servers=50, hours=240, seed=seed, incidents_per_day=0.5)
    world, servers = World(spec), range(spec.servers)
    arrays, episodes = simulate_arrays(world, servers)
    calm, _ = simulate_arrays(World(spec.model_copy(update={"incidents_per_day": 0.0})), servers)
    return Twins(world, arrays, calm, episodes)


def mean(series: npt.NDArray[np.floating], first: int, last: int) -> float:
    """Of the steps with a sample; NaN where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(np.nanmean(series[first:last]))


def test_every_kind_but_the_hardware_has_an_impact_here() -> None:
    assert set(IMPACT) == set(KIND_NAMES) - {"hardware_failure"}


@pytest.mark.parametrize("kind", IMPACT)
@given(seed=SEEDS)
@random_fleets
def test_a_cause_moves_its_metrics_together_and_not_before_it_begins(kind: str, seed: int) -> None:
    fleet = twins(seed)
    for row, start, onset, end in fleet.incidents(kind):
        for metric, least in IMPACT[kind].items():
            effect = fleet.effect(metric, row)
            rise = mean(effect, onset + 2, end)
            assert not rise <= least  # an impact that no sample saw is NaN
            if metric not in ("filesystem_used", "memory_used"):  # an earlier clean-up or restart still shows there
                assert not mean(np.abs(effect), start - 12, start) > 1e-3
                assert not mean(np.abs(effect), end + 48, end + 60) > 1e-3


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("memory_leak", "memory_used"),
        ("connection_leak", "tcp_close_wait"),
        ("disk_fill", "filesystem_used"),
        ("io_saturation", "cpu_iowait"),
        ("lag_growth", "cpu_iowait"),
    ],
)
@given(seed=SEEDS)
@random_fleets
def test_a_precursor_climbs_before_the_onset(kind: str, metric: str, seed: int) -> None:
    fleet = twins(seed)
    for row, start, onset, end in fleet.incidents(kind):
        if onset >= start + 12:
            effect = fleet.effect(metric, row)
            middle = (start + onset) // 2
            steps = [mean(effect, start, middle), mean(effect, middle, onset), mean(effect, onset + 2, end)]
            known = [step for step in steps if not np.isnan(step)]
            assert known == sorted(known)


@given(seed=SEEDS)
@random_fleets
def test_a_leak_ends_with_the_restart_that_frees_its_memory(seed: int) -> None:
    fleet = twins(seed)
    for row, _, _, end in fleet.incidents("memory_leak"):
        effect = fleet.effect("memory_used", row)
        assert not effect[end] > 0
        assert not abs(mean(effect, end + 48, end + APART)) > 0.01


@given(seed=SEEDS)
@random_fleets
def test_broken_hardware_is_gone_until_it_boots(seed: int) -> None:
    fleet = twins(seed)
    for row, _, _, end in fleet.incidents("hardware_failure"):
        assert fleet.arrays.offline[row, end]
        back = end + int(np.argmin(fleet.arrays.offline[row, end:]))
        assert 3 <= back - end <= 24
        assert fleet.arrays.values["uptime_seconds"][row, back] == STEP_SECONDS / 2


@given(seed=SEEDS)
@random_fleets
def test_cpu_connections_and_load_follow_the_traffic(seed: int) -> None:
    """On servers that live from it; on the others batch work hides it."""
    spec = FleetSpec(servers=25, hours=120, seed=seed, incidents_per_day=0)
    arrays, _ = simulate_arrays(World(spec), range(spec.servers))
    for row in np.flatnonzero(np.isin(arrays.profiles, ["web_api", "data_ingest"])):
        kept = ~arrays.offline[row]
        traffic = arrays.values["network_receive_bytes"][row][kept]
        for name in ("network_transmit_bytes", "tcp_close_wait", "cpu_user", "load1_per_core"):
            assert np.corrcoef(traffic, arrays.values[name][row][kept])[0, 1] > 0.4
