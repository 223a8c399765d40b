"""The simulated fleet after the end of its dataset, step by step, with scenarios and remediation as inputs."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fleetcast.contract.metrics import METRIC_NAMES
from fleetcast.contract.schema import sample_schema
from fleetcast.contract.vocabulary import STEP_SECONDS, STEPS_PER_DAY
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import UsageError
from fleetcast.simulate.actions import END_FORCED, FORCE, INPUT, Action, between
from fleetcast.simulate.simulator import SimulatedArrays, arrays_of, cells_of
from fleetcast.simulate.spec import FleetSpec, spec_of_source
from fleetcast.simulate.truth import finished_episodes, incident_table, maintenance_table
from fleetcast.simulate.waves import fleet_inputs, scenario_inputs
from fleetcast.simulate.world import Cell, Run, World

DAY = STEPS_PER_DAY
LOOK_BACK = 6  # steps before a row that its state depends on
KEPT_DAYS = 16  # days whose values are kept; earlier ones are made again when they are asked for


@dataclass(frozen=True)
class _Moment:
    """The latent state of the fleet before a day: one array of records a cell, and the shared one."""

    cells: tuple[npt.NDArray[np.void], ...]
    shared: npt.NDArray[np.void]


class LiveFleet:
    """A simulated fleet without an end: the dataset's own rows, then what follows them.

    Scenarios and remediation are inputs at a step: what comes after it changes, what was before stays as it was. Not
    safe for several threads.
    """

    def __init__(self, spec: FleetSpec) -> None:
        self._spec = spec
        self._world = World(spec)
        self._cells = cells_of(self._world, range(spec.servers))
        self._inputs = fleet_inputs(spec)
        self._moments = [_Moment(tuple(cell.state.copy() for cell in self._cells), self._world.fleet_state())]
        self._episodes: list[npt.NDArray[np.void]] = []
        self._runs: OrderedDict[int, list[Run]] = OrderedDict()

    @classmethod
    def of_dataset(cls, location: str | os.PathLike[str]) -> LiveFleet:
        """Continue a simulated dataset. Raises `DatasetError` when it is missing or was not simulated by this code."""
        return cls(spec_of_source(Dataset.open(location).manifest.source))

    @property
    def servers(self) -> tuple[str, ...]:
        """Names of the servers, by index."""
        return tuple(self._world.layout.name(server) for server in range(self._spec.servers))

    @property
    def end(self) -> datetime:
        """Last time stamp of the dataset that is continued, UTC."""
        return datetime.fromtimestamp((self._spec.first_step + self._spec.steps - 1) * STEP_SECONDS, UTC)

    def rows(self, first: datetime, last: datetime) -> pa.Table:
        """Samples (`sample_schema`) with first <= timestamp <= last, by server and time.

        Raises `UsageError` when `first` lies before the dataset.
        """
        begin = -(-int(first.timestamp()) // STEP_SECONDS) - self._spec.first_step
        stop = _step(last) + 1 - self._spec.first_step
        if begin < 0:
            start = self._spec.start.isoformat()
            raise UsageError(f"rows from {first.isoformat()} were asked for; the fleet starts at {start}")
        if stop <= begin:
            return sample_schema(METRIC_NAMES).empty_table()
        look_back = min(begin, LOOK_BACK)
        return self._arrays(begin - look_back, stop).table(look_back)

    def switch(
        self, scenario: str, at: datetime, servers: Sequence[str] | None = None, speed: float = 1.0
    ) -> tuple[str, ...]:
        """Change the scenario from the first step after `at` on; returns the servers that it strikes first.

        Trouble of the earlier scenario that has not begun is called off. `healthy` ends what is running as well, with
        an ordinary recovery; the other scenarios leave it to run its course. `speed` shortens the leads.

        Raises:
            UsageError: unknown scenario or server, a speed that is not above 0, or a cascade that cannot happen.
        """
        step = self._after(at)
        added = scenario_inputs(self._world.layout, scenario, step, self._indices(servers), speed, at_least=3)
        if scenario == "healthy":
            ends = [(step, server, END_FORCED, 0, 0) for server in range(self._spec.servers)]
            added = np.array(ends, INPUT)
        begun = self._inputs[(self._inputs["step"] < step) | (self._inputs["code"] < FORCE)]
        self._give(np.concatenate([begun, added]), step)
        struck = {int(one["server"]) for one in added if one["step"] == step and one["code"] != END_FORCED}
        return tuple(self._world.layout.name(server) for server in sorted(struck))

    def act(self, action: Action, servers: Sequence[str], at: datetime, value: float = 1.0) -> None:
        """Remediation on servers at the first step after `at`; what `value` means stands beside each action.

        Raises:
            UsageError: an unknown server, or a `value` that is not above 0.
        """
        if not value > 0:
            raise UsageError(f"value is {value:g}; give a number above 0")
        step = self._after(at)
        given = [(step, server, int(action), 0, value) for server in self._indices(servers) or []]
        self._give(np.concatenate([self._inputs, np.array(given, INPUT)]), step)

    def incidents(self, until: datetime) -> pa.Table:
        """Ground truth (`INCIDENTS`) of the incidents with an onset up to `until`, forced ones included."""
        last = _step(until) + 1
        day = self._advance(max(0, last - 1 - self._spec.first_step) // DAY)
        found = self._episodes[: day + 1]
        end = self._spec.first_step + (day + 1) * DAY
        for cell, state in zip(self._cells, self._moments[day + 1].cells, strict=True):
            found.append(finished_episodes(self._world, _at(cell, state), found[0][:0], end, self._inputs))
        return incident_table(self._world.layout, np.concatenate(found), last)

    def maintenance(self, until: datetime) -> pa.Table:
        """Planned windows (`MAINTENANCE`) known at `until`: those that start up to two weeks later."""
        return maintenance_table(self._world.layout, range(self._spec.servers), _step(until) + 1)

    def _give(self, inputs: npt.NDArray[np.void], step: int) -> None:
        """Set the inputs, which are as they were before `step`, and forget what was simulated from that day on."""
        self._inputs = inputs
        day = max(0, step - self._spec.first_step) // DAY
        del self._moments[day + 1 :], self._episodes[day:]
        for later in [number for number in self._runs if number >= day]:
            del self._runs[later]

    def _arrays(self, begin: int, stop: int) -> SimulatedArrays:
        """The steps `begin` to `stop` - 1 (from the fleet's start)."""
        days = range(begin // DAY, (stop - 1) // DAY + 1)
        parts = [self._day(day) for day in days]
        joined = []
        for number in range(len(self._cells)):
            cut = slice(begin - days[0] * DAY, stop - days[0] * DAY)
            runs = [part[number] for part in parts]
            joined.append(
                Run(
                    np.concatenate([run.values for run in runs], axis=2)[:, :, cut].copy(),
                    np.concatenate([run.uptime for run in runs], axis=1)[:, cut].copy(),
                    np.concatenate([run.flags for run in runs], axis=1)[:, cut],
                    runs[0].episodes,
                )
            )
        return arrays_of(self._world, self._cells, joined, self._spec.first_step + begin)

    def _day(self, day: int) -> list[Run]:
        self._advance(day)
        if day not in self._runs:
            self._simulate(day)
        self._runs.move_to_end(day)
        while len(self._runs) > KEPT_DAYS and next(iter(self._runs)) != day:
            self._runs.popitem(last=False)
        return self._runs[day]

    def _advance(self, day: int) -> int:
        """Simulate up to and with this day; returns it."""
        for further in range(len(self._moments) - 1, day + 1):
            self._simulate(further)
        return day

    def _simulate(self, day: int) -> None:
        first = self._spec.first_step + day * DAY
        shared_state = self._moments[day].shared.copy()
        shared = self._world.shared(shared_state, first, DAY)
        runs, states = [], []
        for cell, state in zip(self._cells, self._moments[day].cells, strict=True):
            now = _at(cell, state)
            runs.append(self._world.run(now, first, DAY, shared, inputs=between(self._inputs, first, DAY)))
            states.append(now.state)
        self._runs[day] = runs
        if day + 1 == len(self._moments):
            self._moments.append(_Moment(tuple(states), shared_state))
            self._episodes.append(np.concatenate([run.episodes for run in runs]))

    def _after(self, at: datetime) -> int:
        """The first step after a time. Raises `UsageError` when it lies before the fleet."""
        step = _step(at) + 1
        if step < self._spec.first_step:
            start = self._spec.start.isoformat()
            raise UsageError(f"a change at {at.isoformat()} was asked for; the fleet starts at {start}")
        return step

    def _indices(self, servers: Iterable[str] | None) -> list[int] | None:
        if servers is None:
            return None
        known = {name: index for index, name in enumerate(self.servers)}
        wanted = list(servers)
        unknown = [name for name in wanted if name not in known]
        if unknown or not wanted:
            raise UsageError(f"unknown servers {unknown}; the fleet has {', '.join(list(known)[:5])} and so on")
        return [known[name] for name in wanted]


def _at(cell: Cell, state: npt.NDArray[np.void]) -> Cell:
    """A cell with a copy of this state."""
    return Cell(cell.servers, cell.rows, cell.traits, state.copy(), cell.upstreams, cell.strengths)


def _step(moment: datetime) -> int:
    """The last step (from the epoch) at or before a time."""
    return int(moment.timestamp()) // STEP_SECONDS
