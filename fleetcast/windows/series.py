"""Series of a window inside of compiled loops: cut out of samples, normalised, put into a tensor."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled
from fleetcast.windows.scaling import CLIP
from fleetcast.windows.sums import mean_of

Floats = npt.NDArray[np.float32]

_ZERO = np.float32(0)
_LIMIT = np.float32(CLIP)


@compiled
def copy_series(values: Floats, column: int, first: int, into: Floats) -> None:
    """Steps from `first` on of one column."""
    if column >= 0 and first >= 0 and first + len(into) <= values.shape[0]:
        for step in range(len(into)):
            into[step] = values[first + step, column]
        return
    for step in range(len(into)):
        time = first + step
        into[step] = values[time, column] if column >= 0 and 0 <= time < values.shape[0] else np.nan


@compiled
def normal(value: np.float32, center: np.float32, scale: np.float32) -> np.float32:
    """A value in scales from the center, between the limits; 0 for a missing one."""
    return clipped((value - center) / scale)


@compiled
def clipped(value: np.float32) -> np.float32:
    """Between the limits; 0 for a missing value."""
    value = _ZERO if np.isnan(value) else value
    value = _LIMIT if value > _LIMIT else value
    return np.float32(-_LIMIT if value < -_LIMIT else value)


@compiled
def put(series: Floats, pool: int, slot: int, decoder: Floats) -> None:
    """Means of `pool` steps each into a slot of [token, slot]."""
    for token in range(len(decoder)):
        decoder[token, slot] = mean_of(series, token * pool, (token + 1) * pool)
