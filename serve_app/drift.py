"""How forecasts of some time ago did: what was stored then against what came."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.contract.schema import quantile_column
from fleetcast.contract.vocabulary import STEP_SECONDS
from fleetcast.dataset.storage import Storage
from fleetcast.evaluation.metrics import pinball
from fleetcast.forecast.part import part_head
from fleetcast.forecast.table import MODEL
from fleetcast.store.engine import Store
from fleetcast.store.forecasts import newest_cycle
from fleetcast.windows.arrays import FleetArrays

SERVERS_AT_ONCE = 1024
BAND = (0.1, 0.9)


class Matured(NamedTuple):
    """Forecasts of one metric at one horizon whose time has come: sums over the servers that were looked at.

    `pinball` is summed over servers of the mean over quantiles, in the metric's unit; `inside` counts values within
    the 80 % band, both ends included (None when the model has no such quantiles).
    """

    metric: str
    minutes: int
    points: int
    pinball: float
    inside: int | None


class Drift:
    """Scores, at every cycle, the stored forecasts for this very time: one step of each horizon.

    A file of a large fleet is not read whole: `most` servers at a time, other ones at the next cycle. Only forecasts
    of the model count.
    """

    def __init__(self, store: Store, location: str, minutes: list[int], most: int = SERVERS_AT_ONCE) -> None:
        self._store, self._folder = store, Storage(location)
        self._minutes, self._most = minutes, most
        self._next = 0

    def score(self, now: FleetArrays) -> list[Matured]:
        """Compare with the last step of these samples. Raises `StoreError` and `DatasetError`."""
        truth = now.values[:, -1]
        reporting = sorted(name for name, values in zip(now.servers, truth, strict=True) if np.isfinite(values).any())
        names = self._turn(reporting)
        if not names:
            return []
        return [one for minutes in self._minutes for one in self._horizon(now, names, minutes)]

    def _turn(self, names: list[str]) -> list[str]:
        """The next servers in the order of names, which is that of the files: neighbours are read together."""
        if len(names) <= self._most:
            return names
        first = self._next if self._next < len(names) else 0
        self._next = first + self._most
        return names[first : self._next]

    def _horizon(self, now: FleetArrays, names: list[str], minutes: int) -> list[Matured]:
        moment = int(now.timestamps[-1])
        with self._store.reading() as session:
            cycle = newest_cycle(session, moment - minutes * 60)
        if cycle is None or cycle.file is None or cycle.origin != moment - minutes * 60:
            return []
        part = self._folder.read_where(cycle.file, "server", names)
        step = pc.equal(part["step"], minutes * 60 // STEP_SECONDS)
        rows = part.filter(pc.and_(step, pc.equal(pc.cast(part["source"], pa.string()), MODEL)))
        return compare(rows, part_head(part.schema.metadata).levels, now, minutes)


def compare(rows: pa.Table, levels: tuple[float, ...], now: FleetArrays, minutes: int) -> list[Matured]:
    """Score rows of a part (one step) against the last step of the samples, by metric."""
    servers = _places(rows["server"], now.servers)
    found = []
    for column, metric in enumerate(now.metrics):
        picked = np.asarray(pc.equal(pc.cast(rows["metric"], pa.string()), metric)) & (servers >= 0)
        truth = now.values[servers[picked], -1, column]
        known = np.isfinite(truth)
        if not known.any():
            continue
        quantiles = np.stack([np.asarray(rows[quantile_column(level)])[picked][known] for level in levels], axis=1)
        loss = pinball(truth[known], quantiles, levels).mean(axis=1).sum()
        found.append(Matured(metric, minutes, int(known.sum()), float(loss), _inside(truth[known], quantiles, levels)))
    return found


def _inside(
    truth: npt.NDArray[np.float32], quantiles: npt.NDArray[np.float32], levels: tuple[float, ...]
) -> int | None:
    if not set(BAND) <= set(levels):
        return None
    low, high = (quantiles[:, levels.index(level)] for level in BAND)
    return int(((truth >= low) & (truth <= high)).sum())


def _places(column: pa.ChunkedArray, names: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Position of each name; -1 for one that is not there."""
    found = pc.index_in(pc.cast(column, pa.string()), value_set=pa.array(names, pa.string()))
    return np.asarray(pc.fill_null(pc.cast(found, pa.int64()), -1))
