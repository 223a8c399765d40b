"""Rivals that need no training: what a forecast must beat to be worth anything.

A baseline takes `past` [series, time] (float32, NaN gaps, ending at the origin), a horizon in steps and ascending
quantile levels, and returns float32 [series, horizon, level]. A gap counts as the last value before it; a series
without any value has no forecast (NaN), except from `residual_floor`, which starts from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import STEPS_PER_DAY, STEPS_PER_HOUR
from fleetcast.model.floor import forward_fill, residual_floor

Floats = npt.NDArray[np.float32]
Baseline = Callable[[Floats, int, Sequence[float]], Floats]

SEASON = STEPS_PER_DAY


def naive(past: Floats, horizon: int, levels: Sequence[float]) -> Floats:
    """The last value, at every step and level."""
    return _spread(_carried(past)[:, -1:, None], horizon, levels)


def seasonal_naive(past: Floats, horizon: int, levels: Sequence[float]) -> Floats:
    """The value of the same time on the last day, at every level; the last value where there is none."""
    carried = _carried(past)
    day = carried[:, -SEASON:]
    if day.shape[1] < SEASON:
        day = np.pad(day, ((0, 0), (SEASON - day.shape[1], 0)), constant_values=np.nan)
    path = day[:, np.arange(horizon) % SEASON]
    path = np.where(np.isnan(path), carried[:, -1:], path)
    return _spread(path[:, :, None], horizon, levels)


def constant_quantiles(past: Floats, horizon: int, levels: Sequence[float]) -> Floats:
    """Quantiles of all values of the series, at every step."""
    return _spread(_sample_quantiles(past, levels)[:, None, :], horizon, levels)


def quantiles_last_4h(past: Floats, horizon: int, levels: Sequence[float]) -> Floats:
    """Quantiles of the last 4 hours, at every step."""
    return _recent(past, 4 * STEPS_PER_HOUR, horizon, levels)


def quantiles_last_24h(past: Floats, horizon: int, levels: Sequence[float]) -> Floats:
    """Quantiles of the last 24 hours, at every step."""
    return _recent(past, 24 * STEPS_PER_HOUR, horizon, levels)


BASELINES: dict[str, Baseline] = {
    "naive": naive,
    "seasonal_naive": seasonal_naive,
    "constant_quantiles": constant_quantiles,
    "quantiles_last_4h": quantiles_last_4h,
    "quantiles_last_24h": quantiles_last_24h,
    "residual_floor": residual_floor,
}


def _recent(past: Floats, steps: int, horizon: int, levels: Sequence[float]) -> Floats:
    return _spread(_sample_quantiles(_carried(past)[:, -steps:], levels)[:, None, :], horizon, levels)


def _carried(past: Floats) -> Floats:
    """Last value carried over gaps; NaN before the first one."""
    begun = np.logical_or.accumulate(~np.isnan(past), axis=1)
    return np.asarray(np.where(begun, forward_fill(past), np.float32(np.nan)))


def _sample_quantiles(values: Floats, levels: Sequence[float]) -> Floats:
    """Quantiles of the values that are not NaN, [series, level], linear between order statistics (Hyndman & Fan 7)."""
    ordered = np.sort(values, axis=1)  # NaN last
    counts = (~np.isnan(values)).sum(axis=1)
    position = np.maximum(counts - 1, 0)[:, None] * np.asarray(levels)[None, :]
    lower = np.floor(position).astype(np.int64)
    upper = np.minimum(lower + 1, np.maximum(counts - 1, 0)[:, None])
    low = np.take_along_axis(ordered, lower, axis=1).astype(np.float64)
    high = np.take_along_axis(ordered, upper, axis=1)
    return np.asarray(low + (high - low) * (position - lower), dtype=np.float32)


def _spread(quantiles: Floats, horizon: int, levels: Sequence[float]) -> Floats:
    return np.broadcast_to(quantiles, (len(quantiles), horizon, len(levels))).astype(np.float32)
