"""Raw probability of an incident within a horizon, from the marginal quantiles of each step.

The quantiles of single steps do not give the joint distribution of the path, and an incident is an event of the path.
The assumption made here is that a server keeps its quantile level over the horizon (comonotone steps): when it runs
hot at one step, it runs hot at all. Then the incident {three steps in a row at or above the threshold, the first within
h} has exactly the probability

    max over onsets k <= h of min(p[k], p[k+1], p[k+2]),      p[k] = P(value at step k >= threshold)

Real paths cross, so this is the lower end for many separate chances to breach in a long horizon; the calibration
(`fleetcast.risk.calibration`) is fitted on outcomes and takes up what the assumption leaves. The same assumption joins
metrics: a server's probability is the largest of its metrics'.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fleetcast.risk.incidents import RUN_STEPS

HORIZONS: dict[str, int] = {"30m": 6, "2h": 24, "8h": 96}


def exceedance(
    quantiles: npt.NDArray[np.floating], levels: Sequence[float], limits: npt.NDArray[np.floating]
) -> npt.NDArray[np.float64]:
    """P(value >= limit) of every step, shape [server, metric, step].

    Args:
        quantiles: [server, metric, step, level], non-decreasing along the levels; NaN gives NaN.
        levels: quantile levels, ascending.
        limits: [server, metric]; +inf gives 0.

    Between two quantiles the distribution function is linear. Above the outermost quantile q[n] the tail is exponential
    through the two outermost quantiles: (1 - t[n]) exp(-(x - q[n]) / s), s = (q[n] - q[n-1]) / ln((1 - t[n-1]) /
    (1 - t[n])). Below the lowest quantile no more is claimed than the model says: 1 - t[1]. The result never falls when
    a forecast is shifted up or widened upwards.
    """
    taus = np.asarray(levels, dtype=np.float64)
    limit = limits[:, :, None]
    below = (quantiles < limit[..., None]).sum(axis=-1)
    upper = np.clip(below, 1, len(taus) - 1) if len(taus) > 1 else np.zeros_like(below)
    lower = np.maximum(upper - 1, 0)
    left = np.take_along_axis(quantiles, lower[..., None], axis=-1)[..., 0].astype(np.float64)
    right = np.take_along_axis(quantiles, upper[..., None], axis=-1)[..., 0].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(right > left, (limit - left) / (right - left), 1.0)
        inside = 1.0 - (taus[lower] + share * (taus[upper] - taus[lower]))
    probability = np.where(below == 0, 1.0 - taus[0], inside)
    probability = np.where(below == len(taus), _upper_tail(left, right, limit, taus), probability)
    probability = np.where(np.isinf(limit), 0.0, probability)
    return np.where(np.isnan(quantiles).any(axis=-1), np.nan, probability)


def _upper_tail(
    left: npt.NDArray[np.float64],
    right: npt.NDArray[np.float64],
    limit: npt.NDArray[np.floating],
    taus: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """P(value >= limit) where the limit is above the outermost quantile `right`; `left` is the one before."""
    if len(taus) == 1:
        return np.zeros_like(left)
    scale = (right - left) / np.log((1.0 - taus[-2]) / (1.0 - taus[-1]))
    beyond = np.maximum(limit - right, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(scale > 0, (1.0 - taus[-1]) * np.exp(-beyond / scale), 0.0))


def run_probability(exceeding: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """P(a run of three steps at or above begins at each step), shape as given: the least of the three steps.

    At the end of the forecast the steps that are left decide.
    """
    steps = exceeding.shape[-1]
    padded = np.concatenate([exceeding, np.full((*exceeding.shape[:-1], RUN_STEPS - 1), np.inf)], axis=-1)
    shifted = [padded[..., shift : shift + steps] for shift in range(RUN_STEPS)]
    return np.asarray(np.min(shifted, axis=0))


def incident_probabilities(
    quantiles: npt.NDArray[np.floating],
    levels: Sequence[float],
    limits: npt.NDArray[np.floating],
    horizons: Sequence[int] = tuple(HORIZONS.values()),
) -> npt.NDArray[np.float64]:
    """Raw P(incident within h), shape [server, metric, len(horizons)], non-decreasing in h; NaN without a forecast.

    Horizons are steps; one that is longer than the forecast is cut at the forecast's end.
    """
    running = np.maximum.accumulate(run_probability(exceedance(quantiles, levels, limits)), axis=-1)
    ends = np.minimum(np.asarray(horizons), quantiles.shape[2]) - 1
    return running[..., ends]
