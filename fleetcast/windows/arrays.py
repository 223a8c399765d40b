"""A fleet as dense arrays on the 5-minute grid."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.contract.compatibility import require_fit, this_contract
from fleetcast.contract.metrics import METRIC_NAMES, in_contract_order
from fleetcast.contract.schema import MAINTENANCE, TIMESTAMP
from fleetcast.contract.states import observed_state
from fleetcast.contract.vocabulary import STEP_SECONDS, UNKNOWN, profile_codes
from fleetcast.dataset.reader import Dataset
from fleetcast.errors import DatasetError
from fleetcast.windows.horizon import Horizon


@dataclass(frozen=True)
class FleetArrays:
    """Samples of a fleet.

    `values` is float32 [server, time, metric] in contract units, NaN where there is no value; step i is at
    `start + i x 300` Unix seconds. `maintenance` lists planned windows (schema `MAINTENANCE`), past and future.
    """

    servers: tuple[str, ...]
    profiles: tuple[str, ...]
    metrics: tuple[str, ...]
    start: int
    values: npt.NDArray[np.float32]
    maintenance: pa.Table
    timezone: str = "UTC"

    @property
    def steps(self) -> int:
        """Length of the time axis."""
        return int(self.values.shape[1])

    @property
    def timestamps(self) -> npt.NDArray[np.int64]:
        """Unix seconds of the steps, shape [time]."""
        return self.start + STEP_SECONDS * np.arange(self.steps, dtype=np.int64)

    @property
    def profile_codes(self) -> npt.NDArray[np.int64]:
        """Embedding indices of the servers' profiles, shape [server]; 0 is unknown."""
        return profile_codes(self.profiles)

    def index_of(self, moment: datetime) -> int:
        """Position of a grid time on the time axis, which may lie outside it."""
        seconds = int(moment.timestamp()) - self.start
        if seconds % STEP_SECONDS:
            raise DatasetError(f"{moment.isoformat()} is not on the {STEP_SECONDS} s grid")
        return seconds // STEP_SECONDS

    def time_at(self, index: int) -> datetime:
        """UTC time of a position on the time axis, which may lie outside it."""
        return datetime.fromtimestamp(self.start + STEP_SECONDS * index, UTC)

    def select(self, metrics: Sequence[str]) -> npt.NDArray[np.float32]:
        """Values of some metrics, [server, time, len(metrics)]; NaN for one that the fleet does not have."""
        chosen = np.full((*self.values.shape[:2], len(metrics)), np.nan, np.float32)
        for column, name in enumerate(metrics):
            if name in self.metrics:
                chosen[:, :, column] = self.values[:, :, self.metrics.index(name)]
        return chosen

    def states(self) -> npt.NDArray[np.int8]:
        """State codes [server, time] by the contract's one state function."""
        planned = self.maintenance_mask(0, self.steps)
        return observed_state(self.values, self.metrics, self.profile_codes, self.timestamps, planned, self.timezone)

    def maintenance_mask(self, first: int, last: int) -> npt.NDArray[np.bool_]:
        """Planned maintenance [server, last - first] of the steps first..last-1, which may lie in the future."""
        planned = np.zeros((len(self.servers), last - first), dtype=bool)
        starts, spans = planned_spans(self.servers, self.maintenance, self.start, first, last)
        for row in range(len(self.servers)):
            for begin, end in spans[starts[row] : starts[row + 1]]:
                planned[row, begin - first : end - first] = True
        return planned

    def horizon(self, steps: int) -> Horizon:
        """What is known ahead of time, planned maintenance up to `steps` steps after the last sample."""
        starts, spans = planned_spans(self.servers, self.maintenance, self.start, 0, self.steps + steps)
        return Horizon(self.start, self.steps, self.timezone, self.profile_codes, starts, spans)

    def until(self, index: int) -> FleetArrays:
        """The same fleet with nothing after step `index` (inclusive): what is known at that origin."""
        return replace(self, values=self.values[:, : max(index + 1, 0)])

    def slice(self, first: int, last: int) -> FleetArrays:
        """The steps first..last-1 on an axis of exactly that length; missing where the fleet has none."""
        values = np.full((len(self.servers), last - first, len(self.metrics)), np.nan, np.float32)
        low, high = max(first, 0), min(last, self.steps)
        if low < high:
            values[:, low - first : high - first] = self.values[:, low:high]
        return replace(self, start=self.start + STEP_SECONDS * first, values=values)

    def of_servers(self, rows: Sequence[int] | npt.NDArray[np.integer]) -> FleetArrays:
        """The same fleet with these servers only, in this order."""
        return replace(
            self,
            servers=tuple(self.servers[row] for row in rows),
            profiles=tuple(self.profiles[row] for row in rows),
            values=self.values[list(rows)],
        )


