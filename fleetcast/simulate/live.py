"""The simulated fleet after the end of its dataset, step by step, with scenarios that can be switched."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import UsageError
from fleetcast.simulate.episodes import Episode, Schedule
from fleetcast.simulate.scenarios import scenario_episodes
from fleetcast.simulate.simulator import SimulatedArrays, simulate_arrays
from fleetcast.simulate.spec import FleetSpec, spec_of_source
from fleetcast.simulate.truth import incident_table, maintenance_table

AHEAD = timedelta(days=1)  # simulated beyond what is asked for, so that most calls find their rows ready


class LiveFleet:
    """A simulated fleet without an end: the dataset's own rows, then what follows them.

    Scenarios add ordinary episodes; rows before a switch stay as they were. Not safe for several threads.
    """

    def __init__(self, spec: FleetSpec) -> None:
        self._dataset_spec = spec
        self._injected: list[Episode] = []
        self._schedule = Schedule(spec)
        self._arrays: SimulatedArrays | None = None

    @classmethod
    def of_dataset(cls, location: str | os.PathLike[str]) -> LiveFleet:
        """Continue a simulated dataset. Raises `DatasetError` when it is missing or was not simulated by this code."""
        return cls(spec_of_source(Dataset.open(location).manifest.source))

    @property
    def servers(self) -> tuple[str, ...]:
        """Names of the servers, by index."""
        return tuple(self._schedule.layout.name(server) for server in range(self._dataset_spec.servers))

    @property
    def end(self) -> datetime:
        """Last time stamp of the dataset that is continued, UTC."""
        return self._time(self._dataset_spec.steps - 1)

    def rows(self, first: datetime, last: datetime) -> pa.Table:
        """Samples (`sample_schema`) with first <= timestamp <= last, by server and time.

        Raises `UsageError` when `first` lies before the dataset.
        """
        begin = -((self._dataset_spec.start_seconds - int(first.timestamp())) // STEP_SECONDS)
        stop = self._step(last) + 1
        if begin < 0:
            start = self._dataset_spec.start.isoformat()
            raise UsageError(f"rows from {first.isoformat()} were asked for; the fleet starts at {start}")
        return self._simulated(stop).table(begin, max(begin, stop))

    def switch(
        self, scenario: str, at: datetime, servers: Sequence[str] | None = None, speed: float = 1.0
    ) -> tuple[str, ...]:
        """Change the scenario from the first step after `at` on; returns the servers that it strikes first.

        Trouble of the earlier scenario that has not begun is called off. `healthy` ends what is running as well, with
        an ordinary recovery; the other scenarios leave it to run its course. `speed` shortens the leads.

        Raises:
            UsageError: unknown scenario or server, a speed that is not above 0, or a cascade that cannot happen.
        """
        step = self._step(at) + 1
        added = scenario_episodes(self._schedule, scenario, step, self._indices(servers), speed)
        ended = (episode.stopped(step) for episode in self._injected)
        running = (episode for episode in self._injected if episode.start < step)
        kept = ended if scenario == "healthy" else running
        self._injected = [episode for episode in kept if episode is not None] + added
        self._arrays = None
        struck = {episode.server for episode in added if episode.start == step}
        return tuple(self._schedule.layout.name(server) for server in sorted(struck))

    def incidents(self, until: datetime) -> pa.Table:
        """Ground truth (`INCIDENTS`) of the incidents with an onset up to `until`, injected ones included."""
        schedule = self._schedule_of(self._step(until) + 1)
        natural = [episode for server in range(schedule.spec.servers) for episode in schedule.episodes(server)]
        return incident_table(schedule, [*natural, *self._injected])

    def maintenance(self, until: datetime) -> pa.Table:
        """Planned windows (`MAINTENANCE`) known at `until`: those that start up to two weeks later."""
        schedule = self._schedule_of(self._step(until) + 1)
        return maintenance_table(schedule, range(schedule.spec.servers))

    def _simulated(self, steps: int) -> SimulatedArrays:
        if self._arrays is None or self._arrays.offline.shape[1] < steps:
            schedule = self._schedule_of(steps + AHEAD // timedelta(seconds=STEP_SECONDS))
            by_server: dict[int, list[Episode]] = {}
            for episode in self._injected:
                if episode.start < schedule.spec.steps:
                    by_server.setdefault(episode.server, []).append(episode)
            self._arrays = simulate_arrays(schedule, range(schedule.spec.servers), by_server)
        return self._arrays

    def _schedule_of(self, steps: int) -> Schedule:
        """The fleet's schedule over at least so many steps; a longer one begins with the shorter one."""
        if self._schedule.spec.steps < steps:
            hours = steps * STEP_SECONDS / 3600
            self._schedule = Schedule(self._dataset_spec.model_copy(update={"hours": hours}))
        return self._schedule

    def _indices(self, servers: Iterable[str] | None) -> list[int] | None:
        if servers is None:
            return None
        known = {name: index for index, name in enumerate(self.servers)}
        wanted = list(servers)
        unknown = [name for name in wanted if name not in known]
        if unknown or not wanted:
            raise UsageError(f"unknown servers {unknown}; the fleet has {', '.join(list(known)[:5])} and so on")
        return [known[name] for name in wanted]

    def _step(self, moment: datetime) -> int:
        """The last step at or before a time."""
        return (int(moment.timestamp()) - self._dataset_spec.start_seconds) // STEP_SECONDS

    def _time(self, step: int) -> datetime:
        return datetime.fromtimestamp(self._dataset_spec.start_seconds + step * STEP_SECONDS, UTC)
