"""The last hours of a fleet in memory: dense arrays used as a ring over the 5-minute grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.contract.metrics import METRIC_NAMES, in_contract_order
from fleetcast.contract.schema import MAINTENANCE
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.windows.arrays import FleetArrays

NEVER = -1


class Ring:
    """Samples of the last `steps` grid times up to the newest one, float32 [server, slot, metric], NaN gaps.

    The grid time t (Unix seconds) lives in slot `(t / 300) % steps`; slots that the newest time passes are cleared.
    Servers and metrics are added as they are first seen. Samples older than the ring are left out.
    """

    def __init__(self, steps: int, timezone: str = "UTC") -> None:
        self.steps, self.timezone = steps, timezone
        self.newest = NEVER
        self.metrics: tuple[str, ...] = ()
        self.servers: list[str] = []
        self.profiles: list[str] = []
        self._rows: dict[str, int] = {}
        self._last = np.empty(0, np.int64)
        self._values = np.empty((0, steps, 0), np.float32)

    def __len__(self) -> int:
        return len(self.servers)

    def profile_of(self, server: str) -> str | None:
        """The profile that the server's latest sample gave, None for a server that is not here."""
        row = self._rows.get(server)
        return None if row is None else self.profiles[row]

    def last_sample(self, server: str) -> int | None:
        """Unix seconds of the server's newest sample."""
        row = self._rows.get(server)
        return None if row is None else int(self._last[row])

    def last_samples(self) -> npt.NDArray[np.int64]:
        """Unix seconds of every server's newest sample, in the order of `servers`."""
        return self._last[: len(self.servers)].copy()

    def put(self, table: pa.Table) -> None:
        """Lay rows in: `server`, `profile`, `timestamp` (on the grid) and metrics; a later row replaces an earlier."""
        if not table.num_rows:
            return
        seconds = np.asarray(pc.cast(table["timestamp"], pa.int64()))
        self._advance(int(seconds.max()))
        self._add_metrics(name for name in table.schema.names if name in METRIC_NAMES)
        servers = encoded(table["server"])
        rows = self._add_servers(servers.dictionary.to_pylist())[np.asarray(servers.indices)]
        np.maximum.at(self._last, rows, seconds)
        latest = np.flatnonzero(seconds >= self._last[rows])
        for row, profile in zip(rows[latest], table["profile"].take(pa.array(latest)).to_pylist(), strict=True):
            self.profiles[row] = profile
        kept = self.holds(seconds)
        slots = seconds[kept] // STEP_SECONDS % self.steps
        for column, name in enumerate(self.metrics):
            if name in table.schema.names:
                series = np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.float32)
                self._values[rows[kept], slots, column] = series[kept]
            else:
                self._values[rows[kept], slots, column] = np.nan

    def has(
        self, names: Sequence[str], codes: npt.NDArray[np.integer], seconds: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Whether there is a sample of the server `names[code]` at the time; False for times that are not kept."""
        rows = np.array([self._rows.get(name, NEVER) for name in names], dtype=np.int64)[codes]
        found = (rows != NEVER) & self.holds(seconds) & (seconds <= self.newest)
        slots = seconds[found] // STEP_SECONDS % self.steps
        found[found] = ~np.isnan(self._values[rows[found], slots]).all(axis=1)
        return np.asarray(found)

    def holds(self, seconds: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether the times are not older than what is kept."""
        return np.asarray(seconds > self.newest - self.steps * STEP_SECONDS)

    def drop_silent(self) -> int:
        """Forget the servers without a sample among the times that are kept; returns how many."""
        held = self._last[: len(self.servers)] > self.newest - self.steps * STEP_SECONDS
        rows = np.flatnonzero(held)
        dropped = len(self.servers) - len(rows)
        if dropped:
            self.servers = [self.servers[row] for row in rows]
            self.profiles = [self.profiles[row] for row in rows]
            self._rows = {name: row for row, name in enumerate(self.servers)}
            self._last, self._values = self._last[rows], self._values[rows]
        return dropped

    def window(self, last: int, steps: int, servers: Sequence[str] | None = None) -> FleetArrays:
        """Copy of the `steps` grid times that end with `last` (Unix seconds), for all or some servers.

        Times outside the ring are NaN. The planned maintenance is not known here: the table is empty.
        """
        rows = np.arange(len(self.servers)) if servers is None else np.array([self._rows[name] for name in servers])
        times = last - STEP_SECONDS * np.arange(steps - 1, -1, -1, dtype=np.int64)
        held = (times <= self.newest) & (times > self.newest - self.steps * STEP_SECONDS)
        values = np.full((len(rows), steps, len(self.metrics)), np.nan, np.float32)
        if len(rows):
            values[:, held] = self._values[np.ix_(rows, times[held] // STEP_SECONDS % self.steps)]
        return FleetArrays(
            servers=tuple(self.servers[row] for row in rows),
            profiles=tuple(self.profiles[row] for row in rows),
            metrics=self.metrics,
            start=int(times[0]),
            values=values,
            maintenance=MAINTENANCE.empty_table(),
            timezone=self.timezone,
        )

    def _advance(self, newest: int) -> None:
        if self.newest == NEVER:
            self.newest = newest
            return
        passed = (newest - self.newest) // STEP_SECONDS
        if passed <= 0:
            return
        first = self.newest // STEP_SECONDS + 1
        slots = np.arange(first, first + min(passed, self.steps)) % self.steps
        self._values[:, slots] = np.nan
        self.newest = newest

    def _add_metrics(self, names: Iterable[str]) -> None:
        grown = in_contract_order([*self.metrics, *names])
        if grown == self.metrics:
            return
        values = np.full((*self._values.shape[:2], len(grown)), np.nan, np.float32)
        for column, name in enumerate(self.metrics):
            values[:, :, grown.index(name)] = self._values[:, :, column]
        self.metrics, self._values = grown, values

    def _add_servers(self, servers: Sequence[str]) -> npt.NDArray[np.int64]:
        for name in servers:
            if name not in self._rows:
                self._rows[name] = len(self.servers)
                self.servers.append(name)
                self.profiles.append("")
        capacity = len(self._values)
        if len(self.servers) > capacity:
            extra = max(len(self.servers) - capacity, capacity)
            blank = np.full((extra, *self._values.shape[1:]), np.nan, np.float32)
            self._values = np.concatenate([self._values, blank])
            self._last = np.concatenate([self._last, np.full(extra, NEVER, np.int64)])
        return np.array([self._rows[name] for name in servers], dtype=np.int64)


def encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """The words of a column as one dictionary array that has no word in vain."""
    return column.cast(pa.string()).combine_chunks().dictionary_encode()
