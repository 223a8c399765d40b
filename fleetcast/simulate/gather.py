"""Dense [server, time] arrays to the rows that have a sample, at the speed of a copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled_and_kept
from fleetcast.simulate.episode_steps import NO_SAMPLE


def kept_runs(flags: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First and behind-last flat position of each run of steps with a sample; no run spans two servers."""
    there = (flags & NO_SAMPLE) == 0
    if not there.size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    edges = np.zeros((flags.shape[0], flags.shape[1] + 1), bool)
    edges[:, 1:-1] = there[:, 1:] != there[:, :-1]
    edges[:, 0], edges[:, -1] = there[:, 0], there[:, -1]
    rows, columns = np.nonzero(edges)
    positions = rows * flags.shape[1] + columns
    return positions[::2], positions[1::2]


def gather_runs(values: npt.NDArray[Any], begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> Any:
    """The values of these runs of the flattened array, one after the other; no copy where nothing is left out."""
    flat = np.ascontiguousarray(values).reshape(-1)
    total = int((ends - begins).sum())
    if total == len(flat):
        return flat
    out = np.empty(total, flat.dtype)
    _gather(flat, begins, ends, out)
    return out


@compiled_and_kept
def blank_runs(flags: Any, values: Any, uptime: Any) -> None:
    """Set `values` [metric, server, time] and `uptime` [server, time] to NaN where there is no sample."""
    for row in range(flags.shape[0]):
        for t in range(flags.shape[1]):
            if (flags[row, t] & NO_SAMPLE) != 0:
                uptime[row, t] = np.nan
                for metric in range(values.shape[0]):
                    values[metric, row, t] = np.nan


@compiled_and_kept
def _gather(flat: Any, begins: Any, ends: Any, out: Any) -> None:
    at = 0
    for i in range(len(begins)):
        length = ends[i] - begins[i]
        out[at : at + length] = flat[begins[i] : ends[i]]
        at += length
