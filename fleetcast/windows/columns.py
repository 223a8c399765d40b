"""Rows of a table, sorted by server and step, and their places on a grid without gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from fleetcast.errors import DatasetError

Ints = npt.NDArray[np.int64]
Reals = npt.NDArray[np.floating]

WIDEST = 64  # grid steps per row, on average, beyond which the time column is not in steps


@dataclass(frozen=True)
class Grid:
    """Series laid end to end, each from its first to its last row without gaps; a place on it is a cell.

    `servers` are sorted by name; `first` (time index), `lengths` and `offsets` (first cell) are [server]; `codes`
    (position in `servers`) and `cells` are [row] in the order of server and time, which `order` brings rows into (None
    where they are in it).
    """

    servers: tuple[str, ...]
    first: Ints
    lengths: Ints
    offsets: Ints
    codes: Ints
    cells: Ints
    order: Ints | None

    @property
    def size(self) -> int:
        """Number of cells."""
        return int(self.offsets[-1] + self.lengths[-1])

    @property
    def has_gaps(self) -> bool:
        """Whether some cell has no row."""
        return len(self.cells) < self.size

    def numbers(self, frame: pd.DataFrame, name: str) -> Reals:
        """A column of numbers in the grid's order, [row]: float32 or float64, NaN where missing."""
        series = frame[name]
        if not pd.api.types.is_numeric_dtype(series.dtype):
            raise DatasetError(f"column {name} holds {series.dtype}, not numbers")
        numpy_float = isinstance(series.dtype, np.dtype) and series.dtype in (np.float32, np.float64)
        values = series.to_numpy() if numpy_float else series.to_numpy(np.float64, na_value=np.nan)
        if np.isinf(values).any():
            raise DatasetError(f"column {name} holds infinite values: leave them out or empty")
        return values if self.order is None else values[self.order]

    def words(self, frame: pd.DataFrame, name: str, vocabulary: Sequence[str]) -> Ints:
        """Codes of a column of words in the grid's order, [row]: 1 + position in `vocabulary`, 0 where it has none."""
        codes, found = pd.factorize(frame[name])
        table = {word: code for code, word in enumerate(vocabulary, start=1)}
        known = np.array([*(table.get(str(word), 0) for word in found), 0], dtype=np.int64)  # -1, no word, is the last
        values = known[codes]
        return values if self.order is None else values[self.order]


def frame_of(data: pd.DataFrame | pa.Table, columns: Sequence[str]) -> pd.DataFrame:
    """These columns of a pandas frame or Arrow table; raises DatasetError for the missing ones."""
    present = set(data.schema.names if isinstance(data, pa.Table) else data.columns)
    missing = [name for name in columns if name not in present]
    if missing:
        raise DatasetError(
            f"the data has no column {', '.join(missing)}; it has {', '.join(map(str, sorted(present)))}"
        )
    if isinstance(data, pa.Table):
        frame: pd.DataFrame = data.select(list(columns)).to_pandas(split_blocks=True)
        return frame
    return data[list(columns)]


def lay(frame: pd.DataFrame, server: str, time_idx: str) -> Grid:
    """The grid of a frame's rows. Raises DatasetError for no rows, a row without a server, two rows of one step."""
    if not len(frame):
        raise DatasetError("the data has no rows")
    if frame[time_idx].dtype.kind not in "iu":
        raise DatasetError(f"column {time_idx} holds {frame[time_idx].dtype}, not whole steps: number the steps")
    time = frame[time_idx].to_numpy(np.int64)
    found, names = pd.factorize(frame[server])
    if (found < 0).any():
        raise DatasetError(f"column {server} is empty in {int((found < 0).sum())} rows: name each row's server")
    rank = np.argsort(np.array([str(name) for name in names], dtype=object))
    place = np.empty(len(rank), np.int64)
    place[rank] = np.arange(len(rank))
    codes = place[found]
    servers = tuple(str(names[position]) for position in rank)
    order = None
    if not _ascends(codes, time):
        order = np.lexsort((time, codes)).astype(np.int64)
        codes, time = codes[order], time[order]
    bounds = np.concatenate(([0], np.cumsum(np.bincount(codes, minlength=len(servers)))))
    first, last = time[bounds[:-1]], time[bounds[1:] - 1]
    _refuse_doubles(codes, time, servers)
    lengths = last - first + 1
    if lengths.sum() > WIDEST * len(time):
        worst = int(np.argmax(lengths))
        raise DatasetError(
            f"server {servers[worst]} has rows of {time_idx} {first[worst]} to {last[worst]}, but few between: "
            "number the steps one by one"
        )
    offsets = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    return Grid(servers, first, lengths, offsets, codes, (offsets - first)[codes] + time, order)


def _ascends(codes: Ints, time: Ints) -> bool:
    later = (codes[1:] > codes[:-1]) | ((codes[1:] == codes[:-1]) & (time[1:] >= time[:-1]))
    return bool(later.all())


def _refuse_doubles(codes: Ints, time: Ints, servers: Sequence[str]) -> None:
    double = np.flatnonzero((codes[1:] == codes[:-1]) & (time[1:] == time[:-1]))
    if len(double):
        where = double[0]
        raise DatasetError(f"server {servers[codes[where]]} has two rows of step {time[where]}: keep one")