def planned_spans(
    servers: Sequence[str], maintenance: pa.Table, start: int, first: int, last: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Planned windows of servers within the steps first..last-1 of an axis that begins at `start` (Unix seconds).

    Returns where each server's spans begin, [server + 1], and the spans as (first step, first step after).
    """
    rows = {server: row for row, server in enumerate(servers)}
    found = []
    for window in maintenance.to_pylist():
        row = rows.get(window["server"])
        if row is not None:
            steps = [math.ceil((window[side].timestamp() - start) / STEP_SECONDS) for side in ("start", "end")]
            begin, end = max(steps[0], first), min(steps[1], last)
            if begin < end:
                found.append((row, begin, end))
    spans = np.array(sorted(found), np.int64).reshape(-1, 3)
    return np.searchsorted(spans[:, 0], np.arange(len(servers) + 1)), spans[:, 1:].copy()


def arrays_from_table(
    table: pa.Table,
    start: datetime | None = None,
    end: datetime | None = None,
    maintenance: pa.Table | None = None,
    timezone: str = "UTC",
) -> FleetArrays:
    """Lay sample rows (contract columns, on the grid, one a server and time) on dense arrays.

    The time axis runs from `start` to `end`, both inclusive, by default the span of the rows; rows outside are left
    out. Gaps become NaN. A server's profile is that of its last row.
    """
    seconds = np.asarray(pc.cast(pc.cast(table["timestamp"], TIMESTAMP), pa.int64()))
    if not len(seconds) and (start is None or end is None):
        raise DatasetError("no samples: nothing to lay on the grid")
    first = int(start.timestamp()) if start is not None else int(seconds.min())
    last = int(end.timestamp()) if end is not None else int(seconds.max())
    metrics = in_contract_order(name for name in table.schema.names if name in METRIC_NAMES)
    encoded = table["server"].combine_chunks().dictionary_encode()
    servers, order = np.unique(np.asarray(encoded.dictionary), return_inverse=True)
    rows = order[np.asarray(encoded.indices)] if len(seconds) else np.empty(0, np.int64)
    named = pc.fill_null(table["profile"], UNKNOWN).combine_chunks().dictionary_encode()
    last_profile = np.zeros(len(servers), np.int64)
    last_profile[rows] = np.asarray(named.indices)
    words = named.dictionary.to_pylist()
    columns = (seconds - first) // STEP_SECONDS
    steps = (last - first) // STEP_SECONDS + 1
    inside = (columns >= 0) & (columns < steps)
    cells, within = (rows * steps + columns)[inside], slice(None) if inside.all() else inside
    values = np.full((len(servers), steps, len(metrics)), np.nan, np.float32)
    for position, name in enumerate(metrics):
        series = np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.float32)
        values.reshape(-1, len(metrics))[cells, position] = series[within]
    return FleetArrays(
        tuple(str(name) for name in servers),
        tuple(words[code] for code in last_profile) if words else (UNKNOWN,) * len(servers),
        metrics,
        first,
        values,
        MAINTENANCE.empty_table() if maintenance is None else maintenance,
        timezone,
    )


def arrays_from_dataset(dataset: Dataset, parts: Sequence[int] | None = None) -> FleetArrays:
    """All servers of a dataset, or of the parts with these positions, over the dataset's whole span."""
    manifest = dataset.manifest
    require_fit(this_contract(manifest.metrics), manifest.side(f"the dataset {dataset.location}"))
    chosen = manifest.parts if parts is None else [manifest.parts[number] for number in parts]
    columns = ["server", "profile", "timestamp", *manifest.metrics]
    table = pa.concat_tables([dataset.read(part, columns) for part in chosen])
    return arrays_from_table(table, manifest.start, manifest.end, dataset.maintenance(), manifest.timezone)


def arrays_by_chunk(
    dataset: Dataset, servers: npt.NDArray[np.bool_], end: datetime, metrics: Sequence[str]
) -> Iterator[tuple[int, FleetArrays]]:
    """Some of a dataset's servers, a few at a time, from the dataset's start to `end`, with these metrics only.

    Parts without any of the servers are not read, large ones in pieces. `servers` says of each server, in the
    manifest's order, whether it is wanted. Yields servers that follow each other in that order, with the first one's
    position.
    """
    manifest, first = dataset.manifest, 0
    maintenance, columns = dataset.maintenance(), ["server", "profile", "timestamp", *metrics]
    for part in manifest.parts:
        wanted = servers[first : first + len(part.servers)]
        for table in dataset.chunks(part, columns) if wanted.any() else ():
            fleet = arrays_from_table(table, manifest.start, end, maintenance, manifest.timezone)
            begin = part.servers.index(fleet.servers[0])
            rows = np.flatnonzero(wanted[begin : begin + len(fleet.servers)])
            for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
                if len(run) == len(fleet.servers):
                    yield first + begin, fleet
                elif len(run):
                    yield first + begin + int(run[0]), fleet.of_servers(run)
        first += len(part.servers)


def arrays_of_some(dataset: Dataset, most: int) -> FleetArrays:
    """At most that many of a dataset's servers over its whole span, from parts evenly spread over the dataset."""
    manifest = dataset.manifest
    sizes = [len(part.servers) for part in manifest.parts]
    if sum(sizes) <= most:
        return arrays_from_dataset(dataset)
    require_fit(this_contract(manifest.metrics), manifest.side(f"the dataset {dataset.location}"))
    count = min(-(-most * len(sizes) // sum(sizes)), len(sizes))
    chosen = np.linspace(0, len(sizes) - 1, count).round().astype(np.int64)
    wanted = np.concatenate([np.full(size, number in chosen) for number, size in enumerate(sizes)])
    places = np.flatnonzero(wanted)
    wanted[:] = False
    wanted[places[np.linspace(0, len(places) - 1, min(most, len(places))).astype(np.int64)]] = True
    found = [fleet for _, fleet in arrays_by_chunk(dataset, wanted, manifest.end, manifest.metrics)]
    return replace(
        found[0],
        servers=tuple(server for fleet in found for server in fleet.servers),
        profiles=tuple(profile for fleet in found for profile in fleet.profiles),
        values=np.concatenate([fleet.values for fleet in found]),
    )
