"""The simulator: a specification and some of its servers to samples and ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.contract.schema import TIMESTAMP, sample_schema
from fleetcast.contract.states import observed_state
from fleetcast.contract.vocabulary import STATES, STEP_SECONDS, UNKNOWN, profile_codes
from fleetcast.errors import UsageError
from fleetcast.simulate.effects import effects_of
from fleetcast.simulate.episodes import Episode, Schedule
from fleetcast.simulate.physics import observe
from fleetcast.simulate.spec import FleetSpec
from fleetcast.simulate.traits import draw_traits
from fleetcast.simulate.truth import incident_table, maintenance_table, topology_table


@dataclass(frozen=True)
class SimulatedArrays:
    """Samples of some servers on the grid, in the order of their names.

    `values` holds each metric as [server, time] (float32, uptime float64), NaN where a server is offline; `states` are
    state codes [server, time]; step i is at `start` + 300 i Unix seconds.
    """

    servers: tuple[str, ...]
    profiles: tuple[str, ...]
    start: int
    values: dict[str, npt.NDArray[np.floating]]
    states: npt.NDArray[np.int8]
    offline: npt.NDArray[np.bool_]

    def table(self, first: int = 0, last: int | None = None) -> pa.Table:
        """Rows (`sample_schema`) of the steps `first` to `last` - 1, by server and time; offline steps have none."""
        there = ~self.offline[:, first:last]
        rows, columns = np.nonzero(there)
        words = pa.array([UNKNOWN, *STATES])
        return pa.table(
            {
                "server": pa.array(self.servers).take(pa.array(rows)),
                "profile": pa.array(self.profiles).take(pa.array(rows)),
                "timestamp": pa.array(self.start + STEP_SECONDS * (columns + first), pa.int64()).cast(TIMESTAMP),
                "state": words.take(pa.array(self.states[:, first:last][there])),
                **{name: pa.array(series[:, first:last][there]) for name, series in self.values.items()},
            },
            schema=sample_schema(METRIC_NAMES),
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
    schedule = Schedule(spec)
    return SimulatedShard(
        table=simulate_arrays(schedule, chosen).table(),
        incidents=incident_table(schedule, [episode for server in chosen for episode in schedule.episodes(server)]),
        maintenance=maintenance_table(schedule, chosen),
        topology=topology_table(schedule.layout, chosen),
    )


def simulate_arrays(
    schedule: Schedule, servers: Sequence[int], injected: Mapping[int, Sequence[Episode]] | None = None
) -> SimulatedArrays:
    """Samples of these servers as arrays; `injected` adds episodes to a server's own (by index)."""
    spec = schedule.spec
    outside = [server for server in servers if not 0 <= server < spec.servers]
    if outside or not servers:
        raise UsageError(f"servers {outside} are not in the fleet; give some of 0 to {spec.servers - 1}")
    ordered = sorted(servers, key=schedule.layout.name)
    extra = injected or {}
    traits = draw_traits(schedule.layout, ordered)
    episodes = [(*schedule.episodes(server), *extra.get(server, ())) for server in ordered]
    planned = [schedule.windows(server) for server in ordered]
    effects = effects_of(traits, episodes, planned, spec.steps)
    effects.offline[:, 0] = False  # a span begins with a running fleet
    values = observe(spec, ordered, traits, effects)
    stored = {name: _stored(name, series, effects.offline) for name, series in values.items()}
    maintenance = np.zeros(effects.offline.shape, dtype=bool)
    for row, windows in enumerate(planned):
        for window in windows:
            maintenance[row, window.start : window.end] = True
    times = spec.start_seconds + STEP_SECONDS * np.arange(spec.steps, dtype=np.int64)
    dense = np.moveaxis(np.stack([series.astype(np.float32) for series in stored.values()]), 0, 2)
    codes = profile_codes(traits.profiles)
    states = observed_state(dense, METRIC_NAMES, codes, times, maintenance, spec.timezone)
    names = tuple(schedule.layout.name(server) for server in ordered)
    return SimulatedArrays(names, traits.profiles, spec.start_seconds, stored, states, effects.offline)


def _stored(name: str, series: npt.NDArray[np.floating], offline: npt.NDArray[np.bool_]) -> npt.NDArray[np.floating]:
    dtype: type[np.floating] = np.float64 if name == "uptime_seconds" else np.float32
    kept: npt.NDArray[np.floating] = series.astype(dtype)
    kept[offline] = np.nan
    return kept
