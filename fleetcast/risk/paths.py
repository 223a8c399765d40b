"""Probability of an incident by sample paths: a Gaussian copula over the steps of a forecast.

The quantiles give each step's distribution, the copula how the steps hang together: standard normal paths with a
correlation of steps, fitted to the forecaster's own past (`step_correlation`), decide at which quantile a server runs
at each step (Sklar 1959; as in Salinas and others, NeurIPS 2019, with time in the place of series). An incident is a
run of three steps at or above the limit. Correlation 1 throughout is the comonotone assumption of `risk.probability`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from fleetcast.risk.incidents import RUN_STEPS
from fleetcast.risk.probability import HORIZONS

CLIP = 0.005  # quantile levels beyond the outermost say little
BLOCK = 64

Doubles = npt.NDArray[np.float64]


def normal_scores(
    truth: npt.NDArray[np.floating], quantiles: npt.NDArray[np.floating], levels: Sequence[float]
) -> Doubles:
    """Standard normal scores of what came, [series, step], of truth [series, step] and quantiles [series, step, level].

    The probability integral transform of the distribution that is linear between the quantiles, half a tail beyond.
    """
    taus = np.concatenate([[levels[0] / 2], levels, [(1 + levels[-1]) / 2]])
    below = (quantiles <= truth[..., None]).sum(axis=-1)
    low = np.take_along_axis(quantiles, np.maximum(below - 1, 0)[..., None], axis=-1)[..., 0]
    high = np.take_along_axis(quantiles, np.minimum(below, len(levels) - 1)[..., None], axis=-1)[..., 0]
    share = np.clip(np.where(high > low, (truth - low) / np.maximum(high - low, 1e-12), 0.5), 0, 1)
    inside = taus[below] + share * (taus[below + 1] - taus[below])
    found = np.where(below == 0, taus[0], np.where(below == len(levels), taus[-1], inside))
    return np.where(np.isnan(truth), np.nan, ndtri(np.clip(found, CLIP, 1 - CLIP)))


def step_correlation(scores: Doubles, autoregressive: bool = False) -> Doubles:
    """Correlation of steps [step, step] of normal scores [series, step]; with `autoregressive` that of an AR(1)."""
    known = np.nan_to_num(scores)
    moments = known.T @ known / np.maximum((~np.isnan(scores)).T.astype(float) @ ~np.isnan(scores), 1)
    spread = np.sqrt(np.maximum(np.diag(moments), 1e-9))
    found = moments / np.outer(spread, spread)
    if autoregressive:
        memory = float(np.clip(np.diag(found, 1).mean(), 0.0, 0.999))
        steps = np.arange(len(found))
        found = memory ** np.abs(steps[:, None] - steps)
    values, vectors = np.linalg.eigh((found + found.T) / 2)
    fixed = (vectors * np.maximum(values, 1e-6)) @ vectors.T
    scale = np.sqrt(np.diag(fixed))
    return np.asarray(fixed / np.outer(scale, scale))


def path_probabilities(exceeding: Doubles, correlation: Doubles, samples: int = 500, seed: int = 0) -> Doubles:
    """P(a run begins within h), [series, 3], of exceedance [series, step] with these correlations of steps."""
    generator = np.random.default_rng(seed)
    steps = exceeding.shape[1]
    drawn = generator.standard_normal((samples, steps)) @ np.linalg.cholesky(correlation).T
    found = np.zeros((len(exceeding), len(HORIZONS)))
    needed = -ndtri(np.clip(exceeding, 1e-12, 1 - 1e-12))
    for first in range(0, len(exceeding), BLOCK):
        rows = slice(first, first + BLOCK)
        above = drawn[None] >= needed[rows, None]
        padded = np.pad(above, ((0, 0), (0, 0), (0, RUN_STEPS - 1)), constant_values=True)
        runs = above & padded[..., 1 : steps + 1] & padded[..., 2 : steps + 2]
        for place, within in enumerate(HORIZONS.values()):
            found[rows, place] = runs[..., : min(within, steps)].any(axis=2).mean(axis=1)
    return found
