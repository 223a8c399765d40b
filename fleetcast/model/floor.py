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
    days and all h in the horizon, at least 0. A history shorter than that uses the ends it has; one shorter than the
    horizon has no residuals and repeats its level.
    """
    series = forward_fill(past)
    length = series.shape[1]
    level = np.median(series[:, -LEVEL_STEPS:], axis=1)
    first = max(length - RESIDUAL_STEPS, 0)
    ends = np.array([end for end in range(first, length - horizon, stride) if end >= LEVEL_STEPS], dtype=np.int64)
    if not len(ends):
        return np.broadcast_to(level[:, None, None], (len(series), horizon, len(levels))).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(series, LEVEL_STEPS, axis=1)[:, ends - LEVEL_STEPS]
    medians = np.median(windows, axis=2)
    following = series[:, ends[:, None] + np.arange(horizon)[None, :]]
    residuals = (following - medians[:, :, None]).reshape(len(series), -1)
    spread = np.quantile(residuals, levels, axis=1).T
    floor = np.clip(level[:, None] + spread, 0.0, None).astype(np.float32)
    return np.broadcast_to(floor[:, None, :], (len(series), horizon, len(levels))).copy()
