"""Which windows a grid of series holds, in pytorch-forecasting's order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleetcast.errors import DatasetError
from fleetcast.windows.columns import Grid, Ints
from fleetcast.windows.dense_spec import DenseSpec


@dataclass(frozen=True)
class WindowIndex:
    """Windows: server (position in `Grid.servers`), time index of the last encoder step, encoder length; [window]."""

    rows: Ints
    ends: Ints
    lengths: Ints

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice | Ints) -> WindowIndex:
        return WindowIndex(self.rows[part], self.ends[part], self.lengths[part])


def shortest_window(spec: DenseSpec) -> int:
    """Fewest steps of a window."""
    return spec.shortest_encoder + spec.max_prediction_length


def all_windows(grid: Grid, spec: DenseSpec) -> WindowIndex:
    """By server and first step, each as long as it can be; then, by server, those that grow from a series' first step.

    Raises DatasetError where no series is long enough.
    """
    shortest, longest = shortest_window(spec), spec.max_encoder_length + spec.max_prediction_length
    starts = np.maximum(grid.lengths - shortest + 1, 0)  # steps of each series that a window starts at
    if not starts.any():
        best = int(np.argmax(grid.lengths))
        raise DatasetError(
            f"too few steps: server {grid.servers[best]} has {grid.lengths[best]}, the most of all, and a window takes "
            f"{shortest} ({spec.shortest_encoder} + {spec.max_prediction_length}): "
            f"{shortest - grid.lengths[best]} are missing"
        )
    rows, first = np.repeat(np.arange(len(starts)), starts), _count_up(starts)
    lengths = np.minimum(longest, grid.lengths[rows] - first) - spec.max_prediction_length
    growing = np.maximum(np.minimum(longest, grid.lengths) - shortest, 0)
    rows = np.concatenate([rows, np.repeat(np.arange(len(growing)), growing)])
    first = np.concatenate([first, np.zeros(growing.sum(), np.int64)])
    lengths = np.concatenate([lengths, spec.shortest_encoder + _count_up(growing)])
    return WindowIndex(rows, grid.first[rows] + first + lengths - 1, lengths)


def first_decoder_cells(grid: Grid, index: WindowIndex) -> Ints:
    """The cell after the encoder of each window."""
    return grid.offsets[index.rows] + index.ends - grid.first[index.rows] + 1


def observed_windows(grid: Grid, spec: DenseSpec, index: WindowIndex, observed: npt.NDArray[np.bool_]) -> WindowIndex:
    """Those with an `observed` cell in the encoder and one in the decoder. Raises DatasetError if there is none."""
    if observed[: grid.size].all():
        return index
    counts = np.concatenate([[0], np.cumsum(observed)])
    middle = first_decoder_cells(grid, index)
    past = counts[middle] - counts[middle - index.lengths]
    ahead = counts[middle + spec.max_prediction_length] - counts[middle]
    found = index[np.flatnonzero((past > 0) & (ahead > 0))]
    if not len(found):
        raise DatasetError(f"no window has values of {', '.join(spec.targets)} both in its encoder and after it")
    return found


def chosen_windows(grid: Grid, spec: DenseSpec, rows: Ints, ends: Ints, lengths: Ints | None) -> WindowIndex:
    """Windows asked for, encoders by default as long as they can be. Raises DatasetError for one that does not fit."""
    history = ends - grid.first[rows] + 1
    lengths = np.minimum(history, spec.max_encoder_length) if lengths is None else lengths
    needed = np.maximum(lengths, spec.shortest_encoder)
    for at in np.flatnonzero(history < needed)[:1]:
        found = max(int(history[at]), 0)
        raise DatasetError(
            f"server {grid.servers[rows[at]]} has {found} steps up to step {ends[at]}, the encoder takes {needed[at]}: "
            f"{needed[at] - found} are missing"
        )
    if ((lengths < spec.shortest_encoder) | (lengths > spec.max_encoder_length)).any():
        raise DatasetError(f"encoder lengths must be {spec.shortest_encoder} to {spec.max_encoder_length} steps")
    last, wanted = grid.first[rows] + grid.lengths[rows] - 1, ends + spec.max_prediction_length
    for at in np.flatnonzero(last < wanted)[:1]:
        raise DatasetError(
            f"server {grid.servers[rows[at]]} has rows up to step {last[at]}, the decoder ends at step {wanted[at]}: "
            f"{wanted[at] - last[at]} are missing; append rows with what is known ahead and empty targets"
        )
    return WindowIndex(rows, ends, lengths)


def _count_up(counts: Ints) -> Ints:
    """0..n-1 for each n of `counts`, one after the other."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
