"""Metrics of quantile forecasts: pure functions of arrays.

`truth` has any shape [...], `quantiles` has one axis more [..., level]. Where the truth is NaN nothing is scored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fleetcast.contract.vocabulary import STEPS_PER_DAY

SEASON = STEPS_PER_DAY

Floats = npt.NDArray[np.floating]


def pinball(truth: Floats, quantiles: Floats, levels: Sequence[float]) -> npt.NDArray[np.float64]:
    """Pinball loss of every point and level, [..., level], in the unit of the truth; NaN where the truth is.

    max(t (y - q), (t - 1) (y - q)) for level t: minimal in expectation when q is the t-quantile of y (Koenker and
    Bassett, "Regression Quantiles", Econometrica 46, 1978).
    """
    taus = np.asarray(levels, dtype=np.float64)
    error = truth[..., None].astype(np.float64) - quantiles
    return np.asarray(np.maximum(taus * error, (taus - 1.0) * error))


def weighted_quantile_loss(truth: Floats, quantiles: Floats, levels: Sequence[float]) -> float:
    """Sum of 2 x pinball over points and levels / (number of levels x sum of |truth|); NaN when that is 0.

    The same as `wql` of GluonTS and of the shared scorer of VM forecasts: comparable across scales, dominated by loud
    series.
    """
    known = ~np.isnan(truth)
    weight = np.abs(truth[known]).sum(dtype=np.float64) * len(levels)
    total = 2.0 * pinball(truth[known], quantiles[known], levels).sum()
    return float(total / weight) if weight > 0 else float("nan")


def seasonal_scale(past: Floats, season: int = SEASON) -> npt.NDArray[np.float64]:
    """In-sample mean absolute error of the seasonal naive forecast, [...] of a past [..., time].

    mean |y[t] - y[t - season]| over the pairs that are both known; NaN where there is no pair.
    """
    difference = np.abs(past[..., season:].astype(np.float64) - past[..., :-season])
    counts = (~np.isnan(difference)).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(counts > 0, np.nansum(difference, axis=-1) / counts, np.nan))


def mase(truth: Floats, median: Floats, past: Floats, season: int = SEASON) -> npt.NDArray[np.float64]:
    """Mean absolute scaled error of every series, [...] of truth and median [..., step] and past [..., time].

    mean |y - median| over the horizon / `seasonal_scale(past)` (Hyndman and Koehler, "Another look at measures of
    forecast accuracy", Int. J. Forecasting 22, 2006). NaN where nothing is known or the scale is 0.
    """
    error = np.abs(truth.astype(np.float64) - median)
    counts = (~np.isnan(error)).sum(axis=-1)
    scale = seasonal_scale(past, season)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.nansum(error, axis=-1) / counts / scale
    return np.asarray(np.where((counts > 0) & (scale > 0), value, np.nan))


def coverage(truth: Floats, low: Floats, high: Floats) -> float:
    """Share of the known truth within [low, high], both inclusive; NaN when nothing is known."""
    known = ~np.isnan(truth)
    inside = (truth >= low) & (truth <= high)
    return float(inside[known].mean()) if known.any() else float("nan")


def pit_counts(truth: Floats, quantiles: Floats, levels: Sequence[float]) -> npt.NDArray[np.float64]:
    """Histogram of the probability integral transform over the last axis of the truth, [..., level + 1].

    Bin k holds the points between the quantiles k - 1 and k, where a calibrated forecast puts a share of
    levels[k] - levels[k - 1] (0 below the first, 1 above the last). A point that equals quantiles is spread over all
    bins that they bound, in proportion to the bins' shares: the non-randomised PIT of a forecast with atoms (Czado,
    Gneiting and Held, "Predictive model assessment for count data", Biometrics 65, 2009).
    """
    bins = len(levels) + 1
    shares = pit_shares(levels)
    known = ~np.isnan(truth)
    below = (quantiles < truth[..., None]).sum(axis=-1)
    most = (quantiles <= truth[..., None]).sum(axis=-1)
    rows = np.arange(math.prod(truth.shape[:-1])).reshape(*truth.shape[:-1], 1)
    places = ((rows * bins + below) * bins + most)[known]
    pairs = np.bincount(places, minlength=rows.size * bins * bins).reshape(*truth.shape[:-1], bins, bins)
    first, last, bin_ = np.ogrid[:bins, :bins, :bins]
    spread = np.where((bin_ >= first) & (bin_ <= last), shares, 0.0)
    spread /= np.maximum(spread.sum(axis=-1, keepdims=True), np.finfo(float).tiny)
    return np.asarray(np.tensordot(pairs.astype(np.float64), spread, axes=2))


def pit_shares(levels: Sequence[float]) -> npt.NDArray[np.float64]:
    """The share of points that a calibrated forecast has in each bin of `pit_counts`, [level + 1]."""
    return np.diff(np.concatenate([[0.0], np.asarray(levels, np.float64), [1.0]]))


def geometric_mean(ratios: Sequence[float]) -> float:
    """exp(mean(log r)): the mean of ratios that treats 2 and 1/2 alike. NaN when empty or when a ratio is not > 0."""
    values = np.asarray(ratios, dtype=np.float64)
    if not len(values) or not (values > 0).all():
        return float("nan")
    return float(np.exp(np.log(values).mean()))
