"""Loops that fill what the decoder knows of the past, and the truth; windows and slots are as in `fill_encoder`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fleetcast.compiling import compiled, compiled_and_kept
from fleetcast.windows.series import clipped, copy_series, normal, put

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]

_ZERO = np.float32(0)


@compiled_and_kept
def fill_lags(
    history: Floats,
    rows: Ints,
    origins: Ints,
    lags: Ints,
    weekend: Flags,
    now: Ints,
    scales: Floats,
    targets: Ints,
    pool: int,
    slots: Ints,
    decoder: Floats,
    anchors: Floats,
) -> None:
    """The same slot yesterday and its mean over the days that are like its own, normalised by the window.

    Two days are alike when both are of a weekend or both are not; without a like day the mean is that of all.

    Args:
        history, rows, origins: as for `fill_encoder`.
        lags: steps back of each day.
        weekend: [time], for each step, `now` [window] the places of the origins there.
        scales: as `fill_encoder` has filled it.
        targets: which features are targets.
        pool: steps of a decoder token.
        slots: places [target, (yesterday, mean)].
        decoder: filled [window, token, slot].
        anchors: filled [window, step, target, (yesterday, mean)] in contract units, NaN where there is no sample; or
            empty.
    """
    horizon = decoder.shape[1] * pool
    yesterday, mean = np.empty(horizon, np.float32), np.empty(horizon, np.float32)
    total, count = np.empty((2, horizon), np.float64), np.empty((2, horizon), np.float64)
    series, alike = np.empty(horizon, np.float32), np.empty((len(lags), horizon), np.float64)
    for window in range(len(rows)):
        mark_alike(weekend, now[window], lags, alike)
        for target in range(len(targets)):
            feature = targets[target]
            center, scale = scales[window, 0, feature], scales[window, 1, feature]
            total[:], count[:] = 0.0, 0.0
            for day in range(len(lags)):
                copy_series(history[rows[window]], target, origins[window] + 1 - lags[day], series)
                if day == 0 and len(anchors):
                    anchors[window, :, target, 0] = series
                for step in range(horizon):
                    series[step] = (series[step] - center) / scale
                for step in range(horizon):
                    missing = np.isnan(series[step])
                    value, one = np.float64(_ZERO if missing else series[step]), 0.0 if missing else 1.0
                    total[0, step] += value
                    count[0, step] += one
                    total[1, step] += value * alike[day, step]
                    count[1, step] += one * alike[day, step]
                if day == 0:
                    for step in range(horizon):
                        yesterday[step] = clipped(series[step])
            for step in range(horizon):
                kind = 1 if count[1, step] else 0
                average = np.float32(total[kind, step] / count[kind, step]) if count[kind, step] else np.float32(np.nan)
                mean[step] = clipped(average)
                if len(anchors):
                    anchors[window, step, target, 1] = center + scale * average
            put(yesterday, pool, slots[target, 0], decoder[window])
            put(mean, pool, slots[target, 1], decoder[window])


@compiled
def mark_alike(weekend: Flags, now: int, lags: Ints, alike: Doubles) -> None:
    """1 where a step [step] and its slot so many steps back [day] are both of a weekend or both not, else 0."""
    for day in range(len(lags)):
        for step in range(alike.shape[1]):
            ahead = now + 1 + step
            alike[day, step] = 1.0 if weekend[ahead] == weekend[ahead - lags[day]] else 0.0


@compiled_and_kept
def fill_base(
    base: Floats, median: int, scales: Floats, targets: Ints, pool: int, slots: Ints, decoder: Floats
) -> None:
    """Median and band of the untrained quantiles, normalised by the window.

    Args:
        base: [window, horizon, target, level], levels ascending.
        median: the median's level.
        scales, targets, pool: as for `fill_lags`.
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
