"""Loops that fill what the decoder knows of former days; windows and slots are as in `fill_encoder`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled_and_kept
from fleetcast.windows.day_means import SUMS, mean_of_days
from fleetcast.windows.rise import rise_of
from fleetcast.windows.sawtooth import LANES, find_marks
from fleetcast.windows.series import clipped, copy_series, put

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_ALL = 2**62  # days: so many are never there, and none is left out


@compiled_and_kept
def fill_days(
    history: Floats,
    rows: Ints,
    origins: Ints,
    lags: Ints,
    alike: Ints,
    now: Ints,
    scales: Floats,
    targets: Ints,
    pool: int,
    slots: Ints,
    decoder: Floats,
    anchors: Floats,
) -> None:
    """The same slot yesterday, its mean over former days, and the usual rise from here, normalised by the window.

    Both means are over the days that are like the step's own (`WindowBuilder.alike`): that of the slot where there is
    one of them, that of the rise (see `rise`) where there are three, else over all days.

    Args:
        history, rows, origins: as for `fill_encoder`.
        lags: steps back of each day.
        alike: [time], bit i of a step is set where the day `lags[i]` back is like its own; `now` [window] are the
            places of the origins there.
        scales: as `fill_encoder` has filled it.
        targets: which features are targets.
        pool: steps of a decoder token.
        slots: places [target, (yesterday, mean, rise)].
        decoder: filled [window, token, slot].
        anchors: filled [window, step, target, (yesterday, mean, rise)] in contract units, NaN where there is no
            sample; or empty.
    """
    horizon = decoder.shape[1] * pool
    series, scratch = np.empty((len(lags), horizon), np.float32), np.empty((len(lags), horizon), np.float32)
    yesterday, mean, rise = np.empty(horizon, np.float32), np.empty(horizon, np.float32), np.empty(horizon, np.float32)
    sums, marks = np.empty((SUMS, horizon), np.float64), np.empty((2, len(targets)), np.float32)
    lanes = np.empty((4, LANES * len(targets)), np.float32)
    for window in range(len(rows)):
        values, origin = history[rows[window]], origins[window]
        days = alike[now[window] + 1 : now[window] + 1 + horizon]
        find_marks(values, origin + 1 - lags[-1], origin, lanes, marks)
        for target in range(len(targets)):
            center, scale = scales[window, 0, targets[target]], scales[window, 1, targets[target]]
            for day in range(len(lags)):
                copy_series(values, target, origin + 1 - lags[day], series[day])
                for step in range(horizon):
                    scratch[day, step] = (series[day, step] - center) / scale
            yesterday[:] = scratch[0]
            mean_of_days(scratch, days, 1, _ALL, sums, mean)
            rise_of(values, target, origin, lags, days, series, marks[:, target], scratch, sums, rise)
            if len(anchors):
                for step in range(horizon):
                    anchors[window, step, target, 0] = series[0, step]
                    anchors[window, step, target, 1] = center + scale * mean[step]
                    anchors[window, step, target, 2] = rise[step]
            for step in range(horizon):
                rise[step] = (rise[step] - center) / scale
            for number, known in enumerate((yesterday, mean, rise)):
                for step in range(horizon):
                    known[step] = clipped(known[step])
                put(known, pool, slots[target, number], decoder[window])
