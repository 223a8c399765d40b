"""Sums of losses by window, server and metric, from which every figure of a report is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fleetcast.evaluation.levels import at_levels, column_of
from fleetcast.evaluation.metrics import pinball

BANDS: dict[str, tuple[float, float]] = {"80": (0.1, 0.9), "96": (0.02, 0.98)}

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """What all forecasters are scored on: [window, server, metric] each.

    `points` counts the scored steps (a sample came, and every forecaster had a forecast), `weight` is the sum of
    |truth| over them, `scale` the seasonal-naive error of the past (see `metrics.seasonal_scale`), `unscored` counts
    the steps with a sample that are left out.
    """

    points: Floats
    weight: Floats
    scale: Floats
    unscored: Floats


@dataclass(frozen=True)
class Scores:
    """Sums over the scored steps of one forecaster.

    `pinball` is [window, server, metric, level]; `absolute` (error of the median) and each of `covered` (steps within
    a band, by the names of `BANDS` that the levels allow) are [window, server, metric].
    """

    pinball: Floats
    absolute: Floats
    covered: dict[str, Floats]


def score(truth: npt.NDArray[np.float32], quantiles: npt.NDArray[np.float32], levels: Sequence[float]) -> Scores:
    """Sums over the steps of truth [..., step] and quantiles [..., step, level]; NaN truth is not scored."""
    known = ~np.isnan(truth)
    losses = np.where(known[..., None], pinball(truth, quantiles, levels), 0.0).sum(axis=-2)
    median = at_levels(quantiles, levels, (0.5,))[..., 0]
    absolute = np.where(known, np.abs(truth.astype(np.float64) - median), 0.0).sum(axis=-1)
    covered = {}
    for name, (low, high) in BANDS.items():
        first, last = column_of(levels, low), column_of(levels, high)
        if first is not None and last is not None:
            inside = known & (truth >= quantiles[..., first]) & (truth <= quantiles[..., last])
            covered[name] = inside.sum(axis=-1).astype(np.float64)
    return Scores(losses, absolute, covered)


def stack(parts: Sequence[Scores]) -> Scores:
    """Scores of single windows [server, metric] as one [window, server, metric]."""
    return Scores(
        np.stack([part.pinball for part in parts]),
        np.stack([part.absolute for part in parts]),
        {name: np.stack([part.covered[name] for part in parts]) for name in parts[0].covered},
    )
