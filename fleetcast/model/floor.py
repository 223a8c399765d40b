"""The residual floor: the level of the last half hour plus what used to follow such levels.

It needs no training and is hard to beat on real servers. It is a rival in every backtest, the fallback of a server that
the model cannot forecast, and what the fleet model's network corrects.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import STEPS_PER_DAY, STEPS_PER_HOUR

LEVEL_STEPS = STEPS_PER_HOUR // 2
RESIDUAL_STEPS = 3 * STEPS_PER_DAY
STRIDE = LEVEL_STEPS


def forward_fill(past: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Last observation carried forward along the last axis; 0 before the first one."""
    seen = ~np.isnan(past)
    last = np.maximum.accumulate(np.where(seen, np.arange(past.shape[-1]), 0), axis=-1)
    return np.nan_to_num(np.take_along_axis(past, last, axis=-1), nan=0.0)


def residual_floor(
    past: npt.NDArray[np.float32], horizon: int, levels: Sequence[float], stride: int = STRIDE
) -> npt.NDArray[np.float32]:
    """Quantiles of series, shape [series, horizon, level].

    Args:
        past: [series, time], NaN gaps (the last value is carried over them), ending at the origin.
        horizon: steps ahead.
        levels: quantile levels, ascending.
        stride: steps between the past ends that residuals are collected at.

    Each step has median(last 6 values) + the quantile of {y[e+h] - median(y[e-6:e])} over ends e of the last three
    days and all h in the horizon, at least 0. Only what follows a series' first sample counts: a history shorter than
    three days uses the ends it has; one shorter than the horizon has no residuals and repeats its level.
    """
    series = _since_first(forward_fill(past), past)
    length = series.shape[1]
    level = _quantile(series[:, -LEVEL_STEPS:], [0.5])[:, 0]
    first = max(length - RESIDUAL_STEPS, 0)
    ends = np.array([end for end in range(first, length - horizon, stride) if end >= LEVEL_STEPS], dtype=np.int64)
    if not len(ends):
        return np.broadcast_to(level[:, None, None], (len(series), horizon, len(levels))).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(series, LEVEL_STEPS, axis=1)[:, ends - LEVEL_STEPS]
    medians = np.median(windows, axis=2)  # NaN where the window begins before the series
    following = series[:, ends[:, None] + np.arange(horizon)[None, :]]
    residuals = (following - medians[:, :, None]).reshape(len(series), -1)
    spread = np.nan_to_num(_quantile(residuals, levels))
    floor = np.clip(level[:, None] + spread, 0.0, None).astype(np.float32)
    return np.broadcast_to(floor[:, None, :], (len(series), horizon, len(levels))).copy()


def _since_first(filled: npt.NDArray[np.float32], past: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """NaN before each series' first sample; a series without any stays as it is."""
    seen = ~np.isnan(past)
    first = np.where(seen.any(axis=1), seen.argmax(axis=1), 0)
    return np.where(np.arange(past.shape[1]) < first[:, None], np.nan, filled)


def _quantile(values: npt.NDArray[np.float32], levels: Sequence[float]) -> npt.NDArray[np.float64]:
    """Quantiles along the last axis, [series, level], of the values that are not NaN; NaN where there is none."""
    found = np.quantile(values, levels, axis=1).T
    short = np.flatnonzero(np.isnan(values).any(axis=1) & ~np.isnan(values).all(axis=1))
    if len(short):
        found[short] = np.nanquantile(values[short], levels, axis=1).T
    return np.asarray(found)
