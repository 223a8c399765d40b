"""The state function on rows of a table instead of a dense grid."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fleetcast.contract.metrics import METRIC_NAMES, in_contract_order
from fleetcast.contract.schema import TIMESTAMP
from fleetcast.contract.states import observed_state
from fleetcast.contract.vocabulary import STEP_SECONDS, UNKNOWN, profile_code


def states_of_rows(table: pa.Table, maintenance: pa.Table, timezone: str) -> npt.NDArray[np.int8]:
    """State code of each row.

    Args:
        table: good rows of the contract (`state` is not read), sorted by server and time.
        maintenance: planned windows (schema `MAINTENANCE`).
        timezone: IANA zone of the fleet.
    """
    metrics = in_contract_order(name for name in table.schema.names if name in METRIC_NAMES)
    values = np.stack([np.asarray(pc.cast(table[name], pa.float32()).to_numpy()) for name in metrics], axis=1)
    seconds = np.asarray(pc.cast(pc.cast(table["timestamp"], TIMESTAMP), pa.int64()))
    profiles = pc.fill_null(table["profile"], UNKNOWN)
    planned = _planned(maintenance)
    codes = np.zeros(table.num_rows, dtype=np.int8)
    for server, first, last in server_slices(table):
        cells = (seconds[first:last] - seconds[first]) // STEP_SECONDS
        grid = np.full((1, int(cells[-1]) + 1, len(metrics)), np.nan, np.float32)
        grid[0, cells] = values[first:last]
        times = seconds[first] + STEP_SECONDS * np.arange(grid.shape[1], dtype=np.int64)
        mask = np.zeros((1, len(times)), dtype=bool)
        for start, end in planned.get(server, []):
            mask[0] |= (times >= start) & (times < end)
        profile = np.array([profile_code(profiles[last - 1].as_py())])
        codes[first:last] = observed_state(grid, metrics, profile, times, mask, timezone)[0, cells]
    return codes


def server_slices(table: pa.Table) -> Iterator[tuple[str, int, int]]:
    """(server, first row, row after the last) of a table in which each server's rows stand together."""
    if not table.num_rows:
        return
    encoded = table["server"].combine_chunks().dictionary_encode()
    codes = np.asarray(encoded.indices)
    bounds = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    for first, last in pairwise(bounds):
        yield encoded.dictionary[int(codes[first])].as_py(), first, last


def _planned(maintenance: pa.Table) -> dict[str, list[tuple[float, float]]]:
    windows: dict[str, list[tuple[float, float]]] = {}
    for row in maintenance.to_pylist():
        windows.setdefault(row["server"], []).append((row["start"].timestamp(), row["end"].timestamp()))
    return windows
