"""The simulator: a specification and some of its servers to samples and ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.contract.schema import TIMESTAMP, sample_schema
from fleetcast.contract.states import observed_state
from fleetcast.contract.vocabulary import PROFILES, STATES, STEP_SECONDS, UNKNOWN, profile_codes
from fleetcast.errors import UsageError
from fleetcast.simulate.actions import between
from fleetcast.simulate.dirt import lost
from fleetcast.simulate.episode_steps import MAINTENANCE, NO_SAMPLE
from fleetcast.simulate.gather import blank_runs, gather_runs, kept_runs
from fleetcast.simulate.layout import CELL_SERVERS
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.truth import finished_episodes, incident_table, maintenance_table, topology_table
from fleetcast.simulate.waves import fleet_inputs
from fleetcast.simulate.world import Cell, Run, World

_WORDS = pa.array([UNKNOWN, *STATES])


@dataclass(frozen=True)
class SimulatedArrays:
    """Samples of some servers on the grid.

    `values` holds each metric as [server, time] (float32, uptime float64), NaN where a server has no sample; `states`
    are state codes [server, time]; `flags` bits of `episode_steps` (ground truth); `indices` are the servers' in the
    fleet; step i is at `start` + 300 i Unix seconds.
    """

    servers: tuple[str, ...]
    indices: tuple[int, ...]
    profiles: tuple[str, ...]
    start: int
    values: dict[str, npt.NDArray[np.floating]]
    states: npt.NDArray[np.int8]
    flags: npt.NDArray[np.uint8]

    @property
    def offline(self) -> npt.NDArray[np.bool_]:
        """Where a server has no sample, [server, time]."""
        return np.asarray((self.flags & NO_SAMPLE) != 0)

    def table(self, first: int = 0, last: int | None = None) -> pa.Table:
        """Rows (`sample_schema`) of the steps `first` to `last` - 1, by server and time; offline steps have none."""
        return self.encoded(first, last).cast(sample_schema(METRIC_NAMES))

    def encoded(self, first: int = 0, last: int | None = None) -> pa.Table:
        """The same rows with the words dictionary-encoded, as they are written to Parquet."""
        begins, ends = kept_runs(self.flags[:, first:last])
        steps = self.flags[:, first:last].shape[1]
        counts = np.zeros(len(self.servers), np.int64)
        np.add.at(counts, begins // max(steps, 1), ends - begins)
        owners = np.repeat(np.arange(len(self.servers), dtype=np.int32), counts)
        kinds = np.array([PROFILES.index(profile) for profile in self.profiles], np.int32)
        times = np.tile(self.start + STEP_SECONDS * (np.arange(steps) + first), len(self.servers))
        return pa.table(
            {
                "server": pa.DictionaryArray.from_arrays(pa.array(owners), pa.array(self.servers)),
                "profile": pa.DictionaryArray.from_arrays(pa.array(kinds[owners]), pa.array(PROFILES)),
                "timestamp": pa.array(gather_runs(times, begins, ends)).view(TIMESTAMP),
                "state": pa.DictionaryArray.from_arrays(
                    pa.array(gather_runs(self.states[:, first:last], begins, ends)), _WORDS
                ),
                **{
                    name: pa.array(gather_runs(series[:, first:last], begins, ends))
                    for name, series in self.values.items()
                },
            }
        )


@dataclass(frozen=True)
class SimulatedShard:
    """Some servers of a fleet: samples (`sample_schema`), `INCIDENTS`, `MAINTENANCE` and `TOPOLOGY`."""

    table: pa.Table
    incidents: pa.Table
    maintenance: pa.Table
    topology: pa.Table


def simulate(spec: FleetSpec, servers: Sequence[int] | None = None) -> SimulatedShard:
    """Simulate the servers with these indices (all by default).

    The rows of a server are the same whatever other servers are asked for with it, and those of a longer span begin
    with those of a shorter one. Raises `UsageError` for an index outside the fleet.
    """
    chosen = range(spec.servers) if servers is None else servers
    arrays, episodes = simulate_arrays(World(spec), chosen)
    return SimulatedShard(arrays.table(), *truth_tables(World(spec), chosen, episodes))


def simulate_arrays(world: World, servers: Sequence[int]) -> tuple[SimulatedArrays, npt.NDArray[np.void]]:
    """Samples of these servers as arrays, in the order of their names, and all their episodes (records `EPISODE`)."""
    spec = world.spec
    cells = cells_of(world, servers)
    shared = world.shared(world.fleet_state(), spec.first_step, spec.steps)
    inputs = fleet_inputs(spec)
    runs, episodes = [], []
    for cell in cells:
        run = world.run(cell, spec.first_step, spec.steps, shared, inputs=between(inputs, spec.first_step, spec.steps))
        runs.append(run)
        episodes.append(finished_episodes(world, cell, run.episodes, spec.first_step + spec.steps, inputs))
    return arrays_of(world, cells, runs, spec.first_step), np.concatenate(episodes)


def simulate_episodes(world: World, servers: Sequence[int]) -> npt.NDArray[np.void]:
    """All episodes of these servers (records `EPISODE`), without their samples."""
    spec, found = world.spec, []
    for cell in cells_of(world, servers):
        inputs = fleet_inputs(spec)
        _, episodes = world.events(
            cell, spec.first_step, spec.steps, inputs=between(inputs, spec.first_step, spec.steps)
        )
        found.append(finished_episodes(world, cell, episodes, spec.first_step + spec.steps, inputs))
    return np.concatenate(found)


def truth_tables(
    world: World, servers: Sequence[int], episodes: npt.NDArray[np.void]
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """`INCIDENTS`, `MAINTENANCE` and `TOPOLOGY` of these servers."""
    end = world.spec.first_step + world.spec.steps
    return (
        incident_table(world.layout, episodes, end),
        maintenance_table(world.layout, servers, end),
        topology_table(world.layout, servers),
    )


def cells_of(world: World, servers: Sequence[int]) -> list[Cell]:
    """The servers by cell, each cell's in the order of their names. Raises `UsageError` for one outside the fleet."""
    outside = [server for server in servers if not 0 <= server < world.spec.servers]
    if outside or not servers:
        raise UsageError(f"servers {outside} are not in the fleet; give some of 0 to {world.spec.servers - 1}")
    cells = [list(found) for _, found in groupby(sorted(servers), key=lambda server: server // CELL_SERVERS)]
    return [world.cell(sorted(found, key=world.layout.name)) for found in cells]


def arrays_of(world: World, cells: Sequence[Cell], runs: Sequence[Run], first: int) -> SimulatedArrays:
    """What several cells' runs gave, as one, by the servers' names. `first` is the first step of the runs."""
    layout = world.layout
    indices = [int(server) for cell in cells for server in cell.servers[cell.rows]]
    names = [layout.name(server) for server in indices]
    values, uptime, flags = runs[0].values, runs[0].uptime, runs[0].flags
    if len(runs) > 1:
        order = sorted(range(len(names)), key=lambda place: names[place])
        values = np.concatenate([run.values for run in runs], axis=1)[:, order]
        uptime = np.concatenate([run.uptime for run in runs])[order]
        flags = np.concatenate([run.flags for run in runs])[order]
        names, indices = [names[place] for place in order], [indices[place] for place in order]
    if world.spec.dirt:
        gone = lost(world.spec.seed, indices, first, flags.shape[1], world.spec.dirt)
        flags = flags | np.where(gone, np.uint8(NO_SAMPLE), np.uint8(0))
    values[-1] = uptime
    blank_runs(flags, values, uptime)
    profiles = tuple(layout.profile(server) for server in indices)
    states = observed_state(
        np.moveaxis(values, 0, 2),
        METRIC_NAMES,
        profile_codes(profiles),
        STEP_SECONDS * (first + np.arange(flags.shape[1], dtype=np.int64)),
        (flags & MAINTENANCE) != 0,
        world.spec.timezone,
    )
    stored: dict[str, npt.NDArray[np.floating]] = dict(zip(METRIC_NAMES, values, strict=True))
    stored[METRIC_NAMES[-1]] = uptime
    return SimulatedArrays(tuple(names), tuple(indices), profiles, first * STEP_SECONDS, stored, states, flags)
