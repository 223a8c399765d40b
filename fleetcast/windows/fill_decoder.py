"""Loops that fill the untrained quantiles for the decoder, and the truth; windows and slots as in `fill_encoder`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled_and_kept
from fleetcast.windows.series import clipped, copy_series, normal, put

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@compiled_and_kept
def fill_base(
    base: Floats, median: int, scales: Floats, targets: Ints, pool: int, slots: Ints, decoder: Floats
) -> None:
    """Median and band of the untrained quantiles, normalised by the window.

    Args:
        base: [window, horizon, target, level], levels ascending.
        median: the median's level.
        scales, targets, pool: as for `fill_days`.
        slots: places [target, (median, band)].
        decoder: filled [window, token, slot].
    """
    horizon = base.shape[1]
    middle, band = np.empty(horizon, np.float32), np.empty(horizon, np.float32)
    for window in range(len(base)):
        for target in range(len(targets)):
            center, scale = scales[window, 0, targets[target]], scales[window, 1, targets[target]]
            last = base.shape[3] - 1
            for step in range(horizon):
                middle[step] = base[window, step, target, median]
                band[step] = base[window, step, target, last] - base[window, step, target, 0]
            for step in range(horizon):
                middle[step] = normal(middle[step], center, scale)
                band[step] = clipped(band[step] / scale)
            put(middle, pool, slots[target, 0], decoder[window])
            put(band, pool, slots[target, 1], decoder[window])


@compiled_and_kept
def fill_truth(history: Floats, rows: Ints, origins: Ints, truth: Floats) -> None:
    """What came after the origins, NaN where there was no sample, [window, horizon, target]."""
    for window in range(len(rows)):
        for target in range(truth.shape[2]):
            copy_series(history[rows[window]], target, origins[window] + 1, truth[window, :, target])
